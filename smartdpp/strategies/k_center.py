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
from smartdpp.strategies.pool_order import by_id, started
from smartdpp.types import Pool, Selection


@dataclass(frozen=True)
class KCenter:
    """Euclidean distance, with ``normalize`` of rows divided by their norm. ``first``: a row drawn at random,
    or that of the lowest id. Ties go to the lowest id, and a smaller budget is a prefix of a larger one.

    The gain is the distance to the nearest row chosen before, which never rises; the first one's is 0. What
    earlier rounds have chosen counts as chosen, and then no first row is drawn.
    """

    nested: ClassVar[bool] = True
    honours: ClassVar[tuple[str, ...]] = ("start", "outside")
    first: Literal["random", "id"] = "random"
    normalize: bool = True

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        rows = by_id(pool)
        start = np.flatnonzero(started(pool, rows))
        first = np.zeros(0, dtype=np.int64)
        if not len(start):
            start = first = np.array([int(rng.integers(len(rows))) if self.first == "random" else 0])
        if len(first) == budget:
            return Selection(index=rows[first], gain=np.zeros(1))
        distance = MinDistance(np.asarray(pool.X[rows]), self.normalize)
        chosen = maximize(distance, budget - len(first), start=start, progress=True)
        index, gain = (
            np.concatenate([first, chosen.index]),
            [0.0] * len(first) + np.sqrt(chosen.gain).tolist(),
        )
        return Selection(index=rows[index], gain=np.array(gain))
