"""A reward model as a judge: the difference of two answers' scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.bounds import Count
from smartdpp.errors import InputError
from smartdpp.models.loading import refuse_not_finite, tokenizer_of, with_end
from smartdpp.models.tokens import encode, own_end
from smartdpp.runtime import threads
from smartdpp.runtime.device import compute_dtype, placed
from smartdpp.runtime.products import quick_products
from smartdpp.store.content import commit, model_content
from smartdpp.types import Question, Spent, Verdict


@dataclass(frozen=True)
class Reward:
    """A model for sequence classification with one number for its label: the preference is the logistic
    function of the scores' difference, as such models are trained (Bradley and Terry). It sees one answer at
    a time, so there is no order.

    It reads its own chat template, or where it has none the pair of instruction and answer.
    """

    path: str
    revision: str | None = None
    batch_size: Count = 8

    def check(self) -> list[str]:
        if self.path.startswith((".", "/", "~")) and self._folder() is None:
            return [
                f"evaluation.judge.path={self.path}: there is no such folder; give one made by "
                "save_pretrained, or a hub name like org/model"
            ]
        return []

    def fingerprint(self) -> str:
        folder = self._folder()
        content = model_content(folder) if folder else commit(self.path, self.revision) or ""
        return with_end(content, lambda: own_end(tokenizer_of(**self._source())))

    def refusals(self, questions: int) -> list[str]:
        return []

    def stated(self, questions: int, characters: int) -> str:
        return f"{2 * questions} answers scored by {self.path}"

    def prepare(self) -> RewardAsking:
        from transformers import AutoModelForSequenceClassification

        source = self._source()
        tokenizer = tokenizer_of(**source)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            **source, dtype=compute_dtype(), use_safetensors=True, output_loading_info=True
        )
        if model.config.num_labels != 1 or loading["missing_keys"]:
            missing = ", ".join(sorted(loading["missing_keys"])[:2])
            what = f"its weights lack {missing}" if missing else f"it has {model.config.num_labels} labels"
            raise InputError(
                f"evaluation.judge.path={self.path} is no reward model, which has one number for its label: "
                f"{what}"
            )
        refuse_not_finite(model, f"evaluation.judge.path={self.path}")
        model.config.pad_token_id = tokenizer.pad_token_id  # by which it finds an answer's last token
        return RewardAsking(self, placed(model).eval(), tokenizer)

    def _source(self) -> dict[str, Any]:
        folder = self._folder()
        revision = None if folder else commit(self.path, self.revision) or self.revision
        return {"pretrained_model_name_or_path": str(folder or self.path), "revision": revision}

    def _folder(self) -> Path | None:
        folder = Path(self.path).expanduser()
        return folder if folder.is_dir() else None


@dataclass(frozen=True)
class RewardAsking:
    judge: Reward
    model: Any
    tokenizer: Any
    spent: Spent = field(default_factory=Spent)

    def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
        texts = [(q.instruction, text) for q in questions for text in (q.answer, q.reference)]
        ids = [self._tokens(*pair) for pair in texts]
        limit = getattr(self.model.config, "max_position_embeddings", None)
        fits = [i for i, one in enumerate(ids) if limit is None or len(one) <= limit]
        fits.sort(key=lambda i: -len(ids[i]))
        scores: dict[int, float] = {}
        for start in range(0, len(fits), self.judge.batch_size):
            threads.settle()
            batch = fits[start : start + self.judge.batch_size]
            scores |= zip(batch, self._scores([ids[i] for i in batch]), strict=True)
        self.spent.tokens += sum(len(ids[i]) for i in fits)
        return [_preferred(scores.get(i), scores.get(i + 1)) for i in range(0, len(ids), 2)]

    def _tokens(self, instruction: str, answer: str) -> list[int]:
        if self.tokenizer.chat_template is not None:
            return encode(self.tokenizer, "chat", instruction, answer).ids
        return self.tokenizer(instruction, answer, split_special_tokens=True)["input_ids"]

    def _scores(self, ids: list[list[int]]) -> list[float]:
        import torch

        padded = self.tokenizer.pad({"input_ids": ids}, padding_side="right", return_tensors="pt")
        with torch.inference_mode(), quick_products():
            return self.model(**padded.to(self.model.device)).logits[:, 0].double().tolist()


def _preferred(answer: float | None, reference: float | None) -> Verdict:
    if answer is None or reference is None:
        return Verdict(None, None)
    preference = float(1 / (1 + np.exp(-np.clip(answer - reference, -500, 500))))
    return Verdict(preference, preference)
