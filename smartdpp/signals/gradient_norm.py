"""The norm of each example's gradient, exactly, without the gradient.

For G = Σ_t δ_t x_tᵀ, ‖G‖² = Σ_{t,t'} (δ_t·δ_t') (x_t·x_t'): from the tokens' inner products, per layer and
example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.gradient import gradients, linear_layers
from smartdpp.gradient.fisher import row_squares
from smartdpp.gradient.layers import Layers
from smartdpp.models.turns import Example

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def gradient_norms(
    model: PreTrainedModel,
    examples: Sequence[Example],
    pad_id: int,
    max_tokens: int,
    ids: Sequence[str] | None = None,
    layers: Layers = "attention",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows int64[b], ‖∇ nll(y|x)‖₂ float64[b]) for every batch, over the weights of ``layers``."""
    for done in gradients(
        model, SquaredNorm(linear_layers(model, layers)), examples, pad_id, max_tokens, ids
    ):
        yield done.rows, np.sqrt(done.vectors[:, 0].astype(np.float64))


class SquaredNorm:
    """The reduction to ‖G‖² summed over layers."""

    size = 1

    def __init__(self, modules: Mapping[str, nn.Linear]) -> None:
        self.modules = modules

    def keep(self, name: str, x: Tensor) -> Tensor:
        return x

    def add(self, name: str, kept: Tensor, delta: Tensor, out: Tensor) -> None:
        # rounding can fall below 0 where the gradient is 0
        out[:, 0] += row_squares(kept, delta).sum(1).clamp(min=0)
