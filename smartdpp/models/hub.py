"""A causal language model by its name on the Hugging Face hub, or in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smartdpp.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
from smartdpp.models.loading import refuse_not_finite, tokenizer_of


@dataclass(frozen=True)
class Hub:
    """Any causal language model by hub name or local directory. Code that comes with a model runs only if ``trust_remote_code``."""

    path: str
    name: str
    format: Literal["plain", "chat"] = "plain"
    revision: str | None = None
    trust_remote_code: bool = False

    def check(self) -> list[str]:
        from smartdpp.models.anatomy import model_problems

        if self.path.startswith((".", "/", "~")) and self.folder() is None:
            return [f"model.path={self.path}: there is no such folder; give one made by save_pretrained, or a hub name like org/model"]
        return model_problems(self)

    def fingerprint(self) -> str:
        """A folder's configuration, tokenizer and weights by content; of a name on the hub the commit, empty where it is not known."""
        from smartdpp.store.content import commit, model_content

        folder = self.folder()
        return model_content(folder) if folder else commit(self.path, self.revision) or ""

    def folder(self) -> Path | None:
        """Where the model lies on this machine, if ``path`` is a folder."""
        folder = Path(self.path).expanduser()
        return folder if folder.is_dir() else None

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return tokenizer_of(**self.source())

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        model, loading = AutoModelForCausalLM.from_pretrained(**self.source(), use_safetensors=True, output_loading_info=True, **kwargs)
        first, whole = os.environ.get("LOCAL_RANK", "0") == "0", getattr(model.config, "quantization_config", None) is None
        if first and whole and (missing := sorted(loading["missing_keys"])):  # others may wait for the first one's weights
            raise InputError(
                f"model.path={self.path}: {len(missing)} tensors are not among its weights, first {missing[0]}, and would be random: give "
                "the whole model, made for causal language modelling"
            )
        refuse_not_finite(model, f"model.path={self.path}")
        return model

    def source(self) -> dict[str, Any]:
        """What ``from_pretrained`` wants to know: on the hub, the very commit that the fingerprint names."""
        from smartdpp.store.content import commit

        folder = self.folder()
        revision = None if folder else commit(self.path, self.revision) or self.revision
        path = str(folder or self.path)
        return {"pretrained_model_name_or_path": path, "revision": revision, "trust_remote_code": self.trust_remote_code}
