"""Where the work runs: a CUDA device when there is one, else the processor. Choose or hide GPUs with
CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def placed(weights: PreTrainedModel) -> PreTrainedModel:
    """The model, moved to the device."""
    weights.to(device())  # type: ignore[arg-type]  # transformers wraps nn.Module.to and loses its signature
    return weights


def compute_dtype() -> torch.dtype:
    """bfloat16 where the device multiplies it fast, else float32: on processors bfloat16 products are several
    times slower."""
    import torch

    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
