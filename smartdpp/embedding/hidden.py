"""Hidden states of a causal language model, pooled over an example's tokens (Wang et al., arXiv 2402.02318,
compare with their mean; RDS+, arXiv 2503.01807, weighs them by position)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.models.anatomy import known
from smartdpp.models.batches import IGNORED, encoded, refuse_blank, run_batches
from smartdpp.runtime.device import compute_dtype, placed
from smartdpp.runtime.memory import PACKED, vectors

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor
    from transformers import PreTrainedModel

    from smartdpp.models.batches import Batch
    from smartdpp.types import Model

Pooling = Literal["mean", "last", "position"]
Tokens = Literal["all", "prompt", "response"]


@dataclass(frozen=True)
class Hidden:
    """float32[n, hidden size]: h = mean over ``tokens`` of layer ``layer``'s states, the state of the last of
    them, or by ``position`` Σ_t t h_t / Σ_t t, t = 1, 2, ... in the order of these tokens: later ones have
    read more.

    ``layer`` 0 is the token embeddings, l the output of the l-th block, -1 the last layer after the model's
    final norm. ``tokens`` are all of them, the prompt's, or the response's with its end token; the model
    always reads the whole example. ``normalize`` divides by the L2 norm, as a dot-product kernel needs.
    """

    model: Model
    layer: int = -1
    pooling: Pooling = "mean"
    tokens: Tokens = "all"
    normalize: bool = True
    batch_tokens: int = 4096
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "processes"):
            if getattr(self, name) < 1:
                raise InputError(f"embedding.{name} is {getattr(self, name)}: it must be at least 1")

    def check(self) -> list[str]:
        return self.model.check()

    def fingerprint(self) -> str:
        return ""

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        """Loads the model; InputError for a layer that it does not have, and for rows without a response."""
        import torch

        tokenizer = self.model.tokenizer()
        refuse_blank(tokenizer, self.model.format, rows)
        weights = placed(self.model.load(dtype=compute_dtype())).eval()
        layer = _layer(self.layer, weights)

        @torch.inference_mode()
        def states(batch: Batch) -> np.ndarray:
            batch = batch.to(weights.device)
            # no attention mask: padding stands to the right, where causal attention never looks; no logits
            # are made
            out = weights.base_model(input_ids=batch.input_ids, use_cache=False, output_hidden_states=True)
            return (
                pooled(out.hidden_states[layer].float(), _where(batch, self.tokens), self.pooling)
                .cpu()
                .numpy()
            )

        def encode(shard: pa.Table) -> np.ndarray:
            examples = encoded(tokenizer, self.model.format, shard)
            X = np.empty((len(shard), weights.get_input_embeddings().weight.shape[1]), dtype=np.float32)
            for batch, part in run_batches(
                examples, self.batch_tokens, tokenizer.pad_token_id, states, shard["id"].to_pylist()
            ):
                X[batch.rows] = part
            return X / np.linalg.norm(X, axis=1, keepdims=True) if self.normalize else X

        return encode

    def cut(self, rows: pa.Table) -> tuple[int, int]:
        return 0, 0

    def columns(self, n: int) -> int | None:
        sizes = known(self.model)
        return sizes.hidden if sizes else None

    def memory(self, n: int, d: int, text: float, longest: int, wide: int) -> float | None:
        if (sizes := known(self.model)) is None:
            return None
        kept = sizes.layers * sizes.hidden + sizes.kept
        weights, tokens = PACKED * sizes.parameters * wide, max(longest, self.batch_tokens)
        return vectors(n, d, text) + weights + tokens * kept * 4 + 256 * d * 8


def pooled(states: Tensor, where: Tensor, pooling: Pooling) -> Tensor:
    """float32[b, h] from states float32[b, t, h]: their mean over ``where`` (bool[b, t], some in every row),
    the mean weighted by position there, or the last of them."""
    import torch

    if pooling == "position":
        weight = where.cumsum(1) * where
        return (states * (weight / weight.sum(1, keepdim=True))[..., None]).sum(1)
    if pooling == "mean":
        return (states * where[..., None]).sum(1) / where.sum(1, keepdim=True)
    last = where.shape[1] - 1 - where.flip(1).int().argmax(1)
    return states[torch.arange(len(states), device=states.device), last]


def _where(batch: Batch, tokens: Tokens) -> Tensor:
    response = batch.labels != IGNORED
    return {
        "all": batch.attention_mask.bool(),
        "prompt": batch.attention_mask.bool() & ~response,
        "response": response,
    }[tokens]


def _layer(layer: int, model: PreTrainedModel) -> int:
    n: int = model.config.get_text_config().num_hidden_layers
    if not -n - 1 <= layer <= n:
        raise InputError(
            f"embedding.layer is {layer}, but the model has {n} layers: choose 0 (token embeddings) to {n}, "
            f"or -1 to {-n - 1}."
        )
    return layer
