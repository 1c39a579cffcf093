"""Unbalanced optimal transport from the query to the pool.

Every example of the query has the same mass to send, and rows may take what they are near to take: of the
plans T (m, n) the one of least

    Σ T_qi C_qi + reg KL(T | a bᵀ) + reg_pool KL(Tᵀ1 | b)    with T1 = a, C = (1 - cosine) / 2,

a and b uniform. A row's score is the mass it receives. With a small ``reg_pool`` that is a soft nearest
neighbour, in which every example has the same say, whatever else it is near to. Found by scaling
(Chizat et al. 2018, arXiv 1607.05816) with the package POT, the extra ``transport``; as a rule for choosing
training data it is that of the comparison in arXiv 2602.14696.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.features import Features
from smartdpp.functions.mutual_information import query_of
from smartdpp.runtime.memory import selection
from smartdpp.strategies import query_rules
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id, targets
from smartdpp.types import Pool, Query, Selection


@dataclass(frozen=True)
class Uot:
    """The rows that receive most, the first id among equals; a smaller budget is a prefix of a larger one.

    ``reg`` > 0 spreads an example's mass, ``reg_pool`` > 0 draws what a row receives to the same for all. The
    gain is the mass, of 1 in all. m · n numbers in float64 are in memory four times.
    """

    query: Query
    reg: float = 0.01
    reg_pool: float = 1e-4
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in (("reg", self.reg), ("reg_pool", self.reg_pool)):
            if not 0 < value < np.inf:
                raise InputError(f"strategy.{name} is {value}: choose a positive number.")

    def check(self) -> list[str]:
        lacking = (
            "strategy=uot needs the package POT: pip install -c constraints.txt -e '.[transport]', or choose "
            "strategy=tsds."
        )
        return [*self.query.check(), *([] if find_spec("ot") else [lacking])]

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float | None:
        return selection(n, d) + 36 * query_rules.ASKED * n

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        if problems := self.check():
            raise InputError("\n".join(problems))
        query, _ = targets(pool, "uot")
        rows = by_id(pool)
        X = Features(pool.X[rows])
        one = list(np.arange(len(query))[:, None])
        mass = self._received((1 - query_rules.closeness(X, query_of(query, X), one, "mean")) / 2)
        chosen = query_rules.largest(mass.astype(np.float32), budget)
        return Selection(rows[chosen.index], chosen.gain)

    def _received(self, cost: np.ndarray) -> np.ndarray:
        """float64[n] of cost float32[m, n]."""
        import ot

        m, n = cost.shape
        a, b = np.full(m, 1 / m), np.full(n, 1 / n)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Numerical errors")
            warnings.filterwarnings("error", category=RuntimeWarning)
            try:
                plan = ot.unbalanced.sinkhorn_unbalanced(
                    a, b, cost.astype(np.float64), self.reg, (np.inf, self.reg_pool)
                )
            except (UserWarning, RuntimeWarning):
                raise InputError(
                    f"strategy.reg is {self.reg}, too small for these distances in float64: choose a larger "
                    "one."
                ) from None
        return plan.sum(axis=0)
