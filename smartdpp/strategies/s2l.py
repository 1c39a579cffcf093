"""Small to large: examples that are learnt alike are taken few of, the rare ways of being learnt first.

S2L (Yang et al. 2024, arXiv 2403.07384), as in its authors' code: k-means over the loss of every example at
the checkpoints of a small model, inside each source; the budget is divided over sources, and in a source over
clusters, smallest first, each getting an equal share of what is left or all it has; clusters of one or two
come last. X is whatever is given: their loss trajectories are ``embedding=trajectory``. In gradient space it
fills sparse clusters, as Prismatic Synthesis (arXiv 2505.20161) does by generating.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smartdpp.bounds import Count
from smartdpp.strategies.allocate import check_budget, interleave
from smartdpp.strategies.clusters import kmeans
from smartdpp.strategies.pool_order import by_id, by_task
from smartdpp.types import Pool, Selection

TINY = 2  # clusters of so many rows come last


@dataclass(frozen=True)
class S2L:
    """``clusters`` of each source, which are the pool's tasks (``per_source`` false: the pool is one). Inside
    a cluster rows are drawn at random.

    The selection interleaves the clusters; shares are divided anew for every budget, so a smaller one is no
    prefix of a larger one. There is no objective, so every gain is 0.
    """

    clusters: Count = 100
    iterations: Count = 20
    restarts: Count = 1
    per_source: bool = True

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        sources = by_task(pool)[1] if self.per_source else [by_id(pool)]
        taken = []
        for rows, count in zip(
            sources, smallest_first(np.array(list(map(len, sources))), budget), strict=True
        ):
            if count:
                taken += self._of_source(pool.X, rows, int(count), rng)
        counts = np.array([len(some) for some in taken])
        return Selection(index=np.concatenate(taken)[interleave(counts)], gain=np.zeros(budget))

    def _of_source(
        self, X: np.ndarray, rows: np.ndarray, count: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        if count == len(rows):
            return [rng.permutation(rows)]
        parts = kmeans(X, rows, self.clusters, rng, iterations=self.iterations, restarts=self.restarts).rows
        large = [part for part in parts if len(part) > TINY]
        tiny = [part for part in parts if len(part) <= TINY]
        room = np.array([len(part) for part in large], dtype=np.int64)
        shares = smallest_first(room, min(count, int(room.sum())))
        drawn = [rng.permutation(part)[:share] for part, share in zip(large, shares, strict=True) if share]
        if left := count - int(shares.sum()):
            drawn.append(rng.permutation(np.concatenate(tiny))[:left])
        return drawn


def smallest_first(sizes: np.ndarray, budget: int) -> np.ndarray:
    """int64[m]: of each of these, smallest first, an equal share of what is left, or all it has; together
    ``budget``, which is no more than there is."""
    counts, left = np.zeros(len(sizes), dtype=np.int64), budget
    for rank, i in enumerate(np.argsort(sizes, kind="stable")):
        counts[i] = min(int(sizes[i]), left // (len(sizes) - rank))
        left -= counts[i]
    return counts
