"""k-means over the features, and its clusters as lists of rows: what methods share that take their pool apart
first."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np

from smartdpp.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clusters:
    rows: list[np.ndarray]  # int64 each, of one cluster, in the order given; no cluster is empty
    centroids: np.ndarray  # float32[clusters, d]

    @property
    def sizes(self) -> np.ndarray:
        return np.array([len(rows) for rows in self.rows])


def kmeans(
    X: np.ndarray,
    rows: np.ndarray,
    clusters: int,
    rng: np.random.Generator,
    *,
    iterations: int,
    restarts: int = 1,
) -> Clusters:
    """Lloyd's algorithm on ``rows`` (int64[m]) of X (n, d) from random rows, at most ``iterations`` rounds,
    the best of ``restarts``. Fewer clusters where there are fewer different rows, which is logged.

    In one thread: other numbers of threads sum in other orders.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    V = np.asarray(X[rows], dtype=np.float32)
    if bad := int((~np.isfinite(V).all(axis=1)).sum()):
        raise InputError(f"The features of {bad} examples are not finite: they cannot be clustered.")
    count, seed = min(clusters, len(rows)), int(rng.integers(2**31))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters, told below
        found = KMeans(count, init="random", n_init=restarts, max_iter=iterations, random_state=seed).fit(V)
    there, label = np.unique(found.labels_, return_inverse=True)
    if len(there) < clusters:
        logger.info("%d clusters of %d examples, where %d were asked for", len(there), len(rows), clusters)
    order = np.argsort(label, kind="stable")
    parts = np.split(rows[order], np.cumsum(np.bincount(label))[:-1])
    return Clusters(parts, found.cluster_centers_[there])
