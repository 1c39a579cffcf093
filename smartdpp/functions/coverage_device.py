"""Facility location on an accelerator: rows of the kernel are made when needed, in float64, in tiles that fit the free memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from smartdpp.functions.facility_location import FacilityLocation

HOST_BYTES = 2**26  # a tile, where the device does not say what it has free


class DeviceCoverage:
    """best (n,) on the device; a gain is Σ_i (s_ij - best_i)⁺."""

    rises = False
    chunk = 256
    width = 64

    def __init__(self, function: FacilityLocation) -> None:
        import torch

        self.features = function.features
        self.n = len(function)
        self.active = max(1024, self.n // 16)
        self.rounding = 1e-12 * self.n * float(self.features.square.max())
        self.best = torch.zeros(self.n, dtype=torch.float64, device=self.features.device)
        device = self.features.device
        room = torch.cuda.mem_get_info(device)[0] // 8 if device.type == "cuda" else HOST_BYTES
        self.tile = max(1, room // (8 * self.n))

    def kernel(self, index: np.ndarray) -> torch.Tensor:
        """float64[k, n]: rows of the kernel."""
        return self.features.project(self.features.rows(index).T).T

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        index = np.arange(self.n) if index is None else index
        gain = np.empty(len(index))
        for a in range(0, len(index), self.tile):
            gain[a : a + self.tile] = self.sums(self.kernel(index[a : a + self.tile]))
        return gain

    def sums(self, rows: torch.Tensor) -> np.ndarray:
        return (rows - self.best).clamp_(min=0).sum(1).cpu().numpy()

    def tolerance(self, j: int, gain: float) -> float:
        return self.rounding

    def doubt(self, index: np.ndarray) -> float:
        return 0.0

    def sharpen(self) -> bool:
        return False

    def resolve(self, index: np.ndarray) -> tuple[np.ndarray, float]:
        return self.gains(index), self.rounding

    def add(self, index: np.ndarray) -> None:
        for a in range(0, len(index), self.tile):
            self.best = self.best.maximum(self.kernel(index[a : a + self.tile]).amax(0))

    def mark(self) -> Any:
        return None

    def rise(self, mark: Any) -> float:
        return 0.0

    def window(self, index: np.ndarray) -> DeviceWindow:
        return DeviceWindow(self, index)


class DeviceWindow:
    """A few candidates with their rows; all their gains are summed anew after every pick."""

    rise = 0.0

    def __init__(self, state: DeviceCoverage, index: np.ndarray) -> None:
        self.state, self.index = state, index
        self.rows = state.kernel(index)
        self.gain = state.sums(self.rows)

    def resolve(self, at: np.ndarray) -> tuple[np.ndarray, float]:
        return self.gain[at], self.state.rounding

    def add(self, at: int) -> None:
        self.state.best = self.state.best.maximum(self.rows[at])
        self.gain = self.state.sums(self.rows)

    def close(self) -> None:
        """The state has seen every pick."""
