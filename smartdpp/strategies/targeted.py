"""Examples chosen towards a target: those that say most about a query, a few examples of what the model is to
be good for.

flqmi, flvmi and gcmi are the submodular mutual information of selection and query, maximised greedily (Iyer
et al. 2021; PRISM, arXiv 2103.00128; SIMILAR, arXiv 2107.00717): see smartdpp.functions.mutual_information.
The others rank rows by their cosine to the query's: see smartdpp.strategies.query_rules. What the query is,
and that none of it is scored, is smartdpp.query's. The pool's tasks are unseen, and nothing is sampled but
flvmi's ``witnesses``: ties go to the first id.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import cycle
from typing import Any, ClassVar, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions import FLQMI, FLVMI, GCMI
from smartdpp.functions.features import Features
from smartdpp.functions.mutual_information import query_of
from smartdpp.greedy import maximize
from smartdpp.runtime import current
from smartdpp.runtime.memory import selection
from smartdpp.strategies import query_rules
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id, targets
from smartdpp.types import Pool, Query, Selection

logger = logging.getLogger(__name__)

NOTHING = 1e-9  # a gain below this share of the first one is none
SUBMODULAR = ("flqmi", "flvmi", "gcmi")


@dataclass(frozen=True)
class Targeted:
    """``function`` flqmi covers the query, flvmi the part of the pool that concerns it, gcmi takes what is
    nearest to all of it. round_robin, max, mean and less: see smartdpp.strategies.query_rules.

    ``targets``: pooled takes the query's rows as one target, whatever their tasks; balanced lets its tasks
    take turns, each with its own ranking by max or mean, or round robin among its own rows.

    ``eta`` is of flqmi and flvmi, ``redundancy`` of gcmi, ``witnesses`` of flvmi: so many rows, drawn from
    what is left of the pool, stand for it as what is to be covered; None: all of it, which takes n². Where
    nothing is left to gain before the budget is spent (flvmi with a small eta, flqmi with eta = 0), the
    function begins anew with the rest of the pool, and so covers the query once more; how often is logged.
    The selection is in greedy order and a smaller budget is a prefix of a larger one.
    """

    nested: ClassVar[bool] = True
    query: Query
    function: Literal["flqmi", "flvmi", "gcmi", "round_robin", "max", "mean", "less"] = "flqmi"
    eta: float = 1.0
    redundancy: float = 0.0
    targets: Literal["pooled", "balanced"] = "pooled"
    witnesses: int | None = None

    def __post_init__(self) -> None:
        if self.witnesses is not None and (self.witnesses < 1 or self.function != "flvmi"):
            raise InputError(
                f"strategy.witnesses is {self.witnesses} with strategy.function={self.function}: it is a "
                "positive number of rows, or null for all, and of flvmi alone."
            )
        for name, value in (("eta", self.eta), ("redundancy", self.redundancy)):
            if not 0 <= value < np.inf:
                raise InputError(f"strategy.{name} is {value}: choose 0 or a positive number.")
        if self.targets == "balanced" and self.function not in ("round_robin", "max", "mean"):
            instead = "mean" if self.function in ("less", "gcmi") else "round_robin"
            raise InputError(
                f"strategy.targets=balanced does not go with strategy.function={self.function}, which weighs "
                f"all targets at once: choose strategy.function={instead}, or max, mean or round_robin."
            )

    def check(self) -> list[str]:
        return self.query.check()

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float | None:
        if self.function in SUBMODULAR:
            return None
        in_turn = self.function == "round_robin" or self.targets == "balanced"
        kept = 8 * min(query_rules.KEPT, query_rules.ASKED * budget) if in_turn else 4 * query_rules.ASKED * n
        return selection(n, d) + kept + 4 * min(query_rules.TILE, query_rules.ASKED * n)

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        query, groups = targets(pool, "targeted")
        if self.function not in SUBMODULAR:
            return self._by_rule(pool, query, groups, budget)
        rest, passes = by_id(pool), 0
        if current().parts(len(rest)) > 1:
            logger.info(
                "chosen by the process that was started, not by the cluster: every row is compared with the "
                "query and the pool"
            )
        index, gain = np.zeros(0, dtype=np.int64), np.zeros(0)
        while len(index) < budget:
            chosen = maximize(self._function(pool.X[rest], query, rng), budget - len(index))
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

    def _by_rule(self, pool: Pool, query: np.ndarray, tasks: list[np.ndarray], budget: int) -> Selection:
        rows, m = by_id(pool), len(query)
        X = Features(pool.X[rows])
        Q = query_of(query, X)
        how: Literal["max", "mean"] = "max" if self.function == "max" else "mean"
        if self.function == "round_robin":
            order = query_rules.by_turns(tasks if self.targets == "balanced" else [np.arange(m)])
            chosen = query_rules.in_turn(X, Q, list(np.arange(m)[:, None]), "mean", order, budget)
        elif self.targets == "balanced":
            chosen = query_rules.in_turn(X, Q, tasks, how, cycle(range(len(tasks))), budget)
        else:
            groups = tasks if self.function == "less" else [np.arange(m)]
            chosen = query_rules.largest(query_rules.closeness(X, Q, groups, how).max(axis=0), budget)
        return Selection(rows[chosen.index], chosen.gain)

    def _function(self, X: np.ndarray, Q: np.ndarray, rng: np.random.Generator) -> Any:
        match self.function:
            case "flqmi":
                return FLQMI(X, Q, eta=self.eta)
            case "flvmi":
                few = self.witnesses is not None and self.witnesses < len(X)
                drawn = np.sort(rng.permutation(len(X))[: self.witnesses]) if few else None
                return FLVMI(X, Q, eta=self.eta, witnesses=drawn)
            case "gcmi":
                return GCMI(X, Q, redundancy=self.redundancy)
