"""Examples chosen towards a target: those that say most about a query, a few examples of what the model is to
be good for.

The submodular mutual information of selection and query is maximised greedily (Iyer et al. 2021; PRISM, arXiv
2103.00128; SIMILAR, arXiv 2107.00717): see smartdpp.functions.mutual_information for the three functions.
What the query is, and that none of it is scored, is smartdpp.query's. Tasks are unseen, and nothing is
sampled: ties go to the first id.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions import FLQMI, FLVMI, GCMI
from smartdpp.greedy import maximize
from smartdpp.runtime import current
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id
from smartdpp.types import Pool, Query, Selection

logger = logging.getLogger(__name__)

NOTHING = 1e-9  # a gain below this share of the first one is none


@dataclass(frozen=True)
class Targeted:
    """``function`` flqmi covers the query, flvmi the part of the pool that concerns it, gcmi takes what is
    nearest to all of it.

    ``eta`` is of flqmi and flvmi, ``redundancy`` of gcmi. Where nothing is left to gain before the budget is
    spent (flvmi with a small eta, flqmi with eta = 0), the function begins anew with the rest of the pool,
    and so covers the query once more; how often is logged. The selection is in greedy order and a smaller
    budget is a prefix of a larger one.
    """

    query: Query
    function: Literal["flqmi", "flvmi", "gcmi"] = "flqmi"
    eta: float = 1.0
    redundancy: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("eta", self.eta), ("redundancy", self.redundancy)):
            if not 0 <= value < np.inf:
                raise InputError(f"strategy.{name} is {value}: choose 0 or a positive number.")

    def check(self) -> list[str]:
        return self.query.check()

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        if pool.query is None:
            raise InputError(
                "strategy=targeted was given a pool without a query: Pool.query holds it, in the space of X."
            )
        rest, passes = by_id(pool), 0
        if current().parts(len(rest)) > 1:
            logger.info(
                "chosen by the process that was started, not by the cluster: every row is compared with the "
                "query and the pool"
            )
        index, gain = np.zeros(0, dtype=np.int64), np.zeros(0)
        while len(index) < budget:
            chosen = maximize(self._function(pool.X[rest], pool.query), budget - len(index))
            ended = np.flatnonzero(chosen.gain < NOTHING * chosen.gain[0])
            some = len(chosen) if self.function == "gcmi" or not len(ended) else max(1, int(ended[0]))
            index, gain = (
                np.concatenate([index, rest[chosen.index[:some]]]),
                np.concatenate([gain, chosen.gain[:some]]),
            )
            rest = np.delete(rest, chosen.index[:some])
            passes += 1
        if passes > 1:
            logger.info(
                "strategy=targeted: nothing was left to gain %d times before the budget was spent", passes - 1
            )
        return Selection(index=index, gain=gain)

    def _function(self, X: np.ndarray, Q: np.ndarray) -> Any:
        match self.function:
            case "flqmi":
                return FLQMI(X, Q, eta=self.eta)
            case "flvmi":
                return FLVMI(X, Q, eta=self.eta)
            case "gcmi":
                return GCMI(X, Q, redundancy=self.redundancy)
