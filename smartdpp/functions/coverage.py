"""Facility location's running maximum, and gains against it, without an n × n matrix.

A gain is Σ_i (s_ij - best_i)⁺. The rows s_j are products of the features, made in tiles when they are needed. After a few picks few
entries of a row exceed ``best``; then the row is kept compressed to these, for good, and its gain costs next to nothing. Until then it
is made anew. Where all gains are due at once and rows are still too full to keep, the symmetry of the kernel halves the work.

Small pools are done in float64. Large ones are done in float32, and gains too close to tell apart are resolved in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from smartdpp.functions.facility_location import FacilityLocation

TILE = 1024  # rows and columns of a symmetric tile: stays in cache
BLOCK_BYTES = 2**24  # rows of the kernel made at a time
KEEP_BYTES = 5 * 2**28  # compressed rows
DOUBLE = 2048  # pools up to this size are done in float64
RESOLUTION = 2.5e-7  # of a float32 gain, times √n: six times the errors seen between float32 and float64


class Coverage:
    rises = False
    chunk = 32
    width = 32

    def __init__(self, function: FacilityLocation, double: int = DOUBLE) -> None:
        import torch

        from smartdpp.functions import sweeps

        self.sweeps = sweeps
        sweeps.numba.set_num_threads(min(torch.get_num_threads(), sweeps.numba.config.NUMBA_NUM_THREADS))
        self.features = function.features
        self.n = n = len(function)
        self.active = max(1024, n // 16)
        self.float = np.float64 if n <= double else np.float32
        radius = float(self.features.square.max())
        self.tolerance = radius * (1e-12 * n if n <= double else RESOLUTION * n**0.5)
        self.best = np.zeros(n, dtype=self.float)
        self.best64, self.late = self.best.astype(np.float64), []  # late: picks that best64 has not seen
        self.started = False
        self.size = np.full(n, -1, dtype=np.int32)  # of a compressed row; -1: not kept
        if function.neighbors is not None:
            from smartdpp.functions.neighbours import columns

            self.begin, self.size, self.entry, self.value = columns(self.features, function.neighbors)
            self.V = None
            return
        self.V = torch.cat([self.features.rows(piece).to(torch.float64 if n <= double else torch.float32) for piece in self.features.blocks()])
        room = min(n * (n + 1), KEEP_BYTES // (4 + self.best.itemsize))
        self.entry, self.value = np.empty(room, dtype=np.int32), np.empty(room, dtype=self.float)
        self.begin = np.zeros(n, dtype=np.int64)
        self.used = 0

    def kernel(self, index: np.ndarray) -> np.ndarray:
        """(k, n): rows of the kernel."""
        return (self.V[index] @ self.V.T).numpy()

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        index = np.arange(self.n) if index is None else index
        gain = np.empty(len(index))
        kept = np.flatnonzero(self.size[index] >= 0)
        if kept.size:
            part = np.empty(len(kept))
            self.compressed(index[kept], part)
            gain[kept] = part
        full = np.flatnonzero(self.size[index] < 0)
        if full.size == self.n and not self.started:
            gain[full] = self.all_gains()
            return gain
        step = max(1, BLOCK_BYTES // (self.best.itemsize * self.n))
        for a in range(0, len(full), step):
            some = full[a : a + step]
            gain[some], count = self.full_gains(index[some])
            if a == 0 and full.size > 0.6 * self.n and count.mean() > len(self.entry) / self.n:
                gain[full] = self.all_gains()[index[full]]
                break
        return gain

    def compressed(self, rows: np.ndarray, gain: np.ndarray) -> None:
        sweep = self.sweeps.sparse if self.size[rows].sum(dtype=np.int64) > 50_000 else self.sweeps.few
        sweep(rows, self.begin, self.size, self.entry, self.value, self.best, gain)

    def full_gains(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gains of rows that are not kept, and how many entries each has above ``best``; keeps those that have become short."""
        tile = self.kernel(index)
        gain, count = np.empty(len(index)), np.empty(len(index), dtype=np.int64)
        self.sweeps.dense(tile, self.best, gain, count)
        short = np.flatnonzero(count < len(self.entry) // self.n)
        end = self.used + np.cumsum(count[short] + 1)
        short, end = short[end <= len(self.entry)], end[end <= len(self.entry)]
        if self.started and short.size:
            begin = end - count[short] - 1
            self.sweeps.compress(tile, self.best, short, begin, self.entry, self.value)
            self.begin[index[short]], self.size[index[short]], self.used = begin, count[short], int(end[-1])
        return gain, count

    def all_gains(self) -> np.ndarray:
        """float64[n] by the upper triangle of the kernel."""
        import torch

        gain = np.zeros(self.n)
        tile = torch.empty((TILE, TILE), dtype=self.V.dtype)
        for a in range(0, self.n, TILE):
            rows = slice(a, min(a + TILE, self.n))
            for b in range(a, self.n, TILE):
                columns = slice(b, min(b + TILE, self.n))
                x, y = self.V[rows], self.V[columns]
                s = torch.mm(x, y.T, out=tile) if len(x) == len(y) == TILE else x @ y.T
                side = np.zeros((self.sweeps.numba.get_num_threads(), len(y)), dtype=self.float)
                self.sweeps.square(s.numpy(), self.best[rows], self.best[columns], gain[rows], side, a == b)
                gain[columns] += side.sum(0, dtype=np.float64)
        return gain

    def resolve(self, index: np.ndarray) -> tuple[np.ndarray, float]:
        """Gains in float64 from the features, equal rows made equal."""
        error = 1e-12 * self.n
        if self.float is np.float64 or self.V is None:
            return self.gains(index), self.tolerance
        distinct, which = np.unique(self.features.tensor[index].float().numpy(), axis=0, return_index=False, return_inverse=True)
        if len(distinct) == 1:
            return np.zeros(len(index)), error
        self.catch_up()
        gain = np.concatenate([self.gains64(index[a : a + 64]) for a in range(0, len(index), 64)])
        return gain, error

    def gains64(self, index: np.ndarray) -> np.ndarray:
        rows = self.features.project(self.features.rows(index).T).numpy()
        return np.maximum(rows - self.best64[:, None], 0).sum(0)

    def catch_up(self) -> None:
        for a in range(0, len(self.late), 64):
            rows = self.features.project(self.features.rows(np.array(self.late[a : a + 64])).T)
            np.maximum(self.best64, rows.amax(1).numpy(), out=self.best64)
        self.late = []

    def add(self, index: np.ndarray) -> None:
        for j in index:
            if self.size[j] >= 0:
                self.sweeps.raise_best(j, self.begin, self.size, self.entry, self.value, self.best)
            else:
                np.maximum(self.best, self.kernel(np.array([j]))[0], out=self.best)
        self.late += list(index)
        self.started = True

    def mark(self) -> Any:
        return None

    def rise(self, mark: Any) -> float:
        return 0.0

    def window(self, index: np.ndarray) -> CoverageWindow:
        return CoverageWindow(self, index)


class CoverageWindow:
    """A few candidates whose rows are at hand; all their gains are summed anew after every pick."""

    rise = 0.0

    def __init__(self, state: Coverage, index: np.ndarray) -> None:
        self.state, self.index = state, index
        self.kept = state.size[index] >= 0
        self.short = index[self.kept]
        self.full = state.kernel(index[~self.kept]) if not self.kept.all() else None
        self.gain = np.empty(len(index))
        self.sum()

    def sum(self) -> None:
        if self.short.size:
            gain = np.empty(len(self.short))
            self.state.compressed(self.short, gain)
            self.gain[self.kept] = gain
        if self.full is not None:
            gain, count = np.empty(len(self.full)), np.empty(len(self.full), dtype=np.int64)
            self.state.sweeps.dense(self.full, self.state.best, gain, count)
            self.gain[~self.kept] = gain

    def resolve(self, at: np.ndarray) -> tuple[np.ndarray, float]:
        return self.state.resolve(self.index[at])

    def add(self, at: int) -> None:
        self.state.add(self.index[at : at + 1])
        self.sum()

    def close(self) -> None:
        """The state has seen every pick."""
