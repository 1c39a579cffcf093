"""Always the row that is most novel beside the chosen ones, distances being longer where the pool is dense:
NovelSelect (Yang et al. 2025, arXiv 2502.17184), as in its authors' code.

v(i) = Σ_r w_(r) / r over w_ij = (ρ_i + ρ_j) (1 - cos_ij) of the chosen j, ascending: the nearest counts most.
ρ = (mean squared distance of the 10 nearest other rows)^(-1/2).

One more chosen row j raises v(i) by at most (ρ_i + ρ_j) · 2 / t, t how many are chosen then (what comes in at
rank r pushes the later ones, none smaller, back by one). So a value computed earlier bounds today's, and few
rows are computed anew for a pick.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.bounds import Count
from smartdpp.functions.features import Features
from smartdpp.functions.neighbors import columns
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)
EXACT = 20_000  # rows up to which all are compared for their density
LEAST = 1e-9  # added to mean squared distances
BLOCK = 1024


@dataclass(frozen=True)
class NovelSelect:
    """The first row is drawn at random. Densities of more than 20,000 rows come from ``neighbors`` found
    among the nearest clusters, about the nearest. A smaller budget is a prefix of a larger one; the gain is v
    over the number of rows chosen before, 0 for the first."""

    nested: ClassVar[bool] = True
    neighbors: Count = 10

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        rows = by_id(pool)
        features = Features(np.asarray(pool.X[rows]))
        V = features.whole(_single()).numpy()
        others = len(rows) - 1
        if self.neighbors > others:
            logger.info("strategy.neighbors is %d: all %d other rows of the pool", self.neighbors, others)
        rho = density(features, V, min(self.neighbors, others))
        index, gain = novel(V, rho, int(rng.integers(len(rows))), budget)
        return Selection(index=rows[index], gain=gain)


def novel(V: np.ndarray, rho: np.ndarray, first: int, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64[k], float64[k]): greedy from ``first`` over normalised rows V, float32 (n, d), ρ float64[n]."""
    n, index, gain = len(V), [first], [0.0]
    bound = np.full(n, np.inf)  # of v after the picks so far
    bound[first] = -np.inf
    for t in range(1, budget):
        stale, best, at = np.ones(n, dtype=bool), -np.inf, -1
        while True:
            doubtful = np.flatnonzero(stale & (bound >= best) & (bound > -np.inf))
            if not len(doubtful):
                break
            if len(doubtful) > BLOCK:
                doubtful = np.sort(doubtful[np.argpartition(-bound[doubtful], BLOCK)[:BLOCK]])
            bound[doubtful] = novelty(V, rho, doubtful, np.array(index))
            stale[doubtful] = False
            top = int(doubtful[bound[doubtful].argmax()])
            if bound[top] > best or (bound[top] == best and top < at):
                best, at = float(bound[top]), top
        index.append(at)
        gain.append(best / t)
        bound += 2 * (rho + rho[at]) / (t + 1)
        bound[at] = -np.inf
    return np.array(index, dtype=np.int64), np.array(gain)


def novelty(V: np.ndarray, rho: np.ndarray, rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """float64[k]: v of each of ``rows``."""
    w = (1 - V[rows] @ V[chosen].T).astype(np.float32)
    w *= (rho[rows][:, None] + rho[chosen]).astype(np.float32)
    w.sort(axis=1)
    return w @ (1 / np.arange(1, len(chosen) + 1))


def density(features: Features, V: np.ndarray, neighbors: int) -> np.ndarray:
    """float64[n]: ρ of normalised rows."""
    n = len(V)
    if not neighbors:
        return np.ones(n)
    if n <= EXACT:
        mean = np.concatenate([_nearest(V, a, neighbors) for a in range(0, n, BLOCK)])
    else:
        *_, entry, value = columns(features, neighbors + 1)
        order = np.lexsort((-value, entry))
        count = np.bincount(entry, minlength=n)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        others = order[(rank > 0) & (rank <= neighbors)]  # of rank 0 is the row itself
        found = np.bincount(entry[others], minlength=n)
        mean = np.bincount(entry[others], 2 - 2 * value[others].astype(np.float64), n) / np.maximum(found, 1)
    return (np.maximum(mean, 0) + LEAST) ** -0.5


def _nearest(V: np.ndarray, a: int, neighbors: int) -> np.ndarray:
    s = V[a : a + BLOCK] @ V.T
    s[np.arange(len(s)), np.arange(a, a + len(s))] = -np.inf
    return (2 - 2 * np.partition(s, -neighbors, axis=1)[:, -neighbors:].astype(np.float64)).mean(axis=1)


def _single() -> object:
    import torch

    return torch.float32
