"""How far a selection reaches some points: the greedy state of functions that count, for every point, its
nearest chosen example.

f(A) = Σ_{p∈P} min(c_p, max(0, max_{j∈A} s_pj)) + Σ_{j∈A} b_j

P are points of any number m: the pool itself (facility location, here for accelerators) or a query; c caps
what a point can give; b is a bonus of each example. What is kept is one number a point. Rows s_j (m numbers)
are products of the features, made in tiles in float64 when they are needed, on whatever device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smartdpp.functions.features import Features
from smartdpp.functions.state import Exact, Falling

if TYPE_CHECKING:
    import torch

# rows made at a time, with the features they are made from, where the device does not say what it has free
TILE_BYTES = 2**26
KEPT_BYTES = 3 * 2**28  # all rows, where they are few enough and the points were chosen to be few


class PointCoverage(Exact, Falling):
    """``features`` (n, d), ``points`` (m, d), ``cap`` float64[m] and ``bonus`` float64[n], both >= 0 and on
    the features' device."""

    chunk = 256
    width = 64

    def __init__(
        self,
        features: Features,
        points: Features,
        cap: torch.Tensor | None = None,
        bonus: torch.Tensor | None = None,
        keep: bool = False,
    ) -> None:
        import torch

        n, m = features.shape[0], points.shape[0]
        self.features, self.points, self.cap = features, points, cap
        self.bonus = torch.zeros(n, dtype=torch.float64, device=features.device) if bonus is None else bonus
        self.best = torch.zeros(m, dtype=torch.float64, device=features.device)
        self.active = max(1024, n // 16)
        room = (
            torch.cuda.mem_get_info(features.device)[0] // 8 if features.device.type == "cuda" else TILE_BYTES
        )
        self.tile = max(1, room // (8 * (m + features.shape[1])))
        largest = float(features.square.max() * points.square.max()) ** 0.5
        self.rounding = 1e-12 * (m * largest + float(self.bonus.max()))

        self.kept: torch.Tensor | None = None
        if keep and 8 * n * m <= KEPT_BYTES:
            kept = torch.empty((n, m), dtype=torch.float64, device=features.device)
            for a in range(0, n, self.tile):
                kept[a : a + self.tile] = self.rows(np.arange(a, min(a + self.tile, n)))
            self.kept = kept

    def rows(self, index: np.ndarray) -> torch.Tensor:
        """float64[k, m]: what each example would give each point by itself."""
        if self.kept is not None:
            return self.kept[index]
        x, whole = self.features.rows(index), self.points.copy(self.best.dtype)
        rows = self.points.project(x.T).T.contiguous() if whole is None else x @ whole.T
        return rows if self.cap is None else rows.minimum(self.cap)

    def sums(self, rows: torch.Tensor, index: np.ndarray) -> np.ndarray:
        return ((rows - self.best).clamp_(min=0).sum(1) + self.bonus[index]).cpu().numpy()

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        index = np.arange(self.features.shape[0]) if index is None else index
        gain = np.empty(len(index))
        for a in range(0, len(index), self.tile):
            some = index[a : a + self.tile]
            gain[a : a + self.tile] = self.sums(self.rows(some), some)
        return gain

    def prescribed(self, order: np.ndarray) -> np.ndarray:
        """float64[k]: the gain of each item given those before it, which are added."""
        gain = np.empty(len(order))
        for k, j in enumerate(order):
            rows = self.rows(order[k : k + 1])
            gain[k] = self.sums(rows, np.array([j]))[0]
            self.best = self.best.maximum(rows[0])
        return gain

    def add(self, index: np.ndarray) -> None:
        for a in range(0, len(index), self.tile):
            self.best = self.best.maximum(self.rows(index[a : a + self.tile]).amax(0))

    def window(self, index: np.ndarray) -> PointCoverageWindow:
        return PointCoverageWindow(self, index)


class PointCoverageWindow:
    """A few candidates with their rows; all their gains are summed anew after every pick."""

    rise = 0.0

    def __init__(self, state: PointCoverage, index: np.ndarray) -> None:
        self.state, self.index = state, index
        self.rows = state.rows(index)
        self.gain = state.sums(self.rows, index)

    def resolve(self, at: np.ndarray) -> tuple[np.ndarray, float]:
        return self.gain[at], self.state.rounding

    def add(self, at: int) -> None:
        self.state.best = self.state.best.maximum(self.rows[at])
        self.gain = self.state.sums(self.rows, self.index)

    def close(self) -> None:
        """The state has seen every pick."""
