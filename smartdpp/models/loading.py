"""What every way of loading a model shares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def refuse_not_finite(model: PreTrainedModel, where: str) -> None:
    """InputError names the first tensor that holds NaN or an infinity. One read of all weights."""
    import torch

    for name, weights in model.named_parameters():
        if (
            weights.is_floating_point()
            and not weights.is_meta
            and weights.numel()
            and not torch.isfinite(weights.detach().abs().amax())
        ):
            bad = int((~torch.isfinite(weights.detach())).sum())
            raise InputError(
                f"{where}: {bad} of {weights.numel()} weights in {name} are NaN or infinite: the model is "
                "damaged, copy it again"
            )


def tokenizer_of(pretrained_model_name_or_path: Path | str, **kwargs: Any) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path, **kwargs)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked everywhere, so any token will do
    return tokenizer
