"""One submodular function over the whole pool, tasks unseen: by facility location the coverage baseline of
the DPP paper (Wang et al., arXiv 2402.02318), and what SMART's second stage would do without its first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from smartdpp.functions import FacilityLocation
from smartdpp.functions.state import Function
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.complete import complete
from smartdpp.strategies.pool_order import by_id
from smartdpp.strategies.spread import choose, memory
from smartdpp.types import Pool, Selection


@dataclass(frozen=True)
class Submodular:
    """``function`` makes f from the features (n, d). The selection is f's greedy order, so a smaller budget
    is a prefix of a larger one; where f stops before copies (a log determinant without ridge), copies fill
    the budget, by id.
    """

    function: Callable[[np.ndarray], Function] = FacilityLocation

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float:
        return memory(self.function, n, d, budget)

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        rows = by_id(pool)
        chosen = choose(self.function, pool.X, rows, budget)
        if len(chosen) < budget:
            chosen = complete(chosen, budget, bonus=np.zeros(len(pool)))
        return Selection(index=rows[chosen.index], gain=chosen.gain)
