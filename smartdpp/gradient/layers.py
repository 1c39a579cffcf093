"""Which linear layers of a model the gradient is taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from smartdpp.errors import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Layers = Literal["attention", "all_linear"]


def linear_layers(model: PreTrainedModel, layers: Layers = "attention") -> dict[str, nn.Linear]:
    """Name -> layer in the model's own order. InputError when there are none.

    ``attention``: the linear layers inside attention blocks, which is q, k, v and o in Llama-like models
    (arXiv 2402.02318); ``all_linear``: these and the feed-forward ones. The layer that makes the logits
    counts as an embedding, and is never among them.
    """
    from torch import nn

    if layers not in ("attention", "all_linear"):
        raise InputError(f"layers={layers!r}: choose attention or all_linear")
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    }
    if layers == "attention":
        linear = {
            name: module
            for name, module in linear.items()
            if any("attn" in p or "attention" in p for p in name.split("."))
        }
    if not linear:
        raise InputError(
            f"{type(model).__name__} has no linear layer that layers={layers} means: gradients need a "
            "transformer whose attention "
            "is made of nn.Linear layers (Llama-like); layers=all_linear takes every nn.Linear"
        )
    return linear
