"""d² of every row given the chosen ones, brought up to date for many rows at once by matrix products.

With chosen rows P and the Cholesky factor L of S + ρI, d_i² = s_ii + ρ - Σ_b L_ib². Each row remembers how many of the picks its d²
has seen; the columns it lacks are computed when somebody asks, for a block of rows together.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

    from smartdpp.functions.logdet import LogDet

PIECE = 2**15  # rows at a time in the dual
FREE_SHARE = 0.5  # of the host's free memory that the primal's factor may take
BLOCK_BYTES = 2**26  # of temporary columns in the primal


class Schur(Protocol):
    def refresh(self, index: np.ndarray) -> np.ndarray:
        """float64[k]: d² of these rows now."""
        ...

    def complement(self, index: np.ndarray) -> np.ndarray:
        """float64[k, k]: their kernel plus ρI given the chosen rows; the diagonal is d²."""
        ...

    def choose(self, index: np.ndarray, factor: np.ndarray) -> None:
        """Adds rows to the chosen; ``factor`` (b, b) is the lower Cholesky factor of their complement."""
        ...


class Dual:
    """Linear kernels, S = ΦΦᵀ: everything about the chosen rows is in M = I - Φ_Pᵀ (ρI + Φ_P Φ_Pᵀ)⁻¹ Φ_P, (d, d) (Woodbury).

    d_i² = ρ + φ_iᵀ M φ_i, and picking p takes z zᵀ from M, z = M φ_p / d_p: a row catches up on B picks by B inner products, or from M.
    """

    def __init__(self, function: LogDet, capacity: int, subset: np.ndarray | None = None) -> None:
        import torch

        self.function, self.subset = function, subset
        n, d = function.features.shape
        self.size = d + (function.kernel == "linear")
        self.M = torch.eye(self.size, dtype=torch.float64, device=function.features.device)
        self.recent = self.M[:, :0]  # z of the last picks, at most d of them
        self.count = 0
        rows = n if subset is None else len(subset)
        self.d2 = np.full(rows, function.diagonal)
        self.seen = np.zeros(rows, dtype=np.int64)

    def phi(self, index: np.ndarray) -> torch.Tensor:
        """float64[k, size]: rows whose inner products are the kernel."""
        import torch

        x = self.function.features.rows(index if self.subset is None else self.subset[index])
        if self.function.kernel == "cosine":
            return x
        return torch.cat([x, x.new_ones(len(x), 1)], 1) * (self.function.gamma / 2) ** 0.5

    def refresh(self, index: np.ndarray) -> np.ndarray:
        for seen in np.unique(self.seen[index]):
            behind = self.count - int(seen)
            if behind == 0:
                continue
            late = index[self.seen[index] == seen]
            for a in range(0, len(late), PIECE):
                at = late[a : a + PIECE]
                phi = self.phi(at)
                if behind <= self.recent.shape[1]:
                    self.d2[at] -= (phi @ self.recent[:, self.recent.shape[1] - behind :]).square_().sum(1).cpu().numpy()
                else:
                    self.d2[at] = self.function.rho + ((phi @ self.M) * phi).sum(1).cpu().numpy()
            self.seen[late] = self.count
        return self.d2[index]

    def complement(self, index: np.ndarray) -> np.ndarray:
        phi = self.phi(index)
        G = (phi @ self.M @ phi.T).cpu().numpy()
        np.fill_diagonal(G, self.refresh(index))
        return G

    def choose(self, index: np.ndarray, factor: np.ndarray) -> None:
        import torch

        lower = torch.from_numpy(factor).to(self.M.device)
        Z = torch.linalg.solve_triangular(lower, self.phi(index) @ self.M, upper=False).T
        self.M = self.M - Z @ Z.T
        self.recent = torch.cat([self.recent, Z], 1)[:, -self.size :]
        self.count += len(index)


class Primal:
    """Any kernel: the rows of L themselves, (n, capacity), in memory that is only touched as columns fill."""

    def __init__(self, function: LogDet, capacity: int, subset: np.ndarray | None = None) -> None:
        self.function, self.subset = function, subset
        n = len(function) if subset is None else len(subset)
        self.L = storage(n, capacity, function.features.device)
        self.d2 = np.full(n, function.diagonal)
        self.seen = np.zeros(n, dtype=np.int64)
        self.chosen = np.empty(0, dtype=np.int64)

    def x(self, index: np.ndarray) -> torch.Tensor:
        return self.function.features.rows(index if self.subset is None else self.subset[index])

    def refresh(self, index: np.ndarray) -> np.ndarray:
        import torch

        now = len(self.chosen)
        for seen in np.unique(self.seen[index]):
            seen = int(seen)
            if seen == now:
                continue
            late = index[self.seen[index] == seen]
            new = self.chosen[seen:]
            x_new, L_new = self.x(new), self.L[new, :now]
            step = max(1, BLOCK_BYTES // (8 * (now + x_new.shape[1])))
            for a in range(0, len(late), step):
                at = late[a : a + step]
                C = self.function.similarity(self.x(at), x_new)
                C -= self.L[at, :seen] @ L_new[:, :seen].T
                C = torch.linalg.solve_triangular(L_new[:, seen:].T, C, upper=True, left=False)
                self.L[at, seen:now] = C
                self.d2[at] -= C.square_().sum(1).cpu().numpy()
            self.seen[late] = now
        return self.d2[index]

    def complement(self, index: np.ndarray) -> np.ndarray:
        d2, now = self.refresh(index), len(self.chosen)
        x, L = self.x(index), self.L[index, :now]
        G = (self.function.similarity(x, x) - L @ L.T).cpu().numpy()
        np.fill_diagonal(G, d2)
        return G

    def choose(self, index: np.ndarray, factor: np.ndarray) -> None:
        import torch

        self.refresh(index)
        now = len(self.chosen)
        self.L[index, now : now + len(index)] = torch.from_numpy(factor).to(self.L)
        self.d2[index] = 0.0
        self.chosen = np.concatenate([self.chosen, index])
        self.seen[index] = len(self.chosen)


def storage(n: int, capacity: int, device: torch.device) -> torch.Tensor:
    """float64[n, capacity], unset: on the device, or in an unnamed temporary file where memory is too small."""
    import torch

    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device.type != "cpu" or 8 * n * capacity <= FREE_SHARE * free:
        return torch.empty((n, capacity), dtype=torch.float64, device=device)
    with tempfile.TemporaryFile() as file:  # the mapping outlives the handle
        return torch.from_numpy(np.memmap(file, dtype=np.float64, mode="w+", shape=(n, capacity)))
