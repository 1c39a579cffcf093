"""Facility location's running maximum, and gains against it, without an n × n matrix.

A gain is Σ_i (s_ij - best_i)⁺. The rows s_j are products of the features, made in tiles when they are needed.
After a few picks few entries of a row exceed ``best``; then the row is kept compressed to these, for good,
and its gain costs next to nothing. Until then it is made anew. Where all gains are due at once and rows are
still too full to keep, the symmetry of the kernel halves the work.

Small pools are done in float64. Large ones are done in float32, and gains too close to tell apart are
resolved in float64. Where the kernel takes two gigabytes at most it is made once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.functions.features import Features
from smartdpp.functions.neighbors import columns
from smartdpp.functions.state import Falling

if TYPE_CHECKING:
    import torch

TILE = 1024  # rows and columns of a symmetric tile: stays in cache
COLUMNS = 4096  # of the kernel made at a time
BLOCK_BYTES = 2**25  # rows of the kernel made at a time
WHOLE_BYTES = 2**31  # kernels up to this size are made once
KEEP_BYTES = 2**31  # compressed rows
IDLE = 0.1  # share of the room from which moving the compressed rows together is worth it
DENSE = 0.2  # share of a row above which it is not worth keeping yet
SPARSE = 0.05  # share of a row that is kept below which a branch is quicker than writing every entry
FINE = 2**14  # entries of which gains are made in float64 at a time
DOUBLE = 2048  # pools up to this size are done in float64 on a whole kernel
# error of a float32 gain per entry it sums, and per √n; against float64, up to 1.7e-7 per entry was seen
RESOLUTION = 4e-7


class Coverage(Falling):
    chunk = 64
    width = 32

    def __init__(self, features: Features, neighbors: int | None = None, double: int = DOUBLE) -> None:
        import torch

        from smartdpp.functions import loops

        self.loops = loops
        self.workers = torch.get_num_threads()
        # they sleep in between, where OpenMP's would spin
        self.threads = ThreadPoolExecutor(self.workers) if self.workers > 1 else None
        self.lock = Lock()
        self.features = features
        self.n = n = features.shape[0]
        self.active = max(1024, n // 16)
        self.float = np.float64 if n <= double else np.float32
        self.radius = radius = float(self.features.square.max())
        self.widest = n  # the most entries above ``best`` in a row evaluated lately
        self.best = np.zeros(n, dtype=self.float)
        self.holder = np.full(n, -1, dtype=np.int64)  # the pick that is row i's best; -1: none, best is 0
        self.margin = self.float(0 if n <= double else 1e-6 * radius)
        self.started = False
        self.size = np.full(n, -1, dtype=np.int32)  # of a compressed row; -1: not kept
        if neighbors is not None:
            self.begin, self.size, self.entry, self.value = columns(self.features, neighbors)
            self.V: Any = None
            self.whole: Any = None
            return
        self.V = self.features.whole(torch.float64 if n <= double else torch.float32)
        self.whole = self.product() if self.best.itemsize * n * n <= WHOLE_BYTES else None
        kind = np.uint16 if n <= 2**16 else np.int32
        room = min(n * (n + 1), KEEP_BYTES // (kind().itemsize + self.best.itemsize))
        self.entry, self.value = np.empty(room, dtype=kind), np.empty(room, dtype=self.float)
        self.begin = np.zeros(n, dtype=np.int64)
        self.used = 0

    def product(self) -> np.ndarray:
        """(n, n): the kernel, symmetric: rows up to the diagonal are products, the others copies of these."""
        import torch

        # numpy's memory comes in large pages where the system has them, and its products are quicker than
        # torch's on AMD's processors; torch turns a tile round quicker
        whole, V = np.empty((self.n, self.n), dtype=self.float), self.V.numpy()
        tiles = torch.from_numpy(whole)
        for a in range(0, self.n, TILE):
            b = min(a + TILE, self.n)
            np.matmul(V[a:b], V[:b].T, out=whole[a:b, :b])
            tiles[:a, a:b] = tiles[a:b, :a].T
        return whole

    def kernel(self, index: np.ndarray) -> np.ndarray:
        """(k, n): rows of the kernel."""
        return self.whole[index] if self.whole is not None else (self.V[index] @ self.V.T).numpy()

    @cached_property
    def block(self) -> torch.Tensor:
        """Where rows of the kernel are made that are looked at once: fresh memory would double the time."""
        import torch

        return torch.empty((max(1, BLOCK_BYTES // (self.best.itemsize * self.n)), self.n), dtype=self.V.dtype)

    def made(self, index: np.ndarray) -> np.ndarray:
        """(k, n): rows of the kernel, in ``block``. Few columns at a time, which stay in cache: up to a sixth
        quicker."""
        import torch

        x, out = self.V[index], self.block[: len(index)]
        for a in range(0, self.n, COLUMNS):
            torch.mm(x, self.V[a : a + COLUMNS].T, out=out[:, a : a + COLUMNS])
        return out.numpy()

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        index = np.arange(self.n) if index is None else index
        gain = np.empty(len(index))
        kept = np.flatnonzero(self.size[index] >= 0)
        if kept.size:
            gain[kept] = self.compressed(index[kept])
        full = np.flatnonzero(self.size[index] < 0)
        if full.size == self.n and not self.started and self.whole is None:
            gain[full] = self.all_gains()
            return gain
        step = max(1, BLOCK_BYTES // (self.best.itemsize * self.n)) if self.whole is None else self.n
        for a in range(0, len(full), step):
            some = full[a : a + step]
            gain[some], count = self.full_gains(index[some])
            if (
                self.whole is None
                and a == 0
                and full.size > self.n // 2
                and count.mean() * full.size > len(self.entry)
            ):
                gain[full] = self.all_gains()[index[full]]
                break
        return gain

    @cached_property
    def error(self) -> tuple[float, float]:
        """Of the difference of two gains: in any case, and for each entry that one sums."""
        if self.float is np.float64:
            return 1e-12 * self.n * self.radius, 0.0
        return RESOLUTION * self.n**0.5 * self.radius, RESOLUTION * self.radius

    def tolerance(self, j: int, gain: float) -> float:
        of_all, of_each = self.error
        return of_all + of_each * self.widest

    def share(self, count: int, entries: int, work: Callable[[slice], None]) -> None:
        """Cuts 0..count-1 between the threads, if there is enough to do."""
        if self.threads is None or entries < 200_000:
            work(slice(0, count))
        else:
            list(
                self.threads.map(
                    work,
                    [
                        slice(count * t // self.workers, count * (t + 1) // self.workers)
                        for t in range(self.workers)
                    ],
                )
            )

    def compressed(self, rows: np.ndarray) -> np.ndarray:
        """Gains of rows that are kept."""
        gain = np.empty(len(rows))

        def work(s: slice) -> None:
            self.loops.sparse(
                rows[s], self.begin, self.size, self.entry, self.value, self.best, self.margin, gain[s]
            )

        self.share(len(rows), int(self.size[rows].sum(dtype=np.int64)), work)
        self.widest = int(self.size[rows].max())
        return gain

    def sums(self, tile: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gains of these ``rows`` of a tile of the kernel, and how many entries each has above ``best``."""
        gain, count = np.empty(len(rows)), np.empty(len(rows), dtype=np.int64)
        self.share(
            len(rows),
            len(rows) * self.n,
            lambda s: self.loops.dense(tile, rows[s], self.best, self.margin, gain[s], count[s]),
        )
        self.widest = int(count.max())
        return gain, count

    def full_gains(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gains of rows that are not kept, and how many entries each has above ``best``; from the first pick
        on, keeps what fits."""
        if self.whole is not None:
            tile, rows = self.whole, index
        else:
            tile, rows = self.made(index), np.arange(len(index))
        gain, count = self.sums(tile, rows)
        if not self.started:
            return gain, count
        kept = np.flatnonzero(count <= (DENSE if self.whole is None else SPARSE) * self.n)
        need = np.cumsum(count[kept] + 1)
        if not kept.size:
            return gain, count
        idle = self.used - int(self.size[self.size >= 0].sum(dtype=np.int64))  # what shrunk rows have left
        if self.used + need[-1] > len(self.entry) and idle > IDLE * len(self.entry):
            self.used = self.loops.compact(
                np.flatnonzero(self.size >= 0), self.begin, self.size, self.entry, self.value
            )
        kept = kept[self.used + need <= len(self.entry)]
        if not kept.size:
            return gain, count
        begin = self.used + need[: len(kept)] - count[kept] - 1
        compress = self.loops.compress if count[kept].mean() > SPARSE * self.n else self.loops.compress_sparse
        self.share(
            len(kept),
            len(kept) * self.n,
            lambda s: compress(tile, self.best, self.margin, rows[kept[s]], begin[s], self.entry, self.value),
        )
        self.begin[index[kept]], self.size[index[kept]] = begin, count[kept]
        self.used += int(need[len(kept) - 1])
        return gain, count

    def all_gains(self) -> np.ndarray:
        """float64[n] by the upper triangle of the kernel."""
        import torch

        gain = np.zeros(self.n)
        tile = torch.empty((TILE, TILE), dtype=self.V.dtype)
        for a in range(0, self.n, TILE):
            for b in range(a, self.n, TILE):
                x, y = self.V[a : a + TILE], self.V[b : b + TILE]
                s = (torch.mm(x, y.T, out=tile) if len(x) == len(y) == TILE else x @ y.T).numpy()
                self.share(len(x), s.size, partial(self.add_tile, s, a, b, gain))
        return gain

    def add_tile(self, s: np.ndarray, a: int, b: int, gain: np.ndarray, part: slice) -> None:
        """Rows ``part`` of the tile at (a, b) give to the gains of their rows and columns."""
        rows, columns = slice(a + part.start, a + part.stop), slice(b, b + s.shape[1])
        of_rows, of_columns = np.zeros(part.stop - part.start), np.zeros(s.shape[1], dtype=s.dtype)
        self.loops.square(s[part], self.best[rows], self.best[columns], of_rows, of_columns, a == b)
        with self.lock:
            gain[rows] += of_rows
            gain[columns] += of_columns

    def doubt(self, index: np.ndarray) -> float:
        return 0.0

    def sharpen(self) -> bool:
        return False

    def resolve(self, index: np.ndarray) -> tuple[np.ndarray, float]:
        """Gains in float64 from the features."""
        if self.float is np.float64 or self.V is None:  # with neighbours only, nothing finer is known
            return self.gains(index), 1e-12 * self.n
        gain, length = np.zeros(len(index)), np.where(self.size[index] < 0, self.n, self.size[index])
        part = np.cumsum(length) // FINE
        for p in np.unique(part):
            (some,) = np.nonzero(part == p)
            entries, owner = self.entries(index[some]), np.repeat(some, length[some])
            for a in range(0, len(owner), FINE):
                piece = slice(a, a + FINE)
                finer = self.finer(index[owner[piece]], entries[piece])
                gain += np.bincount(owner[piece], finer, minlength=len(index))
        return gain, 1e-12 * self.n

    def entries(self, rows: np.ndarray) -> np.ndarray:
        """int64[e]: the entries of these rows that can matter, row after row."""
        kept, all_of_them = self.size[rows] >= 0, np.arange(self.n)
        return np.concatenate(
            [
                self.entry[self.begin[j] : self.begin[j] + self.size[j]] if k else all_of_them
                for j, k in zip(rows, kept, strict=True)
            ]
        ).astype(np.int64)

    def finer(self, row: np.ndarray, at: np.ndarray) -> np.ndarray:
        """float64[e]: what entry ``at`` of ``row`` (both int64[e]) gains over the pick that holds it."""
        import torch

        holder = self.holder[at]
        x, z, held = (self.features.take(i, torch.float64) for i in (at, row, holder))
        best = (x * held).sum(1).clamp_(min=0) * torch.from_numpy(holder >= 0)
        return ((x * z).sum(1) - best).clamp_(min=0).numpy()

    def add(self, index: np.ndarray) -> None:
        for j in index:
            if self.size[j] >= 0:
                self.loops.raise_best(
                    j, self.begin, self.size, self.entry, self.value, self.best, self.holder
                )
            else:
                row = self.kernel(np.array([j]))[0] if self.whole is None else self.whole[j]
                self.loops.raise_best_dense(j, row, self.best, self.holder)
        self.started = True

    def ahead(self, bound: np.ndarray, free: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        if self.whole is None:
            return np.empty(0, dtype=np.int64), np.empty(0)
        from smartdpp.functions.lazily import lazily

        index, gain = np.empty(most, dtype=np.int64), np.empty(most)
        of_one = (self.error[0] / 2, self.error[1] / 2)
        kept = (self.begin, self.size, self.entry, self.value, self.used, int(SPARSE * self.n))
        running = (self.best, self.holder, self.margin)
        count, self.used = lazily(self.whole, *running, *kept, bound, free, of_one, index, gain)
        self.started |= count > 0
        return index[:count], gain[:count]

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
            self.gain[self.kept] = self.state.compressed(self.short)
        if self.full is not None:
            self.gain[~self.kept] = self.state.sums(self.full, np.arange(len(self.full)))[0]

    def resolve(self, at: np.ndarray) -> tuple[np.ndarray, float]:
        return self.state.resolve(self.index[at])

    def add(self, at: int) -> None:
        self.state.add(self.index[at : at + 1])
        self.sum()

    def close(self) -> None:
        """The state has seen every pick."""
