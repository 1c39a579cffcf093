"""A few examples of every cluster whose weighted sum is the cluster's mean: gradient clustering and matching
pursuit.

TAGCOS (Zhang et al. 2024, arXiv 2407.15235), as in its authors' code: k-means, then in each cluster the same
fraction, by orthogonal matching pursuit towards its centroid with weights that are not negative,

    w = argmin ‖Σ_i w_i x_i - c‖² + λ ‖w‖²,     next i = argmax x_i · (c - Σ_j w_j x_j).

Weights below 0 are taken out, the lowest first, until there is none. A pass ends when the next row is one it
holds (λ leaves some of the centroid along it), or the centroid is reached; the rows it holds are chosen, and
another pass begins with the rest. X is whatever is given: theirs are gradients after warm-up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smartdpp.bounds import Count, Positive
from smartdpp.strategies.allocate import allocate, check_budget, interleave
from smartdpp.strategies.clusters import kmeans
from smartdpp.strategies.pool_order import by_id
from smartdpp.types import Pool, Selection

REACHED = 1e-4  # of the centroid's norm


@dataclass(frozen=True)
class Tagcos:
    """``penalty`` is λ. The selection interleaves the clusters, each in the order of its passes; a pass that
    is cut by the budget may hold other rows, so a smaller budget is no prefix of a larger one. There is no
    common objective, so every gain is 0."""

    clusters: Count = 100
    penalty: Positive = 1.0
    iterations: Count = 100
    restarts: Count = 1

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        found = kmeans(
            pool.X, by_id(pool), self.clusters, rng, iterations=self.iterations, restarts=self.restarts
        )
        largest_first = np.argsort(-found.sizes, kind="stable")
        sizes = found.sizes[largest_first]
        counts = allocate(sizes, sizes, budget)
        chosen = [
            rows[
                pursuit(
                    np.asarray(pool.X[rows], dtype=np.float64), found.centroids[c], int(count), self.penalty
                )
            ]
            for c, count in zip(largest_first, counts, strict=True)
            for rows in [found.rows[c]]
            if count
        ]
        index = np.concatenate(chosen)[interleave(counts[counts > 0])]
        return Selection(index=index, gain=np.zeros(budget))


def pursuit(A: np.ndarray, target: np.ndarray, count: int, penalty: float) -> np.ndarray:
    """int64[count]: rows of A (n, d) towards ``target`` (d), passes over what earlier ones have left."""
    rest, chosen = np.arange(len(A)), np.empty(0, dtype=np.int64)
    while len(chosen) < count:
        at = one_pass(A[rest], target.astype(np.float64), count - len(chosen), penalty)
        chosen = np.concatenate([chosen, rest[at]])
        rest = np.delete(rest, at)
    return chosen


def one_pass(A: np.ndarray, target: np.ndarray, most: int, penalty: float) -> np.ndarray:
    """int64[k], 1 <= k <= most: the rows that the pass holds at its end."""
    held: list[int] = []
    left, enough = target, REACHED * np.linalg.norm(target)
    for _ in range(most):
        next_one, before = int((A @ left).argmax()), list(held)
        if next_one in held or (held and np.linalg.norm(left) < enough):
            break
        held.append(next_one)
        w = _weights(A[held], target, penalty)
        while len(held) > 1 and w.min() < 0:
            del held[int(w.argmin())]
            w = _weights(A[held], target, penalty)
        if held == before:  # it would be tried again for ever
            break
        left = target - w @ A[held]
    return np.array(held, dtype=np.int64)


def _weights(B: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    """float64[k]; a single one is not penalised, as in the authors' code."""
    if len(B) == 1:
        return (B @ target) / max(float(B[0] @ B[0]), np.finfo(float).tiny)
    return np.linalg.solve(B @ B.T + penalty * np.eye(len(B)), B @ target)
