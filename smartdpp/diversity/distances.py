"""Diversity as distance: between all pairs, to the nearest neighbours, and from the middle. Higher is more
diverse.

Mean pairwise distance and k-nearest-neighbour distance are in cosine distance, 1 - x·y on unit rows, as used
for instruction data by Yang et al. (arXiv 2502.17184, which compares them) and others; radius is Lai et al.'s
(arXiv 2003.08529).
"""

from __future__ import annotations

import numpy as np

from smartdpp.diversity.rows import blocks, checked, unit
from smartdpp.errors import InputError


def mean_pairwise_distance(X: np.ndarray) -> float:
    """Mean of 1 - x_i·x_j over all pairs i != j of X (n, d), without looking at a pair: Σ_ij x_i·x_j = ‖Σ_i
    x_i‖². 0 for n = 1."""
    X = unit(X)
    n = len(X)
    return float(1 - (np.square(X.sum(axis=0, dtype=np.float64)).sum() - n) / (n * (n - 1))) if n > 1 else 0.0


def knn_distance(X: np.ndarray, *, k: int = 10) -> float:
    """Mean over X (n, d) of the mean cosine distance to the k nearest other rows (all n - 1 where there are
    fewer). 0 for n = 1.

    Time O(n² d), memory O(n d). Raises InputError for k below 1.
    """
    if k < 1:
        raise InputError(f"knn_distance: k is {k}, but a row needs at least 1 neighbour.")
    X = unit(X)
    n, k = len(X), min(k, len(X) - 1)
    if n == 1:
        return 0.0
    total = 0.0
    for b in blocks(n, n):
        similarity = X[b] @ X.T
        similarity[np.arange(len(similarity)), np.arange(b.start, b.stop)] = -np.inf  # not to itself
        total += float(
            (1 - np.partition(similarity, n - k, axis=1)[:, n - k :]).mean(axis=1, dtype=np.float64).sum()
        )
    return max(total / n, 0.0)


def radius(X: np.ndarray) -> float:
    """Geometric mean of the standard deviation of each column of X (n, d), rows on the unit sphere; 0 if a
    column is constant.

    It depends on the axes: a rotation of all rows changes it, which no other measure here allows.
    """
    sd = unit(checked(X)).std(axis=0, dtype=np.float64)
    return float(np.exp(np.log(sd).mean())) if sd.min() > 0 else 0.0
