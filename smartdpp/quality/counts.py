"""Scores that need the corpus alone: its token counts, a number that came with each row, or nothing at all.

``n_tokens`` counts prompt, response and the end-of-sequence token that training adds; the response's own
count includes that last token, as it does in the loss, so it is at least 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.quality.positive import positive

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ResponseTokens:
    """Tokens the loss is taken on. The paper's best score on Alpaca (theta = 0.1)."""

    passes: ClassVar[tuple[str, ...]] = ()
    text: ClassVar[bool] = False

    def check(self) -> list[str]:
        return []

    def score(self, rows: pa.Table) -> np.ndarray:
        return positive(
            _numbers(rows, "n_tokens") - _numbers(rows, "n_prompt_tokens"), "response_tokens", rows
        )


@dataclass(frozen=True)
class PromptTokens:
    """Tokens of the prompt."""

    passes: ClassVar[tuple[str, ...]] = ()
    text: ClassVar[bool] = False

    def check(self) -> list[str]:
        return []

    def score(self, rows: pa.Table) -> np.ndarray:
        return positive(_numbers(rows, "n_prompt_tokens"), "prompt_tokens", rows)


@dataclass(frozen=True)
class TotalTokens:
    """Tokens of prompt and response."""

    passes: ClassVar[tuple[str, ...]] = ()
    text: ClassVar[bool] = False

    def check(self) -> list[str]:
        return []

    def score(self, rows: pa.Table) -> np.ndarray:
        return positive(_numbers(rows, "n_tokens"), "total_tokens", rows)


@dataclass(frozen=True)
class Constant:
    """The same score for every example: with it, any theta below 1 selects as theta = 0 does."""

    value: float = 1.0
    passes: ClassVar[tuple[str, ...]] = ()
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.value < np.inf:
            raise InputError(f"quality.value is {self.value}: a quality score must be a positive number.")

    def check(self) -> list[str]:
        return []

    def score(self, rows: pa.Table) -> np.ndarray:
        return np.full(len(rows), self.value)


@dataclass(frozen=True)
class Column:
    """A number that came with each row: a rating, a reward, a score made elsewhere. The corpus holds one, its
    field ``score``, taken from whatever field ``corpus.columns`` maps to it.

    ``better`` says which end is good: ``lower`` takes 1 / score. ``scale`` is ``log`` where the number is a
    logarithm, as rewards and log-probabilities are, which may be negative: q = exp(score), so that log q is
    the number itself.
    """

    better: Literal["higher", "lower"] = "higher"
    scale: Literal["linear", "log"] = "linear"
    passes: ClassVar[tuple[str, ...]] = ()
    text: ClassVar[bool] = False

    def check(self) -> list[str]:
        return []

    def score(self, rows: pa.Table) -> np.ndarray:
        missing = (
            rows["score"].is_null().to_numpy()
            if "score" in rows.column_names
            else np.ones(len(rows), dtype=bool)
        )
        if missing.any():
            raise InputError(
                f"quality=column: {missing.sum()} of {len(rows)} examples have no score, the first being "
                f"{rows['id'][int(missing.argmax())].as_py()!r}. Say which field of your rows holds it: "
                "corpus.columns='{score: their_name}'."
            )
        number = _numbers(rows, "score")
        with np.errstate(over="ignore"):  # infinity is refused below
            q = np.exp(number) if self.scale == "log" else number
        return positive(q, "column", rows, invert=self.better == "lower")


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    return rows[name].to_numpy().astype(np.float64)
