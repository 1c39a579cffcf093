"""Diversity as evenness: Shannon's entropy of how a set spreads over clusters of a pool, or over tasks. In
nats, higher is more diverse.

The entropy over k-means clusters of a reference pool is one of the measures that Yang et al. compare (arXiv
2502.17184). exp(entropy) is the effective number of clusters or tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from smartdpp.diversity.rows import unit
from smartdpp.errors import InputError


def cluster_entropy(
    X: np.ndarray, *, pool: np.ndarray | None = None, clusters: int = 100, seed: int = 0
) -> float:
    """Entropy of X (n, d) over k-means clusters of ``pool`` (m, d; X itself without one), rows on the unit
    sphere.

    As many clusters as the pool has distinct rows where there are fewer. Seeded mini-batch k-means of
    scikit-learn: time O(m d clusters).
    """
    if clusters < 1:
        raise InputError(f"cluster_entropy: clusters is {clusters}, but there must be at least 1.")
    from sklearn.cluster import MiniBatchKMeans

    X = unit(X)
    P = X if pool is None else unit(pool, "pool")
    # float32: without the noise of rounding
    clusters = min(clusters, len({row.tobytes() for row in P.astype(np.float32)}))
    means = MiniBatchKMeans(clusters, random_state=seed, n_init=3, batch_size=2048).fit(P)
    return task_entropy(means.predict(X.astype(P.dtype)))


def task_entropy(X: Any) -> float:
    """Entropy of labels X (n): of how evenly examples spread over tasks."""
    _, counts = np.unique(np.asarray(X), return_counts=True)
    share = counts / counts.sum()
    return float(max(0.0, -(share * np.log(share)).sum()))
