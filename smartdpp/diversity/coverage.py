"""Coverage: how close a set comes to everything in a pool, facility location's value per example (SMART,
arXiv 2403.08370); and of several targets, how many a set is near to."""

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


def targets_covered(X: np.ndarray, *, query: np.ndarray, target: np.ndarray) -> float:
    """The share of targets that are some row's of X (n, d), in (0, 1]: a row's is that of the row of
    ``query`` (m, d) of the largest cosine, the first among equals. target: int64[m]."""
    X, query = unit(X), unit(query, "query")
    nearest = [(X[b] @ query.T).argmax(axis=1) for b in blocks(len(X), len(query))]
    return len(np.unique(target[np.concatenate(nearest)])) / len(np.unique(target))
