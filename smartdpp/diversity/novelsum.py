"""NovelSum: distances to all others, the near ones weighing most, larger where data are dense (arXiv
2502.17184, and its code).

With distances δ_ij = 1 - x_i·x_j on unit rows, ρ_i = (mean squared Euclidean distance of i to its K nearest +
1e-9)^-β and the distances of row i, its own 0 among them, sorted ascending,

    v_i = ρ_i Σ_r r^-α δ_i(r) / Σ_r r^-α,      NovelSum = mean of v_i.

Higher is more diverse. The density's neighbours are sought in a reference pool, as the authors do; without
one, in X itself.
"""

from __future__ import annotations

import numpy as np

from smartdpp.diversity.rows import blocks, copies, unit
from smartdpp.errors import InputError


def novelsum(
    X: np.ndarray, *, pool: np.ndarray | None = None, alpha: float = 1.0, beta: float = 0.5, k: int = 10
) -> float:
    """NovelSum of X (n, d); ``pool`` (m, d) are the rows among which densities are estimated, copies counted
    once.

    Time O(n² (d + log n) + n m d), memory O((n + m) d). Raises InputError for parameters out of range.
    """
    if not (alpha >= 0 and beta >= 0 and k >= 1):
        raise InputError(
            f"novelsum: alpha is {alpha}, beta {beta}, k {k}; the powers must be at least 0 and k at least 1."
        )
    X = unit(X)
    rho = density(X, X if pool is None else unit(pool, "pool"), beta, k)
    n = len(X)
    weight = np.arange(1, n + 1, dtype=np.float64) ** -alpha
    weight /= weight.sum()
    total = 0.0
    for b in blocks(n, n):
        distance = 1 - X[b] @ X.T
        distance[np.arange(len(distance)), np.arange(b.start, b.stop)] = 0  # rounding aside, it is
        distance.sort(axis=1)
        total += float(rho[b] @ (distance @ weight))
    return total / n


def density(X: np.ndarray, pool: np.ndarray, beta: float, k: int) -> np.ndarray:
    """float64[n]: ρ of unit rows X among the distinct unit rows ``pool``. The nearest, the row itself as a
    rule, does not count."""
    pool = pool[~copies(pool, normalised=True)]
    k = min(k, len(pool) - 1)
    if k == 0:
        return np.full(len(X), 1e-9**-beta)
    rho = np.empty(len(X))
    for b in blocks(len(X), len(pool)):
        nearest = np.sort(
            np.partition(X[b] @ pool.T, len(pool) - k - 1, axis=1)[:, len(pool) - k - 1 :], axis=1
        )[:, :-1]
        rho[b] = np.maximum((2 - 2 * nearest).mean(axis=1), 0) + 1e-9  # ‖x - y‖² = 2 - 2 x·y
    return rho**-beta
