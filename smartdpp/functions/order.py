"""A list of chosen rows, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from smartdpp.errors import InputError


def checked(order: Any, n: int) -> np.ndarray:
    """int64[k]: distinct row numbers in 0..n-1. InputError otherwise."""
    index = np.asarray(order)
    if index.size == 0:
        return np.empty(0, dtype=np.int64)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise InputError(
            f"Chosen rows must be a list of whole numbers, not an array of shape {index.shape} and type "
            f"{index.dtype}."
        )
    index = index.astype(np.int64)
    if index.min() < 0 or index.max() >= n:
        raise InputError(
            f"Chosen rows must lie in 0..{n - 1}; these reach from {index.min()} to {index.max()}."
        )
    if np.unique(index).size < index.size:
        raise InputError(
            f"Chosen rows must be distinct; {index.size - np.unique(index).size} of {index.size} are "
            "repeated."
        )
    return index
