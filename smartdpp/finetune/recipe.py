"""A recipe's numbers, and what of them no training can have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from smartdpp.errors import InputError
from smartdpp.finetune.steps import Deal
from smartdpp.models.anatomy import Anatomy
from smartdpp.runtime.memory import SPARE
from smartdpp.types import Keep

# tokens and entries of the vocabulary whose logits TRL's loss makes at a time
TILE, WIDTH = 4096, 32768


@dataclass(frozen=True)
class Hyperparameters:
    """One training's numbers: ``ceil(epochs * ceil(rows / batch_size))`` optimiser steps, as an epoch's last
    step takes the rows that are left. Equal budgets take equal steps."""

    method: Literal["lora", "qlora", "full"] = "lora"
    learning_rate: float = 5e-4
    epochs: float = 1.0
    batch_size: int = 8  # rows per optimiser step, over all processes
    micro_batch_size: int = 8  # rows per forward pass and process, at most
    weight_decay: float = 0.0
    warmup: float = 0.03  # share of the steps; none where that rounds to 0 (see peak_share)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    max_grad_norm: float = 1.0
    rank: int = 16  # LoRA and QLoRA only, as alpha, dropout and target_modules
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"
    gradient_checkpointing: bool = False
    # rows of similar length share a batch: a third less padding; batches come in random order
    group_by_length: bool = True
    save_steps: int = 10  # optimiser steps between checkpoints
    processes: int = 1
    # every process holds the whole model | its part of the weights, gradients and optimiser
    parallel: Literal["ddp", "fsdp"] = "ddp"
    # a step's loss is the mean over its response tokens | over its examples' own means
    loss: Literal["token", "example"] = "token"

    def __post_init__(self) -> None:
        problems = [f"recipe.{name}={getattr(self, name)}: {right}" for name, right in _out_of_range(self)]
        if problems:
            raise InputError("\n".join(problems))
        if self.parallel == "fsdp" and (self.method != "full" or self.processes == 1):
            raise InputError(
                "recipe.parallel=fsdp shards the training of all weights over several processes, and "
                f"recipe.method={self.method}, "
                f"recipe.processes={self.processes}: use method=full and processes=N, or parallel=ddp"
            )

    @property
    def deal(self) -> Deal:
        return Deal(self.batch_size, self.micro_batch_size, self.processes)

    def check(self) -> list[str]:
        if self.method != "qlora" and self.parallel != "fsdp":
            return []
        import torch

        if self.parallel == "fsdp":
            gpus = torch.cuda.device_count()
            needs = (
                f"recipe.parallel=fsdp needs a CUDA device for each of its {self.processes} processes and "
                f"this machine has {gpus or 'none'}"
            )
            return (
                []
                if gpus >= self.processes
                else [f"{needs}: choose recipe.processes to fit, or recipe.parallel=ddp"]
            )
        if not torch.cuda.is_available():
            return [
                "recipe=qlora needs a CUDA device for its 4-bit weights and this machine has none: use "
                "recipe=lora"
            ]
        from importlib.util import find_spec

        return (
            []
            if find_spec("bitsandbytes")
            else ["recipe=qlora needs bitsandbytes: pip install 'smartdpp[qlora]'"]
        )

    def epoch(self, rows: int) -> int:
        """Steps of one epoch."""
        return math.ceil(rows / self.batch_size)

    def steps(self, rows: int) -> int:
        return math.ceil(self.epochs * self.epoch(rows))

    def mark(self, rows: int | None) -> dict[str, str]:
        """What a training's key says of steps that were ceil(epochs * rows / batch_size) until epochs were
        made whole: nothing where that is the same. ``rows`` None: only the work tells how many."""
        before = None if rows is None else math.ceil(self.epochs * rows / self.batch_size)
        same = self.epochs == 1 if rows is None else self.steps(rows) == before
        return {} if same else {"epochs": "whole"}

    def kept(self, rows: int, keep: Keep) -> list[int]:
        """After which steps a checkpoint is kept; the last step is always among them."""
        if keep is None:
            return []
        every = self.epoch(rows) if keep == "epoch" else keep
        last = self.steps(rows)
        return [*range(every, last, every), last]

    def memory(self, sizes: Anatomy, longest: int, wide: int) -> float:
        """Bytes in one process: weights, gradients and AdamW's two moments, what the layers keep of a
        micro-batch of the longest rows, and six tiles of logits, as if nearly all of it were response;
        ``wide`` bytes a number."""
        P, tokens = sizes.parameters, self.micro_batch_size * longest
        if self.method == "full":
            weights = 16 * P / (self.processes if self.parallel == "fsdp" else 1) + (
                P * wide if wide < 4 else 0
            )
        else:
            weights = P * (0.6 if self.method == "qlora" else wide) + 16 * self.rank * sizes.widths
        layers = (
            sizes.hidden * sizes.layers + sizes.kept
            if self.gradient_checkpointing
            else sizes.kept * sizes.layers
        )
        return (
            weights
            + SPARE * tokens * layers * wide
            + 6 * 4 * min(tokens, TILE) * min(sizes.vocabulary, WIDTH)
        )


def _out_of_range(recipe: Hyperparameters) -> Iterator[tuple[str, str]]:
    """Every number of the recipe that no training can have, with what would be right."""
    for name in ("batch_size", "micro_batch_size", "rank", "alpha", "save_steps", "processes"):
        value = getattr(recipe, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield name, "it must be a whole number above 0"
    for names, fits, right in (
        (
            ("learning_rate", "epochs", "max_grad_norm"),
            lambda value: 0 < value < math.inf,
            "it must be a finite number above 0",
        ),
        (("weight_decay",), lambda value: 0 <= value < math.inf, "it must be a finite number, at least 0"),
        (
            ("warmup",),
            lambda value: 0 <= value < 1,
            "it is a share of the steps: at least 0 and below 1 (0.03 is 3 % of them)",
        ),
        (("dropout",), lambda value: 0 <= value < 1, "it is a probability: at least 0 and below 1"),
    ):
        for name in names:
            value = getattr(recipe, name)
            # NaN fits nothing
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
                yield name, right
