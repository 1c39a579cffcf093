"""Rows on the unit sphere, checked once, and the blocks that keep any n x n table out of memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from smartdpp.errors import InputError

WHOLE_BYTES = 2**30  # the largest float64 copy that is made; a larger one is float32
BLOCK_BYTES = 2**26  # of one block of pairwise values


def checked(X: np.ndarray, name: str = "X") -> np.ndarray:
    """X itself: (n, d), numeric, finite and not empty. InputError otherwise."""
    X = np.asarray(X)
    if X.ndim != 2 or 0 in X.shape:
        raise InputError(f"{name} must have shape (n, d) with n and d at least 1; this array has shape {X.shape}.")
    if X.dtype.kind not in "fiu":
        raise InputError(f"{name} must hold real numbers, not {X.dtype}.")
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if bad.size:
        raise InputError(f"{name} must be finite: {bad.size} of {len(X)} rows are not, the first is row {bad[0]}.")
    return X


def unit(X: np.ndarray, name: str = "X") -> np.ndarray:
    """float64[n, d] (float32 above a gigabyte): rows divided by their norm. InputError if a row is zero or X cannot be used."""
    X = checked(X, name)
    X = X.astype(np.float64 if 8 * X.size <= WHOLE_BYTES else np.float32)  # a copy, and before the norm: X may be float16
    norm = np.linalg.norm(X, axis=1, keepdims=True)
    zero = np.flatnonzero(norm[:, 0] == 0)
    if zero.size:
        raise InputError(f"{name}: cosines need rows that are not zero; {zero.size} of {len(X)} are, the first is row {zero[0]}.")
    X /= norm
    return X


def blocks(n: int, width: int) -> Iterator[slice]:
    """Cuts n rows into blocks whose ``width`` float64 values a row take at most BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // (8 * max(1, width)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
