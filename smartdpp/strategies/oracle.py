"""What a selection could be at best, where it is known which rows are worth choosing: the other end of the
scale that `random` begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import allocate, check_budget, interleave
from smartdpp.strategies.pool_order import by_task, started
from smartdpp.types import Pool, Selection


@dataclass(frozen=True)
class Oracle:
    """Rows whose own ``score`` is at least ``at_least``, the same number from every task as far as they
    reach, drawn within a task.

    It reads the truth (a label of relevance or of noise, from the corpus's field ``score``), so it is no way
    of choosing but the measure of those that cannot. It has no objective: every gain is 0. A smaller budget
    is not a prefix of a larger one's where a task ends.
    """

    honours: ClassVar[tuple[str, ...]] = ("start",)
    at_least: float = 0.5

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        if pool.score is None:
            raise InputError(
                "strategy=oracle needs to know which rows are worth choosing: a number with every row, which "
                "corpus.columns='{score: FIELD}' maps; corpus=arena has it"
            )
        _, blocks = by_task(pool)
        right = [rows[(pool.score[rows] >= self.at_least) & ~started(pool, rows)] for rows in blocks]
        right = [rng.permutation(rows) for rows in right if len(rows)]
        if (known := sum(map(len, right))) < budget:
            raise InputError(
                f"strategy=oracle: {known} rows of the pool have a score of at least {self.at_least:g}, and "
                f"the budget is {budget}; choose a smaller budget"
            )
        order = rng.permutation(len(right))  # which tasks get one more
        counts = allocate(np.ones(len(right)), np.array([len(right[i]) for i in order]), budget)
        chosen = [right[i][:count] for i, count in zip(order, counts, strict=True)]
        index = np.concatenate(chosen)[interleave(counts)]
        return Selection(index=index, gain=np.zeros(budget))
