"""Scores by what a language model makes of an example, before it is trained: one dataclass each, one equation
each.

x is the prompt, y the response with its end token, |y| its tokens, and nll(y|x) = -1/|y| Σ_t log p(y_t | x,
y_<t) in nats per token, so perplexity is exp(nll). nll(y) is the same with an empty prompt: the chat frame
around nothing, or in plain format the beginning-of-text token alone (the end-of-text token for a model
without one). Both are taken over the same tokens y.

``passes`` names the passes over the model that a score reads; each is made once and shared by all scores that
name it. ``better`` says which end is good. The paper's scores are taken raw (``higher``); ``lower`` takes 1 /
q, so that log q changes its sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.quality.positive import positive

if TYPE_CHECKING:
    import pyarrow as pa

    from smartdpp.types import Model


@dataclass(frozen=True)
class Perplexity:
    """q = exp(nll(y|x)), above 1: how surprising the response is. ``better=lower`` prefers what the model
    finds likely."""

    model: Model
    better: Literal["higher", "lower"] = "higher"
    batch_tokens: int = 4096
    processes: int = 1
    passes: ClassVar[tuple[str, ...]] = ("response",)
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _refuse_below_one(batch_tokens=self.batch_tokens, processes=self.processes)

    def check(self) -> list[str]:
        return self.model.check()

    def score(self, rows: pa.Table) -> np.ndarray:
        return positive(np.exp(rows["nll"].to_numpy()), "perplexity", rows, invert=self.better == "lower")


@dataclass(frozen=True)
class El2n:
    """q = 1/|y| Σ_t ‖p(· | x, y_<t) - onehot(y_t)‖₂, in (0, √2]: the error norm (Paul et al. 2021, arXiv
    2107.07075), mean over tokens."""

    model: Model
    better: Literal["higher", "lower"] = "higher"
    batch_tokens: int = 4096
    processes: int = 1
    passes: ClassVar[tuple[str, ...]] = ("response",)
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _refuse_below_one(batch_tokens=self.batch_tokens, processes=self.processes)

    def check(self) -> list[str]:
        return self.model.check()

    def score(self, rows: pa.Table) -> np.ndarray:
        return positive(rows["el2n"].to_numpy(), "el2n", rows, invert=self.better == "lower")


@dataclass(frozen=True)
class Ifd:
    """q = nll(y|x) / nll(y): instruction-following difficulty (Li et al. 2023, arXiv 2308.12032); with
    ``ratio=perplexities`` exp(nll(y|x) - nll(y)) (Superfiltering, arXiv 2402.00530), which is exp(-PMI).

    Near 1 the prompt does not help to predict the response; above 1 it misleads, which its authors discard as
    misaligned: ``strategy=top strategy.below=1``. Without that cut the highest are the mismatched ones.
    """

    model: Model
    better: Literal["higher", "lower"] = "higher"
    batch_tokens: int = 4096
    processes: int = 1
    ratio: Literal["losses", "perplexities"] = "losses"
    passes: ClassVar[tuple[str, ...]] = ("response", "alone")
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _refuse_below_one(batch_tokens=self.batch_tokens, processes=self.processes)

    def check(self) -> list[str]:
        return self.model.check()

    def score(self, rows: pa.Table) -> np.ndarray:
        given, alone = rows["nll"].to_numpy(), rows["nll_alone"].to_numpy()
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            q = given / alone if self.ratio == "losses" else np.exp(given - alone)
        return positive(q, "ifd", rows, invert=self.better == "lower")


@dataclass(frozen=True)
class Pmi:
    """q = exp(nll(y) - nll(y|x)): pointwise mutual information of prompt and response, log p(y|x) - log p(y),
    in nats per response token.

    PMI itself may be negative; its exponential is positive and its logarithm, which theta weighs, is the PMI.
    """

    model: Model
    better: Literal["higher", "lower"] = "higher"
    batch_tokens: int = 4096
    processes: int = 1
    passes: ClassVar[tuple[str, ...]] = ("response", "alone")
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _refuse_below_one(batch_tokens=self.batch_tokens, processes=self.processes)

    def check(self) -> list[str]:
        return self.model.check()

    def score(self, rows: pa.Table) -> np.ndarray:
        q = np.exp(rows["nll_alone"].to_numpy() - rows["nll"].to_numpy())
        return positive(q, "pmi", rows, invert=self.better == "lower")


@dataclass(frozen=True)
class GradientNorm:
    """q = ‖∇ nll(y|x)‖₂ over the weights of the attention projections: how far one step on this example would
    move the model."""

    model: Model
    better: Literal["higher", "lower"] = "higher"
    batch_tokens: int = 1024
    processes: int = 1
    passes: ClassVar[tuple[str, ...]] = ("gradient",)
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _refuse_below_one(batch_tokens=self.batch_tokens, processes=self.processes)

    def check(self) -> list[str]:
        return self.model.check()

    def score(self, rows: pa.Table) -> np.ndarray:
        return positive(
            rows["gradient_norm"].to_numpy(), "gradient_norm", rows, invert=self.better == "lower"
        )


def _refuse_below_one(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise InputError(f"quality.{name} is {value}: it must be at least 1")
