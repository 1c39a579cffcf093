"""The determinant of any kernel by its Cholesky factor L, whose columns are made when somebody asks, for a
block of rows together.

That turns the memory-bound update of one column a pick into matrix products. Candidates' rows of L are kept
in float64, in as many seats as there are candidates about; all other rows in the precision of ``track``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smartdpp.functions.schur import Tracked
from smartdpp.functions.storage import storage

if TYPE_CHECKING:
    import torch

    from smartdpp.functions.features import Features
    from smartdpp.functions.kernels import Kernel

BLOCK_BYTES = 2**25  # of temporary columns
SEATS = 1024  # candidates whose rows are kept in float64 between windows


class Primal:
    """A Schur (smartdpp.functions.schur) of the rows of ``features``, or of a ``subset`` of them, for up to
    ``capacity`` picks."""

    def __init__(
        self, features: Features, kernel: Kernel, capacity: int, subset: np.ndarray | None = None
    ) -> None:
        import torch

        self.features, self.kernel, self.subset = features, kernel, subset
        self.n = features.shape[0] if subset is None else len(subset)
        self.device = features.device
        self.capacity = capacity
        # of the chosen rows, lower triangular
        self.factor = storage(capacity, capacity, torch.float64, self.device)
        self.chosen = np.empty(0, dtype=np.int64)
        self.seats = Seats(self, min(self.n, SEATS))

    def x(self, index: np.ndarray | slice, dtype: torch.dtype) -> torch.Tensor:
        return self.features.rows(index if self.subset is None else self.subset[index], dtype)

    def extend(
        self, L: torch.Tensor, d2: np.ndarray, at: np.ndarray | slice, x: torch.Tensor, seen: int
    ) -> None:
        """Makes columns ``seen`` to the last of rows ``at`` of L and takes them from d2. x (k, d): these
        rows' features."""
        import torch

        now, dtype = len(self.chosen), L.dtype
        if seen == now:
            return
        lower = self.factor[seen:now, :now].to(dtype)
        C = self.kernel.similarity(x, self.x(self.chosen[seen:], dtype))
        if seen:
            C.addmm_(L[at, :seen], lower[:, :seen].T, alpha=-1)
        if dtype == torch.float64:
            C = torch.linalg.solve_triangular(lower[:, seen:].T, C, upper=True, left=False)
        else:  # several times quicker, and single precision is what it is
            one = torch.eye(now - seen, dtype=torch.float64, device=self.device)
            C = C @ torch.linalg.solve_triangular(self.factor[seen:now, seen:now], one, upper=False).T.to(
                dtype
            )
        L[at, seen:now] = C
        d2[at] -= C.square_().sum(1).cpu().numpy()

    def complement(self, index: np.ndarray) -> np.ndarray:
        import torch

        at = self.seats.of(index)
        x, L = self.x(index, torch.float64), self.seats.L[at, : len(self.chosen)]
        G = self.kernel.similarity(x, x).addmm_(L, L.T, alpha=-1).cpu().numpy()
        np.fill_diagonal(G, self.seats.d2[at])
        return G

    def residual(self, index: np.ndarray) -> np.ndarray:
        size = len(self.seats.d2)
        d2 = [self.seats.d2[self.seats.of(index[a : a + size])] for a in range(0, len(index), size)]
        return np.concatenate(d2)

    def choose(self, index: np.ndarray, factor: np.ndarray) -> None:
        import torch

        at = self.seats.of(index)
        now, then = len(self.chosen), len(self.chosen) + len(index)
        self.factor[now:then, :now] = self.seats.L[at, :now]
        self.factor[now:then, now:then] = torch.from_numpy(factor).to(self.factor)
        self.chosen = np.concatenate([self.chosen, index])

    def track(self, dtype: torch.dtype) -> None:
        L = storage(self.n, self.capacity, dtype, self.device)
        self.everyone = Tracked(np.arange(self.n), np.full(self.n, self.kernel.diagonal), 0, L)
        self.some = self.everyone

    def refresh(self, index: np.ndarray | None) -> np.ndarray:
        everyone, dtype = self.everyone, self.everyone.rows.dtype
        if index is None:
            self.some = everyone
        elif not np.array_equal(index, self.some.index):
            L = storage(len(index), self.capacity, dtype, self.device)
            L[:, : everyone.seen] = everyone.rows[index, : everyone.seen]
            self.some = Tracked(index, everyone.d2[index], everyone.seen, L)
        tracked, now = self.some, len(self.chosen)
        step = max(1, BLOCK_BYTES // (dtype.itemsize * (now - tracked.seen + self.features.shape[1])))
        for a in range(0, len(tracked.d2) if tracked.seen < now else 0, step):
            at = slice(a, min(a + step, len(tracked.d2)))
            x = self.x(at, dtype) if tracked is everyone else self.x(tracked.index, dtype)[at]
            self.extend(tracked.rows, tracked.d2, at, x, tracked.seen)
        tracked.seen = now
        return tracked.d2

    def drift(self, index: np.ndarray, d2: np.ndarray) -> float:
        return self.some.difference(index, d2) if self.some.seen == len(self.chosen) else 0.0


class Seats:
    """Some rows of L in float64: whoever was asked for lately."""

    def __init__(self, schur: Primal, size: int) -> None:
        import torch

        self.schur = schur
        self.L = storage(size, schur.capacity, torch.float64, schur.device)
        self.d2, self.seen = np.empty(size), np.zeros(size, dtype=np.int64)
        self.seat = np.full(schur.n, -1)  # of a row
        self.holder = np.full(size, -1)  # of a seat
        self.asked = np.zeros(size, dtype=np.int64)  # when a seat was last asked for
        self.clock = 0

    def of(self, index: np.ndarray) -> np.ndarray:
        """int64[k]: the seats of these rows, which get one if they have none. All seats have seen all picks
        then."""
        import torch

        self.clock += 1
        self.asked[self.seat[index][self.seat[index] >= 0]] = self.clock
        new = index[self.seat[index] < 0]
        if new.size:
            # those never taken, then those not asked for longest
            free = np.argsort(self.asked, kind="stable")[: len(new)]
            left = self.holder[free]
            self.seat[left[left >= 0]] = -1
            self.seat[new], self.holder[free], self.asked[free] = free, new, self.clock
            self.seen[free], self.d2[free] = 0, self.schur.kernel.diagonal
        now, taken = len(self.schur.chosen), self.holder >= 0
        for seen in np.unique(self.seen[taken]):
            at = np.flatnonzero(taken & (self.seen == seen))
            at_or_all = slice(0, len(at)) if at[-1] == len(at) - 1 else at  # a slice is not copied
            self.schur.extend(
                self.L, self.d2, at_or_all, self.schur.x(self.holder[at], torch.float64), int(seen)
            )
            self.seen[at] = now
        return self.seat[index]
