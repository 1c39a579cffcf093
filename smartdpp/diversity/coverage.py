"""Coverage: how close a set comes to everything in a pool, facility location's value per example (SMART,
arXiv 2403.08370)."""

from __future__ import annotations

import numpy as np

from smartdpp.diversity.rows import blocks, unit


def coverage(X: np.ndarray, *, pool: np.ndarray) -> float:
    """Mean over ``pool`` (m, d) of max(0, largest cosine to a row of X (n, d)), in [0, 1]; higher is more
    diverse, relative to that pool.

    Time O(n m d), memory O((n + m) d).
    """
    X, pool = unit(X), unit(pool, "pool")
    best = np.full(len(pool), 0.0)
    for b in blocks(len(pool), len(X)):
        best[b] = np.maximum((pool[b] @ X.T).max(axis=1), 0)
    return float(best.mean())
