"""A model as finetuning left it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.models.anatomy import Anatomy, anatomy
from smartdpp.store.content import model_content

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Finetuned:
    """A model as finetuning left it in the folder ``adapter``: LoRA weights are merged, so that its layers
    have the base model's names."""

    base: Any
    adapter: str

    @property
    def name(self) -> str:
        return str(self.base.name)

    @property
    def format(self) -> str:
        return str(self.base.format)

    def check(self) -> list[str]:
        return list(self.base.check())

    def fingerprint(self) -> str:
        return model_content(Path(self.adapter).expanduser())

    def anatomy(self) -> Anatomy | None:
        return anatomy(self.base)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.base.tokenizer()

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from peft import PeftModel

        model = load_finetuned(self.base, Path(self.adapter), **kwargs)
        return model.merge_and_unload() if isinstance(model, PeftModel) else model


def load_finetuned(model: Any, adapter: Path | None, **kwargs: Any) -> PreTrainedModel:
    """The base model (``adapter`` None), with a LoRA adapter on top, or the whole weights that full
    finetuning left there."""
    if adapter is None:
        return model.load(**kwargs)
    if (adapter / "adapter_config.json").is_file():
        from peft import PeftModel

        return PeftModel.from_pretrained(model.load(**kwargs), adapter)
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(adapter, use_safetensors=True, **kwargs)
