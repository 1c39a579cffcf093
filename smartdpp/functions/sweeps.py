"""The inner loops of facility location, compiled: sums of what rows of the kernel add to a running maximum, and exact compression.

Imported only where used: loading the compiler takes a second. A compressed row is the list of entries that still exceed the running
maximum; as the maximum only grows, entries dropped from it never count again, so nothing is approximated.
"""

from __future__ import annotations

import numba
import numpy as np

FAST = {"reassoc", "contract", "nsz"}  # sums may be reordered into vector lanes; infinities and NaN keep their meaning


@numba.njit(cache=True, nogil=True, parallel=True, fastmath=FAST)
def dense(tile, best, gain, count):
    """gain[r] = Σ_i (tile[r, i] - best[i])⁺ and count[r], how many terms that has."""
    for r in numba.prange(tile.shape[0]):
        g, c = 0.0, 0
        for i in range(tile.shape[1]):
            x = tile[r, i] - best[i]
            g += np.float64(x if x > 0 else np.float32(0))
            c += x > 0
        gain[r] = g
        count[r] = c


@numba.njit(cache=True, nogil=True, parallel=True, fastmath=FAST)
def square(tile, best_row, best_col, gain_row, gain_col, diagonal):
    """One tile of a symmetric kernel gives to the gains of its rows and, off the ``diagonal``, of its columns: gain_col (t, columns) by part."""
    parts = gain_col.shape[0]
    step = (tile.shape[0] + parts - 1) // parts
    for t in numba.prange(parts):
        for r in range(t * step, min(tile.shape[0], (t + 1) * step)):
            g, b = 0.0, best_row[r]
            for i in range(tile.shape[1]):
                x = tile[r, i] - best_col[i]
                g += np.float64(x if x > 0 else np.float32(0))
            gain_row[r] += g
            if not diagonal:
                for i in range(tile.shape[1]):
                    x = tile[r, i] - b
                    gain_col[t, i] += x if x > 0 else np.float32(0)


@numba.njit(cache=True, nogil=True, parallel=True)
def compress(tile, best, rows, begin, entry, value):
    """Writes the entries of tile[rows[k]] above ``best`` from begin[k] on; one slot past the last is scratch."""
    for k in numba.prange(len(rows)):
        r, w = rows[k], begin[k]
        for i in range(tile.shape[1]):
            entry[w] = i
            value[w] = tile[r, i]
            w += tile[r, i] > best[i]


@numba.njit(cache=True, nogil=True)
def one(j, begin, size, entry, value, best):
    """Σ (value - best)⁺ over compressed row j, which is compressed further on the way."""
    g, w = 0.0, begin[j]
    for e in range(begin[j], begin[j] + size[j]):
        i, s = entry[e], value[e]
        x = s - best[i]
        entry[w] = i
        value[w] = s
        if x > 0:
            g += x
            w += 1
    size[j] = w - begin[j]
    return g


@numba.njit(cache=True, nogil=True, parallel=True)
def sparse(rows, begin, size, entry, value, best, gain):
    """gain[k] of compressed row rows[k], many rows."""
    for k in numba.prange(len(rows)):
        gain[k] = one(rows[k], begin, size, entry, value, best)


@numba.njit(cache=True, nogil=True)
def few(rows, begin, size, entry, value, best, gain):
    """gain[k] of compressed row rows[k], too few to share between threads."""
    for k in range(len(rows)):
        gain[k] = one(rows[k], begin, size, entry, value, best)


@numba.njit(cache=True, nogil=True)
def raise_best(j, begin, size, entry, value, best):
    """best = max(best, compressed row j)."""
    for e in range(begin[j], begin[j] + size[j]):
        i = entry[e]
        best[i] = max(best[i], value[e])
