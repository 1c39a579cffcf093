"""The same function on some rows of its features, numbered anew: a share of a pool, or candidates that were gathered from many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from smartdpp.functions.facility_location import FacilityLocation
from smartdpp.functions.graph_cut import GraphCut
from smartdpp.functions.lazy import LazyRows
from smartdpp.functions.logdet import LogDet

F = TypeVar("F", bound=GraphCut | LogDet | FacilityLocation)


def subset(function: F, index: np.ndarray | slice) -> F:
    """Rows ``index`` (int[k], or a slice, which copies nothing) alone: a graph cut or a facility location then sees only these.
    Of LazyRows they are not read yet."""
    X = function.X if isinstance(function.X, LazyRows) else function.features.tensor
    X = X[index] if isinstance(index, slice) else X[np.asarray(index)]
    if isinstance(function, LogDet) and function.quality is not None:
        return replace(function, X=X, quality=np.asarray(function.quality)[index])
    return replace(function, X=X)


def union(functions: Sequence[F]) -> F:
    """The rows of all of them, in this order. They have the same parameters."""
    import torch

    X, first = torch.cat([f.features.tensor for f in functions]), functions[0]
    if isinstance(first, LogDet) and first.quality is not None:
        return replace(first, X=X, quality=np.concatenate([np.asarray(f.quality) for f in functions]))  # type: ignore[union-attr]
    return replace(first, X=X)
