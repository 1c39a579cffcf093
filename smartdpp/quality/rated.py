"""Scores by a model that rates: a reward model, or a causal model asked for a number from 1 to 5.

Both read a row's prompt and response; of a conversation, what the user says and what is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from smartdpp.bounds import Count, NotNegative
from smartdpp.errors import InputError
from smartdpp.quality.positive import positive

if TYPE_CHECKING:
    import pyarrow as pa

    from smartdpp.types import Model


@dataclass(frozen=True)
class Reward:
    """q = exp(r), r the number that a sequence classification model (smartdpp.models.reward) gives of prompt
    and response: log q, which theta weighs, is the reward itself."""

    model: Model
    better: Literal["higher", "lower"] = "higher"
    batch_tokens: Count = 4096
    processes: Count = 1
    passes: ClassVar[tuple[str, ...]] = ("reward",)
    text: ClassVar[bool] = False

    def check(self) -> list[str]:
        return self.model.check()

    def score(self, rows: pa.Table) -> np.ndarray:
        with np.errstate(over="ignore"):  # infinity is refused
            q = np.exp(rows["reward"].to_numpy())
        return positive(q, "reward", rows, invert=self.better == "lower")


@dataclass(frozen=True)
class Rated:
    """What a causal model answers to each of ``prompts``, "1" to "5" after prompt and response.

    ``form=expected``: the mean over prompts of Σ s p_s, in [1, 5]. ``form=selectit`` (arXiv 2402.16705): of
    each prompt the likeliest score times how far its probability is above the others, mean / (1 + ``alpha`` ·
    deviation) over the prompts.
    """

    model: Model
    prompts: list[str]
    form: Literal["expected", "selectit"] = "expected"
    alpha: NotNegative = 0.2
    better: Literal["higher", "lower"] = "higher"
    batch_tokens: Count = 4096
    processes: Count = 1
    passes: ClassVar[tuple[str, ...]] = ("rated",)
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise InputError("quality.prompts is empty, or one of them is: give at least one question.")

    def check(self) -> list[str]:
        return self.model.check()

    def score(self, rows: pa.Table) -> np.ndarray:
        expected, own, spread = (rows[name].to_numpy() for name in ("rating", "own_rating", "own_rating_sd"))
        q = expected if self.form == "expected" else own / (1 + self.alpha * spread)
        return positive(q, "rated", rows, invert=self.better == "lower")
