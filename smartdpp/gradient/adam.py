"""A gradient as Adam would apply it: Γ = (β1 m + (1 - β1) g) / √(β2 v + (1 - β2) g² + ε), which is what an
example would move (LESS, Xia et al. 2024, arXiv 2402.04333; m and v the optimiser's at a checkpoint, without
bias correction).

An elementwise scale does not pass through a sketch, unless it is of rank one: with V = β2 v + ε ~ r cᵀ / mean
(r, c its means over rows and columns: Adafactor, Shazeer and Stern 2018), Σ_t (δ_t / √r)(x_t / √c)ᵀ √mean is
the scaled gradient of the same products. Left out then is (1 - β2) g², the example's own part in V.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.gradient.backward import Reduction

if TYPE_CHECKING:
    from torch import Tensor, nn

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
Moments = Mapping[str, tuple["Tensor", "Tensor"]]  # m and v by layer, each [d_out, d_in]


class Plain:
    """``inner`` of the gradient itself, with the projections that it has in the two below: each layer its
    own, as its inputs are never another's. ``shift``, float32[size], is to be added to what comes out."""

    def __init__(self, inner: Reduction) -> None:
        self.inner, self.size, self.modules = inner, inner.size, inner.modules
        self.shift = np.zeros(inner.size, dtype=np.float32)

    def keep(self, name: str, x: Tensor) -> Tensor:
        return self.inner.keep(name, x * 1.0)

    def add(self, name: str, kept: Tensor, delta: Tensor, out: Tensor) -> None:
        self.inner.add(name, kept, delta, out)


class RankOne(Plain):
    """``inner`` of Γ with V of rank one; its shift is the part of m, the same for every example."""

    def __init__(self, inner: Reduction, moments: Moments) -> None:
        import torch

        super().__init__(inner)
        self.rows: dict[str, Tensor] = {}
        self.columns: dict[str, Tensor] = {}
        shift = torch.zeros(1, self.size, device=_device(inner.modules))
        for name, (m, v) in _on(inner.modules, moments).items():
            V = BETA2 * v + EPSILON
            r, c = V.mean(1), V.mean(0)
            self.rows[name], self.columns[name] = (r.mean() / r).sqrt(), c.rsqrt()
            scaled = BETA1 * m * self.rows[name][:, None] * self.columns[name]
            inner.add(name, _whole(inner, name, m.shape[1]), scaled.T[None], shift)
        self.shift = shift[0].cpu().numpy()

    def keep(self, name: str, x: Tensor) -> Tensor:
        return self.inner.keep(name, x * self.columns[name])

    def add(self, name: str, kept: Tensor, delta: Tensor, out: Tensor) -> None:
        self.inner.add(name, kept, delta * ((1 - BETA1) * self.rows[name]), out)


class Elementwise(Plain):
    """``inner`` of Γ as it stands: every example's gradient is formed, one layer at a time."""

    def __init__(self, inner: Reduction, moments: Moments) -> None:
        super().__init__(inner)
        self.moments = _on(inner.modules, moments)
        self.whole = {name: _whole(inner, name, m.shape[1]) for name, (m, _) in self.moments.items()}

    def keep(self, name: str, x: Tensor) -> Tensor:
        return x

    def add(self, name: str, kept: Tensor, delta: Tensor, out: Tensor) -> None:
        m, v = self.moments[name]
        g = delta.float().transpose(1, 2) @ kept.float()
        scaled = (BETA1 * m + (1 - BETA1) * g) / (BETA2 * v + (1 - BETA2) * g.square() + EPSILON).sqrt()
        self.inner.add(name, self.whole[name], scaled.transpose(1, 2), out)


def _whole(inner: Reduction, name: str, d: int) -> Tensor:
    """What is kept of the d unit vectors as inputs: a matrix is the sum of its columns' products with
    them."""
    import torch

    return inner.keep(name, torch.eye(d, device=_device(inner.modules))[None])


def _on(modules: Mapping[str, nn.Linear], moments: Moments) -> dict[str, tuple[Tensor, Tensor]]:
    device = _device(modules)
    return {name: (moments[name][0].to(device), moments[name][1].to(device)) for name in modules}


def _device(modules: Mapping[str, nn.Linear]) -> Any:
    return next(iter(modules.values())).weight.device
