"""Where the work runs: a CUDA device when there is one, else the processor. Choose or hide GPUs with
CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from smartdpp.store import remote
from smartdpp.store.disk import write_text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
T = TypeVar("T")


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


def in_one_precision(build: Callable[[Path], T], out: Path) -> T:
    """``build(out)``, which goes on from what an interrupted one has left there: if that computed in another
    dtype, on another device, it is told and removed, as one artifact would hold both.

    A file beside ``out`` says in which, as long as it is not finished; without one it is taken to be the
    same.
    """
    now, said = str(compute_dtype()).removeprefix("torch."), out.with_name(f".{out.name}.dtype")
    left = any(out.iterdir())
    before = said.read_text(encoding="utf-8") if left and said.is_file() else now
    if before != now:
        log.warning(
            "%s: an interrupted build has computed in %s, and this machine computes in %s: starting afresh",
            remote.shown(out),
            before,
            now,
        )
        shutil.rmtree(out)
        out.mkdir()
    if not left or before != now:
        write_text(said, now)
    found = build(out)
    said.unlink(missing_ok=True)
    return found
