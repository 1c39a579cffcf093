"""k-center: always the row that is farthest from all chosen ones (Gonzalez 1985; as a core-set Sener and
Savarese 2018, arXiv 1708.00489).

At most twice the smallest radius with which so many rows can cover the pool. It takes outliers first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from smartdpp.functions.min_distance import MinDistance
from smartdpp.greedy import maximize
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id
from smartdpp.types import Pool, Selection


@dataclass(frozen=True)
class KCenter:
    """Euclidean distance, with ``normalize`` of rows divided by their norm. ``first``: a row drawn at random,
    or that of the lowest id. Ties go to the lowest id, and a smaller budget is a prefix of a larger one.

    The gain is the distance to the nearest row chosen before, which never rises; the first one's is 0.
    """

    nested: ClassVar[bool] = True
    first: Literal["random", "id"] = "random"
    normalize: bool = True

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        rows = by_id(pool)
        start = np.array([int(rng.integers(len(rows))) if self.first == "random" else 0])
        if budget == 1:
            return Selection(index=rows[start], gain=np.zeros(1))
        chosen = maximize(
            MinDistance(np.asarray(pool.X[rows]), self.normalize), budget - 1, start=start, progress=True
        )
        return Selection(
            index=rows[np.concatenate([start, chosen.index])],
            gain=np.concatenate([[0.0], np.sqrt(chosen.gain)]),
        )
