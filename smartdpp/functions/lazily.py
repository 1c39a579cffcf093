"""Lazy greedy on a kernel that is at hand, compiled: facility location's picks one after another, as long as
they are certain (Minoux 1978).

A gain computed earlier bounds the gain now. The row of the highest bound is looked at, then the next, until
the best gain seen beats all bounds; what rounding may have decided is left to the caller. A row in which
little exceeds the running maximum is kept compressed from then on: see smartdpp.functions.loops.
"""

from __future__ import annotations

import numba
import numpy as np

from smartdpp.functions.loops import dense_row, keep, one, raise_best, raise_best_dense


@numba.njit(cache=True, nogil=True)
def highest(limit, a, b):
    """Where the largest of limit[a:b] is, the first of equals."""
    at = a
    for i in range(a + 1, b):
        if limit[i] > limit[at]:
            at = i
    return at


@numba.njit(cache=True, nogil=True)
def lazily(tile, best, holder, margin, begin, size, entry, value, used, few, bound, free, error, index, gain):
    """Picks into ``index`` and ``gain`` until they are full or the next pick is not certain. Returns how many
    there are, and where the kept rows end.

    ``tile`` [n, n] is the kernel. best, holder, begin, size, entry, value and used are Coverage's and go on
    with it, as does ``bound``, float64[n], which bounds all gains up to their errors: at most error[0], and
    error[1] for each entry of a sum. Rows of at most ``few`` entries are kept, as long as there is room.
    """
    n = len(bound)
    width = int(np.sqrt(n)) + 1
    blocks = (n + width - 1) // width  # of ``width`` rows each: the highest limit is found among theirs
    limit = np.full(n, -np.inf)  # what a gain may be; -inf: chosen, or just looked at
    for j in range(n):
        if free[j]:
            limit[j] = bound[j] + error[0] + error[1] * (size[j] if size[j] >= 0 else n)
    leader, lead = np.empty(blocks, np.int64), np.empty(blocks)
    for b in range(blocks):
        leader[b] = highest(limit, b * width, min(n, (b + 1) * width))
        lead[b] = limit[leader[b]]
    looked, doubt = np.empty(n, np.int64), np.empty(n)
    for k in range(len(index)):
        seen, at, sure = 0, -1, -np.inf
        while True:
            b = highest(lead, 0, blocks)
            if lead[b] == -np.inf or lead[b] < sure:
                break
            j = leader[b]
            if size[j] >= 0:
                bound[j] = one(j, begin, size, entry, value, best, margin)
                c = np.int64(size[j])
            else:
                bound[j], c = dense_row(tile[j], best, margin)
                if c <= few and used + c < len(entry):
                    begin[j] = used
                    used = keep(tile[j], best, margin, used, entry, value)
                    size[j] = used - begin[j]
            looked[seen], doubt[seen] = j, error[0] + error[1] * c
            if bound[j] - doubt[seen] > sure:
                at, sure = seen, bound[j] - doubt[seen]
            seen += 1
            limit[j] = -np.inf
            leader[b] = highest(limit, b * width, min(n, (b + 1) * width))
            lead[b] = limit[leader[b]]
        for s in range(seen):
            if s != at and bound[looked[s]] + doubt[s] >= sure:
                at = -1
                break
        if at < 0:
            return k, used
        pick = looked[at]
        index[k], gain[k] = pick, bound[pick]
        if size[pick] >= 0:
            raise_best(pick, begin, size, entry, value, best, holder)
        else:
            raise_best_dense(pick, tile[pick], best, holder)
        for s in range(seen):
            if s != at:
                j = looked[s]
                limit[j], b = bound[j] + doubt[s], j // width
                if limit[j] > lead[b] or (limit[j] == lead[b] and j < leader[b]):
                    leader[b], lead[b] = j, limit[j]
    return len(index), used
