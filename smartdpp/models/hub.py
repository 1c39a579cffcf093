"""A causal language model by its name on the Hugging Face hub, or in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smartdpp.errors import InputError
from smartdpp.models.anatomy import Anatomy, folder_problems, headless, of_folder, snapshot
from smartdpp.models.loading import refuse_not_finite, tokenizer_of, with_end
from smartdpp.models.tokens import own_end
from smartdpp.store.content import commit, model_content

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Hub:
    """Any causal language model by hub name or local directory. Code that comes with a model runs only if
    ``trust_remote_code``."""

    path: str
    name: str
    format: Literal["plain", "chat"] = "plain"
    revision: str | None = None
    trust_remote_code: bool = False

    def check(self) -> list[str]:
        if self.path.startswith((".", "/", "~")) and self.folder() is None:
            return [
                f"model.path={self.path}: there is no such folder; give one made by save_pretrained, or a "
                "hub name like org/model"
            ]
        return [f"model.path={self.path} {problem}" for problem in dict.fromkeys(self._problems())]

    def _problems(self) -> Iterator[str]:
        folder = self.folder()
        if folder:
            yield from folder_problems(folder)
            if (folder / "adapter_config.json").exists():
                return
        if known := self.anatomy():
            yield from known.problems
            if folder and not known.problems:
                yield from headless(folder, known)
            if self.format == "chat" and known.chat:
                yield f"cannot be used with model.format=chat, as {known.chat}: use model.format=plain"

    def anatomy(self) -> Anatomy | None:
        return of_folder(
            self.folder() or snapshot(self.path, commit(self.path, self.revision)), self.trust_remote_code
        )

    def fingerprint(self) -> str:
        """A folder's configuration, tokenizer and weights by content; of a name on the hub the commit, empty
        where it is not known. In the chat format also the end of its turns: see `with_end`."""
        folder = self.folder()
        content = model_content(folder) if folder else commit(self.path, self.revision) or ""
        return with_end(content, self._end) if self.format == "chat" else content

    def _end(self) -> str:
        """Asked of the tokenizer, which a run fetches first, where nothing is remembered of the model."""
        known = self.anatomy()
        return own_end(self.tokenizer()) if known is None or known.end is None else known.end

    def folder(self) -> Path | None:
        """Where the model lies on this machine, if ``path`` is a folder."""
        folder = Path(self.path).expanduser()
        return folder if folder.is_dir() else None

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return tokenizer_of(**self.source())

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        model, loading = AutoModelForCausalLM.from_pretrained(
            **self.source(), use_safetensors=True, output_loading_info=True, **kwargs
        )
        first, whole = (
            os.environ.get("LOCAL_RANK", "0") == "0",
            getattr(model.config, "quantization_config", None) is None,
        )
        # others may wait for the first one's weights
        if first and whole and (missing := sorted(loading["missing_keys"])):
            raise InputError(
                f"model.path={self.path}: {len(missing)} tensors are not among its weights, first "
                f"{missing[0]}, and would be random: give "
                "the whole model, made for causal language modelling"
            )
        refuse_not_finite(model, f"model.path={self.path}")
        return model

    def source(self) -> dict[str, Any]:
        """What ``from_pretrained`` wants to know: on the hub, the very commit that the fingerprint names."""
        folder = self.folder()
        revision = None if folder else commit(self.path, self.revision) or self.revision
        path = str(folder or self.path)
        return {
            "pretrained_model_name_or_path": path,
            "revision": revision,
            "trust_remote_code": self.trust_remote_code,
        }
