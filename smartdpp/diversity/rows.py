"""Rows on the unit sphere, checked once; which of them are copies; and the blocks that keep any n x n table
out of memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from smartdpp.errors import InputError

WHOLE_BYTES = 2**30  # the largest float64 copy that is made; a larger one is float32
BLOCK_BYTES = 2**26  # of one block of pairwise values
ROUNDING = 1e-6  # two unit vectors that are no further apart are one, as far as float32 can tell


def checked(X: np.ndarray, name: str = "X") -> np.ndarray:
    """X itself: (n, d), numeric, finite and not empty. InputError otherwise."""
    X = np.asarray(X)
    if X.ndim != 2 or 0 in X.shape:
        raise InputError(
            f"{name} must have shape (n, d) with n and d at least 1; this array has shape {X.shape}."
        )
    if X.dtype.kind not in "fiu":
        raise InputError(f"{name} must hold real numbers, not {X.dtype}.")
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if bad.size:
        raise InputError(
            f"{name} must be finite: {bad.size} of {len(X)} rows are not, the first is row {bad[0]}."
        )
    return X


def unit(X: np.ndarray, name: str = "X") -> np.ndarray:
    """float64[n, d] (float32 above a gigabyte): rows divided by their norm. InputError if a row is zero or X
    cannot be used."""
    X = checked(X, name)
    # a copy, and before the norm: X may be float16
    X = X.astype(np.float64 if 8 * X.size <= WHOLE_BYTES else np.float32)
    norm = np.linalg.norm(X, axis=1, keepdims=True)
    zero = np.flatnonzero(norm[:, 0] == 0)
    if zero.size:
        raise InputError(
            f"{name}: cosines need rows that are not zero; {zero.size} of {len(X)} are, the first is row "
            f"{zero[0]}."
        )
    X /= norm
    return X


def copies(X: np.ndarray, normalised: bool) -> np.ndarray:
    """bool[n]: which rows of X (n, d) repeat another row that is not marked, so that as many are left as
    there are distinct ones.

    normalised: whether rows are compared by their direction, as kernels on L2-normalised rows see them: a row
    and its double are copies, to within rounding. Otherwise they are compared exactly. InputError as ``unit``
    where a direction is asked for and there is none.
    """
    if not normalised:
        X = np.asarray(X)
        repeated = np.ones(len(X), dtype=bool)
        repeated[np.unique(X, axis=0, return_index=True)[1]] = False
        return repeated
    X = unit(X)
    # copies lie within ROUNDING of each other on any line: only rows that do are compared in all dimensions
    line = np.asarray(np.random.default_rng(0).normal(size=X.shape[1]), dtype=X.dtype)
    along, reach = X @ line, 2 * ROUNDING * np.linalg.norm(line)
    order = np.argsort(along, kind="stable")
    along, repeated = along[order], np.zeros(len(X), dtype=bool)
    lag, at = 1, np.arange(1, len(X))
    while len(at := at[along[at] - along[at - lag] <= reach]):
        for b in blocks(len(at), X.shape[1]):
            piece = at[b]
            apart = np.linalg.norm(X[order[piece]] - X[order[piece - lag]], axis=1)
            repeated[order[piece[apart <= ROUNDING]]] = True
        lag += 1
        at = at[~repeated[order[at]] & (at >= lag)]
    return repeated


def blocks(n: int, width: int) -> Iterator[slice]:
    """Cuts n rows into blocks whose ``width`` float64 values a row take at most BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // (8 * max(1, width)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
