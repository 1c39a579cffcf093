"""Scores per example: q > 0, higher means better, weighed against diversity by the DPP's theta (arXiv 2402.02318).

These come from the corpus's token counts alone. ``n_tokens`` counts prompt, response and the end-of-sequence token that
training adds; the response's own count includes that last token, as it does in the loss, so it is at least 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ResponseTokens:
    """Tokens the loss is taken on. The paper's best score on Alpaca (theta = 0.1)."""

    def score(self, rows: pa.Table) -> np.ndarray:
        return _positive(_column(rows, "n_tokens") - _column(rows, "n_prompt_tokens"), "response_tokens", rows)


@dataclass(frozen=True)
class PromptTokens:
    """Tokens of the prompt."""

    def score(self, rows: pa.Table) -> np.ndarray:
        return _positive(_column(rows, "n_prompt_tokens"), "prompt_tokens", rows)


@dataclass(frozen=True)
class TotalTokens:
    """Tokens of prompt and response."""

    def score(self, rows: pa.Table) -> np.ndarray:
        return _positive(_column(rows, "n_tokens"), "total_tokens", rows)


@dataclass(frozen=True)
class Constant:
    """The same score for every example: with it, any theta below 1 selects as theta = 0 does."""

    value: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.value < np.inf:
            raise InputError(f"quality.value is {self.value}: a quality score must be a positive number.")

    def score(self, rows: pa.Table) -> np.ndarray:
        return np.full(len(rows), self.value)


def _column(rows: pa.Table, name: str) -> np.ndarray:
    return rows[name].to_numpy().astype(np.float64)


def _positive(score: np.ndarray, name: str, rows: pa.Table) -> np.ndarray:
    """The score itself; InputError where it is not a positive number, because its logarithm weighs the selection."""
    bad = np.flatnonzero(~(score > 0))
    if len(bad):
        raise InputError(
            f"quality={name} is not positive for {len(bad)} of {len(score)} examples, the first being "
            f"{rows['id'][int(bad[0])].as_py()!r} ({score[bad[0]]:g}): drop these examples or choose another quality."
        )
    return score
