"""The determinant of a linear kernel S = ΦΦᵀ in d dimensions instead of n: memory does not grow with the
number of picks.

Everything about the chosen rows P is in M = I - Φ_Pᵀ (ρI + Φ_P Φ_Pᵀ)⁻¹ Φ_P, (d, d) (Woodbury): d_i² = ρ +
φ_iᵀ M φ_i, and picking p takes z zᵀ from M, z = M φ_p / d_p. A row catches up on B picks by B inner products
with their z, or from M when B exceeds d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.functions.schur import Tracked

if TYPE_CHECKING:
    import torch

    from smartdpp.functions.features import Features
    from smartdpp.functions.kernels import Kernel

PIECE = 2**13  # rows at a time


@dataclass(frozen=True)
class Span:
    """All that a determinant keeps of ``count`` chosen rows: M (d, d), and z of the last of them, (b, d), b
    <= d.

    Without M it says what the last b rows changed, to those who know all about the ones before.
    """

    M: torch.Tensor | None
    recent: torch.Tensor
    count: int


class Dual:
    """A Schur (smartdpp.functions.schur) of the rows of ``features``, or of a ``subset`` of them, numbered
    from 0."""

    def __init__(self, features: Features, kernel: Kernel, subset: np.ndarray | None = None) -> None:
        import torch

        self.features, self.kernel, self.subset = features, kernel, subset
        self.size = features.shape[1] + (kernel.name == "linear")
        self.M = torch.eye(self.size, dtype=torch.float64, device=features.device)
        self.recent = self.M[:0]  # z of the last picks, at most d of them
        self.count = 0

    @property
    def common(self) -> Span:
        """What the shares of a pool have in common; it suffices to go on from."""
        return Span(self.M, self.recent, self.count)

    @common.setter
    def common(self, span: Span) -> None:
        recent, behind = span.recent.to(self.M.device), span.count - self.count
        if span.M is not None:
            self.M, self.recent = span.M.to(self.M.device), recent
        elif behind:
            assert behind == len(recent), "these rows do not follow on the chosen ones"
            self.take(recent)
        self.count = span.count

    def since(self, count: int) -> Span:
        """``common`` for those who know it as it was after ``count`` rows: what changed, where that is the
        smaller message."""
        behind = self.count - count
        return (
            self.common
            if 2 * behind > self.size
            else Span(None, self.recent[len(self.recent) - behind :], self.count)
        )

    def take(self, Z: torch.Tensor) -> None:
        """What rows with these z (b, size) take from M."""
        import torch

        self.M = self.M - Z.T @ Z
        self.recent = torch.cat([self.recent, Z])[-self.size :]

    def phi(self, index: np.ndarray | slice, dtype: torch.dtype | None = None) -> torch.Tensor:
        """[k, size]: rows whose inner products are the kernel."""
        return self.kernel.phi(
            self.features.rows(index if self.subset is None else self.subset[index], dtype)
        )

    def raw(self, index: np.ndarray | slice) -> tuple[torch.Tensor, np.ndarray | float]:
        """Rows (k, size) and what their quadratic forms are to be multiplied by: features are read as they
        lie where that can be."""
        if self.kernel.name == "cosine" and self.features.tensor.dtype == self.dtype:
            return self.features.tensor[index], self.features.scale[index].square().cpu().numpy()
        return self.phi(index, self.dtype), 1.0

    def complement(self, index: np.ndarray) -> np.ndarray:
        phi = self.phi(index)
        G = (phi @ self.M @ phi.T).cpu().numpy()
        G[np.diag_indices_from(G)] += self.kernel.rho
        return G

    def residual(self, index: np.ndarray) -> np.ndarray:
        if self.count == 0:
            return np.full(len(index), self.kernel.diagonal)
        phi = self.phi(index)
        return self.kernel.rho + ((phi @ self.M) * phi).sum(1).cpu().numpy()

    def choose(self, index: np.ndarray, factor: np.ndarray) -> None:
        import torch

        lower = torch.from_numpy(factor).to(self.M.device)
        Z = torch.linalg.solve_triangular(lower, self.phi(index) @ self.M, upper=False)
        self.take(Z)
        self.count += len(index)

    def track(self, dtype: torch.dtype) -> None:
        n = self.features.shape[0]
        self.dtype = dtype
        self.everyone = Tracked(np.arange(n), np.full(n, self.kernel.diagonal), 0, self.M[:0])
        self.some = self.everyone

    def refresh(self, index: np.ndarray | None) -> np.ndarray:
        if index is None:
            self.some = self.everyone
        elif not np.array_equal(index, self.some.index):
            self.some = Tracked(index, self.everyone.d2[index], self.everyone.seen, *self.raw(index))
        tracked = self.some
        behind = self.count - tracked.seen
        if behind:
            few = behind <= len(self.recent)
            change = self.recent[-behind:].to(self.dtype).T if few else self.M.to(self.dtype)
            for a in range(0, len(tracked.d2), PIECE):
                at = slice(a, min(a + PIECE, len(tracked.d2)))
                phi, weight = (
                    self.raw(at) if tracked is self.everyone else (tracked.rows[at], tracked.weights(at))
                )
                if few:
                    tracked.d2[at] -= weight * (phi @ change).square_().sum(1).cpu().numpy()
                else:
                    tracked.d2[at] = self.kernel.rho + weight * ((phi @ change) * phi).sum(1).cpu().numpy()
            tracked.seen = self.count
        return tracked.d2

    def drift(self, index: np.ndarray, d2: np.ndarray) -> float:
        return self.some.difference(index, d2) if self.some.seen == self.count else 0.0
