"""A quality score alone: the baseline that weighing quality against diversity has to beat (Wang et al., arXiv
2402.02318)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import check_budget, interleave
from smartdpp.strategies.pool_order import by_id, by_task, started
from smartdpp.strategies.scored import quality
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Top:
    """The examples of highest (or lowest) quality; ties go to the first id, and a smaller budget is a prefix
    of a larger one.

    Only a quality ``above`` and ``below`` these bounds counts (instruction-following difficulty is taken
    below 1: arXiv 2308.12032); how many that leaves out is logged, and a budget above what is left is
    refused. With ``per_task`` every task is ranked by itself and keeps its share of what is left, its best
    first.

    The gain is the score, negative where the lowest are taken: it falls along the selection, or along each
    task's part of it.
    """

    nested: ClassVar[bool] = True
    honours: ClassVar[tuple[str, ...]] = ("start",)
    direction: Literal["highest", "lowest"] = "highest"
    above: float | None = None
    below: float | None = None
    per_task: bool = False

    def __post_init__(self) -> None:
        if self.above is not None and self.below is not None and not self.above < self.below:
            raise InputError(
                f"strategy.above is {self.above} and strategy.below {self.below}: nothing lies between them."
            )

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        score = quality(pool, "top", "the first ids are taken")
        blocks = by_task(pool)[1] if self.per_task else [by_id(pool)]
        free = [block[~started(pool, block)] for block in blocks]
        blocks = [self._within(block, score) for block in free]
        self._refuse_too_few(sum(map(len, blocks)), sum(map(len, free)), budget)
        gain = score if self.direction == "highest" else -score
        blocks = [block[np.argsort(-gain[block], kind="stable")] for block in blocks if len(block)]
        order = interleave(np.array([len(block) for block in blocks]))
        index = np.concatenate(blocks)[order][:budget]
        return Selection(index=index, gain=gain[index])

    def _within(self, rows: np.ndarray, score: np.ndarray) -> np.ndarray:
        low, high = (
            (-np.inf if self.above is None else self.above),
            (np.inf if self.below is None else self.below),
        )
        return rows[(score[rows] > low) & (score[rows] < high)]

    def _refuse_too_few(self, left: int, n: int, budget: int) -> None:
        if left == n:
            return
        bounds = " and ".join(
            f"{word} {value:g}"
            for word, value in (("above", self.above), ("below", self.below))
            if value is not None
        )
        if left < budget:
            raise InputError(
                f"strategy=top: {left} of {n} examples have a quality {bounds}, fewer than the budget of "
                f"{budget}: choose a smaller budget or wider bounds."
            )
        logger.info("%d of %d examples are left out: their quality is not %s", n - left, n, bounds)
