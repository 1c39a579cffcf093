"""The inner loops of facility location, compiled: sums of what rows of the kernel add to a running maximum,
and exact compression.

Imported only where used: loading the compiler takes a second. A compressed row is the list of entries that
still exceed the running maximum (less a ``margin`` for float32's error); as the maximum only grows, entries
dropped never count again: nothing is approximated.
"""

from __future__ import annotations

import numba
import numpy as np

# sums may be reordered into vector lanes; infinities and NaN keep their meaning
FAST = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def dense_row(row, best, margin):
    """Σ_i (row[i] - best[i])⁺, and how many entries exceed best - margin."""
    g, c = 0.0, 0
    for i in range(len(row)):
        x = row[i] - best[i]
        g += np.float64(x if x > 0 else np.float32(0))
        c += x > -margin
    return g, c


@numba.njit(cache=True, nogil=True)
def dense(tile, rows, best, margin, gain, count):
    """gain[k] and count[k] of row tile[rows[k]]: see dense_row."""
    for k in range(len(rows)):
        gain[k], count[k] = dense_row(tile[rows[k]], best, margin)


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def square(tile, best_row, best_col, gain_row, gain_col, diagonal):
    """One tile of a symmetric kernel gives to the gains of its rows and, off the ``diagonal``, of its
    columns."""
    for r in range(tile.shape[0]):
        g, b = 0.0, best_row[r]
        for i in range(tile.shape[1]):
            x = tile[r, i] - best_col[i]
            g += np.float64(x if x > 0 else np.float32(0))
        gain_row[r] += g
        if not diagonal:
            for i in range(tile.shape[1]):
                x = tile[r, i] - b
                gain_col[i] += x if x > 0 else np.float32(0)


@numba.njit(cache=True, nogil=True)
def compress(tile, best, margin, rows, begin, entry, value):
    """Writes the entries of tile[rows[k]] above best - margin from begin[k] on; one slot past the last is
    scratch."""
    for k in range(len(rows)):
        r, w = rows[k], begin[k]
        for i in range(tile.shape[1]):
            entry[w] = i
            value[w] = tile[r, i]
            w += tile[r, i] - best[i] > -margin


@numba.njit(cache=True, nogil=True)
def keep(row, best, margin, w, entry, value):
    """Writes the entries of ``row`` above best - margin from w on; returns where they end."""
    for i in range(len(row)):
        if row[i] - best[i] > -margin:
            entry[w] = i
            value[w] = row[i]
            w += 1
    return w


@numba.njit(cache=True, nogil=True)
def compress_sparse(tile, best, margin, rows, begin, entry, value):
    """As compress: quicker where few entries are kept."""
    for k in range(len(rows)):
        keep(tile[rows[k]], best, margin, begin[k], entry, value)


@numba.njit(cache=True, nogil=True)
def compact(rows, begin, size, entry, value):
    """Moves the compressed ``rows`` together, to the front; returns where they end."""
    w = 0
    for j in rows[np.argsort(begin[rows])]:
        for e in range(size[j]):
            entry[w + e] = entry[begin[j] + e]
            value[w + e] = value[begin[j] + e]
        begin[j] = w
        w += size[j]
    return w


@numba.njit(cache=True, nogil=True)
def one(j, begin, size, entry, value, best, margin):
    """Σ (value - best)⁺ over compressed row j, which is compressed further on the way."""
    g, w = 0.0, begin[j]
    for e in range(begin[j], begin[j] + size[j]):
        i, s = entry[e], value[e]
        x = s - best[i]
        entry[w] = i
        value[w] = s
        w += x > -margin
        if x > 0:
            g += x
    size[j] = w - begin[j]
    return g


@numba.njit(cache=True, nogil=True)
def sparse(rows, begin, size, entry, value, best, margin, gain):
    """gain[k] of compressed row rows[k]."""
    for k in range(len(rows)):
        gain[k] = one(rows[k], begin, size, entry, value, best, margin)


@numba.njit(cache=True, nogil=True)
def raise_best(j, begin, size, entry, value, best, holder):
    """best = max(best, compressed row j), and holder[i] = j where j now holds it."""
    for e in range(begin[j], begin[j] + size[j]):
        i = entry[e]
        if value[e] > best[i]:
            best[i], holder[i] = value[e], j


@numba.njit(cache=True, nogil=True)
def raise_best_dense(j, row, best, holder):
    """The same with all of row j."""
    for i in range(len(row)):
        if row[i] > best[i]:
            best[i], holder[i] = row[i], j


@numba.njit(cache=True, nogil=True)
def largest(tile, k):
    """Positions (r, c) and values of each row's entries down to its k-th largest, give or take a 256th of the
    row's range."""
    bins = 256
    m = tile.shape[1]
    row = np.empty(tile.shape[0] * m, np.int32)
    column = np.empty(tile.shape[0] * m, np.int32)
    value = np.empty(tile.shape[0] * m, tile.dtype)
    w = 0
    for r in range(tile.shape[0]):
        low, high = tile[r].min(), tile[r].max()
        width = (high - low) / bins
        count = np.zeros(bins + 1, np.int32)
        if width > 0:
            for c in range(m):
                count[int((tile[r, c] - low) / width)] += 1
        b, above = bins, count[bins]
        while above < k and b > 0:
            b -= 1
            above += count[b]
        floor = low + b * width if width > 0 else low
        for c in range(m):
            row[w], column[w], value[w] = r, c, tile[r, c]
            w += tile[r, c] >= floor
    return row[:w].copy(), column[:w].copy(), value[:w].copy()
