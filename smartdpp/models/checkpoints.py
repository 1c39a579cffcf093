"""A model at the checkpoints that a training kept.

step-0000026/ the adapter's weights, or all of them, as save_pretrained leaves them
    moments.safetensors Adam's moments of an adapter's weights, "<name>/m" and "<name>/v", float32
    checkpoint.json     step, steps, learning_rate: the mean since the checkpoint before
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.models.finetuned import load_finetuned
from smartdpp.store.disk import read_json
from smartdpp.types import Model

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

MOMENTS, FACTS = "moments.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """One of them."""

    path: Path
    step: int
    learning_rate: float


def folder(out: Path, step: int) -> Path:
    """Where a training that leaves its weights in ``out`` keeps that of a step."""
    return out / f"step-{step:07d}"


def checkpoints(out: Path) -> list[Checkpoint]:
    """Those that a training has kept in ``out``, in its order."""
    found = [(path.parent, read_json(path)) for path in sorted(out.glob(f"step-*/{FACTS}"))]
    return [Checkpoint(path, facts["step"], facts["learning_rate"]) for path, facts in found]


def loaded(model: Model, kept: list[Checkpoint], **kwargs: Any) -> Callable[[int], PreTrainedModel]:
    """``loaded(...)(i)`` is the model at the i-th of these checkpoints.

    Adapters stand side by side on one base model, of which one at a time is in use: what was returned for
    another is then that of this one. Of whole weights each is a model of its own.
    """
    if not (kept[0].path / "adapter_config.json").is_file():
        whole = [load_finetuned(model, one.path, **kwargs) for one in kept]
        return lambda i: whole[i]
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model.load(**kwargs), kept[0].path, adapter_name=_name(0))
    for i, one in enumerate(kept[1:], start=1):
        adapted.load_adapter(str(one.path), adapter_name=_name(i))

    def at(i: int) -> Any:
        adapted.set_adapter(_name(i))
        return adapted

    return at


def adapter_layers(model: nn.Module, i: int) -> dict[str, nn.Linear]:
    """Name -> the two linear layers of each adapter at the i-th checkpoint, A [r, d_in] and B [d_out, r] of
    y = W x + s B A x: the same names at each, those that ``moments`` has."""
    return {
        f"{name}.{side}": getattr(module, side)[_name(i)]
        for name, module in model.named_modules()
        for side in ("lora_A", "lora_B")
        if _name(i) in getattr(module, side, {})
    }


def moments(one: Checkpoint) -> dict[str, tuple[Tensor, Tensor]]:
    """Adam's running means m of the gradient and v of its square, by an adapter's layer, in the shape of its
    weights."""
    from safetensors.torch import load_file

    found = load_file(one.path / MOMENTS)
    return {
        name.removesuffix(".default.weight/m"): (m, found[name.removesuffix("m") + "v"])
        for name, m in found.items()
        if name.endswith("/m")
    }


def _name(i: int) -> str:
    return f"checkpoint{i}"
