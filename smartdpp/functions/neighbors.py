"""Facility location's kernel with every row cut down to its nearest neighbours.

Neighbours are looked for as an inverted file index does: k-means splits the pool into lists, and a row's
candidates are the rows of the lists nearest to its own. One matrix product serves a whole list. For each row
the entries above its k-th largest are kept, found by a histogram, so a row keeps k neighbours or slightly
more; itself is always one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from smartdpp.functions.features import Features

ROUNDS = 5  # of k-means
SAMPLE = 64  # rows per list that k-means sees
PROBE = 0.125  # share of the lists a row is compared with


def columns(features: Features, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The sparse kernel by columns: begin int64[n], size int32[n], entry int32[m], value float32[m].

    Column j holds the rows i that have j among their k nearest, and s_ij.
    """
    import torch

    from smartdpp.functions import loops

    n = features.shape[0]
    V = features.whole(torch.float32)
    lists, centroid = split(V, int(np.clip(np.sqrt(n), 1, 1024)))
    probe = max(1, min(len(lists), int(np.ceil(PROBE * len(lists))) + 8))
    nearest = torch.topk(centroid @ centroid.T, probe, dim=1).indices.numpy()
    row, column, value = [], [], []
    for members, near in zip(lists, nearest, strict=True):
        candidates = np.concatenate([lists[c] for c in near])
        y = V[candidates].T
        for a in range(0, len(members), 512):
            some = members[a : a + 512]
            s = (V[some] @ y).numpy()
            r, c, v = loops.largest(s, min(k, len(candidates)))
            row.append(some[r].astype(np.int32))
            column.append(candidates[c].astype(np.int32))
            value.append(v)
    sources = np.concatenate(column)
    order = np.argsort(sources, kind="stable")
    size = np.bincount(sources, minlength=n).astype(np.int32)
    return (
        np.cumsum(size, dtype=np.int64) - size,
        size,
        np.concatenate(row)[order],
        np.concatenate(value)[order],
    )


def split(V: torch.Tensor, count: int) -> tuple[list[np.ndarray], torch.Tensor]:
    """Spherical k-means: rows of each list (ascending; empty lists are left out) and the lists' centroids
    (lists, d)."""
    import torch

    n = len(V)
    draw = torch.from_numpy(np.random.default_rng(0).permutation(n)[: count * SAMPLE].copy())
    x, centroid = V[draw], V[draw[:count]].clone()
    for _ in range(ROUNDS):
        label = torch.cat([(part @ centroid.T).argmax(1) for part in x.split(4096)])
        centroid = torch.zeros_like(centroid).index_add_(0, label, x)
        centroid = centroid / torch.linalg.vector_norm(centroid, dim=1, keepdim=True).clamp_(min=1e-12)
    label = torch.cat([(part @ centroid.T).argmax(1) for part in V.split(4096)]).numpy()
    order, size = np.argsort(label, kind="stable"), np.bincount(label, minlength=count)
    lists = np.split(order, np.cumsum(size)[:-1])
    return [some for some in lists if some.size], centroid[torch.from_numpy(np.flatnonzero(size))]
