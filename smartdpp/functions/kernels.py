"""The kernels of a log determinant: how alike two examples are.

| kernel | s(x, y) | rows | ρ by default |
|---|---|---|---|
| cosine | x·y | L2-normalised | 1 (SMART, arXiv 2403.08370) |
| linear | γ (x·y + 1) / 2 | L2-normalised | 1 |
| vmf | exp(γ (x·y - 1) / 2) | L2-normalised | 0 |
| rbf | exp(-γ ‖x - y‖²) | as they are | 0 |

Rows may be numpy arrays or torch tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from smartdpp.errors import InputError

Name = Literal["cosine", "vmf", "rbf", "linear"]


@dataclass(frozen=True)
class Kernel:
    """``ridge`` is ρ, added to the diagonal; None: the kernel's own. Raises InputError for a parameter out of
    range."""

    name: Name
    gamma: float = 1.0
    ridge: float | None = None

    def __post_init__(self) -> None:
        if self.name not in ("cosine", "vmf", "rbf", "linear"):
            raise InputError(f"kernel is {self.name!r}; it must be cosine, vmf, rbf or linear.")
        if not (np.isfinite(self.gamma) and self.gamma > 0):
            raise InputError(f"gamma is {self.gamma}; it must be a finite number above 0.")
        if self.ridge is not None and not (np.isfinite(self.ridge) and self.ridge >= 0):
            raise InputError(f"ridge is {self.ridge}; it must be a finite number of at least 0.")

    @property
    def unit(self) -> bool:
        """Whether rows are normalised before they come here."""
        return self.name != "rbf"

    @property
    def finite(self) -> bool:
        """Whether rows ``phi`` have the kernel as inner products."""
        return self.name in ("cosine", "linear")

    @property
    def rho(self) -> float:
        """The ridge in use."""
        if self.ridge is not None:
            return self.ridge
        return 1.0 if self.finite else 0.0

    @property
    def diagonal(self) -> float:
        """s(x, x) + ρ."""
        return self.rho + (self.gamma if self.name == "linear" else 1.0)

    def similarity(self, x: Any, y: Any) -> Any:
        """[a, b]: s between rows x (a, d) and y (b, d)."""
        if isinstance(x, np.ndarray) and not self.finite:
            return np.exp(-self.gamma * self.distance(x, y))
        s = x @ y.T
        match self.name:
            case "cosine":
                return s
            case "linear":
                s += 1
                s *= self.gamma / 2
                return s
            case "vmf":
                return s.sub_(1).mul_(self.gamma / 2).exp_()
            case "rbf":
                return (
                    s.mul_(2)
                    .sub_(x.square().sum(1)[:, None])
                    .sub_(y.square().sum(1))
                    .clamp_(max=0)
                    .mul_(self.gamma)
                    .exp_()
                )

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[a, b]: -log s(x, y) / γ, of vmf and rbf."""
        if self.name == "vmf":
            return (1 - x @ y.T) / 2
        return np.maximum(np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * (x @ y.T), 0)

    def phi(self, x: Any, weight: Any = None) -> Any:
        """Rows whose inner products are s, of the ``finite``: [k, d], or [k, d + 1]. ``weight`` (k): theirs
        are √w_i √w_j s."""
        if self.name == "cosine":
            return x if weight is None else x * np.sqrt(weight)[:, None]
        scale = (self.gamma / 2) ** 0.5 if weight is None else np.sqrt(weight * self.gamma / 2)[:, None]
        if isinstance(x, np.ndarray):
            return np.hstack([x, np.ones((len(x), 1))]) * scale
        import torch

        return torch.cat([x, x.new_ones(len(x), 1)], 1) * scale
