"""A causal language model on this machine as a judge: how likely it finds either letter as its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smartdpp.bounds import Count
from smartdpp.judge import template
from smartdpp.models.anatomy import known
from smartdpp.models.tokens import encode
from smartdpp.runtime import threads
from smartdpp.runtime.device import compute_dtype, placed
from smartdpp.runtime.products import quick_products
from smartdpp.store.disk import digest
from smartdpp.types import Model, Question, Spent, Verdict

LETTERS = ("A", "B")


@dataclass(frozen=True)
class Local:
    """The preference is p(A) / (p(A) + p(B)) of the next token, or p(B) / ..., in the order the answers are
    shown."""

    model: Model
    template: str | None = None
    batch_size: Count = 8

    def check(self) -> list[str]:
        return [
            *(f"evaluation.judge: {problem}" for problem in self.model.check()),
            *template.problems(self.template),
        ]

    def fingerprint(self) -> str:
        return digest(template.read(self.template))

    def refusals(self, questions: int) -> list[str]:
        return []

    def stated(self, questions: int, characters: int) -> str:
        return f"{2 * questions} questions to {self.model.name}"

    def prepare(self) -> LocalAsking:
        model = placed(self.model.load(dtype=compute_dtype())).eval()
        limit = of_model.limit if (of_model := known(self.model)) else None
        return LocalAsking(self, template.read(self.template), model, self.model.tokenizer(), limit)


@dataclass(frozen=True)
class LocalAsking:
    judge: Local
    text: str
    model: Any
    tokenizer: Any
    limit: int | None  # tokens that the model reads
    spent: Spent = field(default_factory=Spent)

    def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
        asked = [self._tokens(shown) for one in questions for shown in template.both_orders(self.text, one)]
        fits = [i for i, (ids, *_) in enumerate(asked) if self.limit is None or len(ids) <= self.limit]
        fits.sort(key=lambda i: -len(asked[i][0]))  # neighbours in length share a batch: less padding
        of_first: dict[int, float] = {}
        for start in range(0, len(fits), self.judge.batch_size):
            threads.settle()
            batch = fits[start : start + self.judge.batch_size]
            of_first |= zip(batch, self._of_first([asked[i] for i in batch]), strict=True)
        self.spent.tokens += sum(len(asked[i][0]) for i in fits)
        verdicts = []
        for i in range(0, len(asked), 2):
            second = of_first.get(i + 1)
            verdicts.append(Verdict(of_first.get(i), None if second is None else 1 - second))
        return verdicts

    def _tokens(self, text: str) -> tuple[list[int], int, int]:
        """All that both letters' tokens share, then the token in which they part."""
        a, b = (encode(self.tokenizer, self.judge.model.format, text, letter).ids[:-1] for letter in LETTERS)
        shared = next(i for i, (one, other) in enumerate(zip(a, b, strict=False)) if one != other)
        return a[:shared], a[shared], b[shared]

    def _of_first(self, asked: list[tuple[list[int], int, int]]) -> np.ndarray:
        """float64 for each: the probability of A, of the two letters'."""
        import torch

        padded = self.tokenizer.pad(
            {"input_ids": [ids for ids, *_ in asked]}, padding_side="left", return_tensors="pt"
        ).to(self.model.device)
        mask = padded["attention_mask"]
        with torch.inference_mode(), quick_products():
            logits = self.model(
                input_ids=padded["input_ids"],
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                logits_to_keep=1,
            ).logits[:, -1]
        letters = torch.tensor([[a, b] for _, a, b in asked], device=logits.device)
        return logits.gather(1, letters).double().softmax(-1)[:, 0].cpu().numpy()
