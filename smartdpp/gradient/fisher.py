"""The diagonal of the Fisher information per example, averaged over the input side of every weight (Task2Vec,
Achille et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.gradient.backward import gradients
from smartdpp.gradient.layers import Layers, linear_layers
from smartdpp.models.turns import Example

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def fisher_rows(
    model: PreTrainedModel,
    examples: Sequence[Example],
    pad_id: int,
    layers: Layers = "attention",
    max_tokens: int = 1024,
    ids: Sequence[str] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows int64[b], float32[b, p]) per batch, p = Σ d_out over the layers in the model's order.

    The empirical Fisher diagonal of example i is the square of its gradient G = Σ_t δ_t x_tᵀ; its mean over a
    weight's row o is Σ_in G[o, in]² / d_in = Σ_{t,t'} δ_t[o] δ_t'[o] (x_t·x_t') / d_in. The mean over a
    task's examples is the task's vector.
    """
    for done in gradients(model, FisherRows(linear_layers(model, layers)), examples, pad_id, max_tokens, ids):
        yield done.rows, done.vectors


class FisherRows:
    """The reduction behind ``fisher_rows``: through the t×t products of the inputs for short examples,
    through G for long ones."""

    def __init__(self, modules: Mapping[str, nn.Linear]) -> None:
        self.modules = modules
        ends = np.cumsum([module.out_features for module in modules.values()]).tolist()
        self.start = dict(zip(modules, [0, *ends[:-1]], strict=True))
        self.size: int = ends[-1]

    def keep(self, name: str, x: Tensor) -> Tensor:
        return x

    def add(self, name: str, kept: Tensor, delta: Tensor, out: Tensor) -> None:
        squares = row_squares(kept, delta)
        out[:, self.start[name] : self.start[name] + squares.shape[1]] += squares / kept.shape[2]


def row_squares(x: Tensor, delta: Tensor) -> Tensor:
    """float32[b, d_out]: Σ_in G[o, in]² of G = Σ_t δ_t x_tᵀ, for x [b, t, d_in] and δ [b, t, d_out]; without
    G for short examples."""
    x, delta = x.float(), delta.float()
    t, d_in, d_out = x.shape[1], x.shape[2], delta.shape[2]
    if t * (d_in + d_out) < d_in * d_out:
        return (delta * (x @ x.transpose(1, 2) @ delta)).sum(1)
    return (delta.transpose(1, 2) @ x).square().sum(2)
