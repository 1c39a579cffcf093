"""Coverage of the pool and quality, added: QDIT (Bukharin et al., arXiv 2311.14736).

Greedy on (1 - α) [f(A + i) - f(A)] + α q_i, f a submodular function, theirs facility location over cosines,
q the quality as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.bounds import Fraction
from smartdpp.functions import FacilityLocation
from smartdpp.functions.state import Function
from smartdpp.functions.with_bonus import WithBonus
from smartdpp.greedy import maximize
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.complete import complete_pool
from smartdpp.strategies.pool_order import by_id
from smartdpp.strategies.scored import quality
from smartdpp.strategies.spread import memory
from smartdpp.types import Pool, Selection


@dataclass(frozen=True)
class Qdit:
    """``alpha`` in [0, 1] weighs quality: 0 is the function alone, 1 quality alone. A gain of facility
    location falls from a good part of n to about 1, so what an alpha means depends on the scale of q.

    The selection is in greedy order and a smaller budget is a prefix of a larger one; ties go to the first
    id.
    """

    nested: ClassVar[bool] = True
    function: Callable[[np.ndarray], Function] = FacilityLocation
    alpha: Fraction = 0.5

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float:
        return memory(self.function, n, d, budget)

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        score, rows = quality(pool, "qdit", "only coverage decides"), by_id(pool)
        bonus = self.alpha * score[rows]
        if self.alpha == 1:
            order = np.argsort(-bonus, kind="stable")[:budget]
            return Selection(index=rows[order], gain=bonus[order])
        covers = self.function(np.asarray(pool.X[rows]))
        found = maximize(WithBonus(covers, bonus, 1 - self.alpha), budget, progress=True)
        chosen = complete_pool(found, budget, bonus, 1 - self.alpha)
        return Selection(index=rows[chosen.index], gain=chosen.gain)
