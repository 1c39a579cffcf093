"""A training on a share of the pool before anything is embedded, whose checkpoints say how the model learns:
what LESS and trajectories of the loss are read from.

Its rows are rows of the pool: nothing of the query and nothing that is scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.models.checkpoints import checkpoints
from smartdpp.types import Keep, Model, Recipe

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Warmup:
    """``recipe`` trains on round(share * n) of n rows, drawn by ``seed``, which is the training's too; of
    every epoch's last step, or of ``every`` so many, a checkpoint is kept."""

    recipe: Recipe
    share: float = 0.05
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(
                f"embedding.warmup.share is {self.share}: it is a share of the pool, above 0 and at most 1, "
                "as nothing can be read of a training on no rows"
            )
        if self.seed < 0:
            raise InputError(f"embedding.warmup.seed is {self.seed}: it must be at least 0")
        if self.every is not None and self.every < 1:
            raise InputError(
                f"embedding.warmup.every is {self.every}: it must be at least 1 step, or null for an epoch"
            )

    @property
    def keep(self) -> Keep:
        return self.every or "epoch"

    def check(self) -> list[str]:
        if self.recipe.parallel == "fsdp":
            return [
                "embedding.warmup.recipe.parallel=fsdp: no checkpoint is kept of weights in parts; use "
                "parallel=ddp"
            ]
        return self.recipe.check()

    def rows(self, n: int) -> int:
        return round(self.share * n)

    def too_few(self, n: int) -> list[str]:
        """What is wrong with the share of a pool of n rows."""
        if self.rows(n):
            return []
        return [
            f"embedding.warmup.share={self.share}: of a pool of {n} examples that is no row, and nothing can "
            f"be read of a training on none; choose at least {1 / n:.2g}"
        ]

    def kept(self, n: int) -> int:
        """How many checkpoints a warm-up on a pool of n rows leaves."""
        return len(self.recipe.kept(self.rows(n), self.keep))


def drawn(warmup: Warmup, rows: pa.Table) -> pa.Table:
    """The share of the table's rows: the same ones in whichever order the table is."""
    by_id = np.argsort(np.asarray(rows["id"].to_pylist(), dtype=np.dtypes.StringDType()), kind="stable")
    order = np.random.default_rng(warmup.seed).permutation(len(rows))
    return rows.take(by_id[order[: warmup.rows(len(rows))]])


def train(warmup: Warmup, model: Model, rows: pa.Table, out: Path) -> dict[str, Any]:
    """Leaves the training in ``out``; returns its facts. InputError where the share is no row."""
    if problems := warmup.too_few(len(rows)):
        raise InputError(problems[0])
    facts = warmup.recipe.train(model, drawn(warmup, rows), out, warmup.seed, None, warmup.keep)
    return {**facts, "n_pool": len(rows), "learning_rates": [one.learning_rate for one in checkpoints(out)]}


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line."""
    return (
        f"{facts['method']} on {facts['rows']} of {facts['n_pool']} rows, {facts['steps']} steps, "
        f"{len(facts['learning_rates'])} checkpoints, train loss {facts['train_loss']:.3f}"
    )
