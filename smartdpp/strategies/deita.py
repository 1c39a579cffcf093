"""The best that is not yet said: rows by falling quality, without those that resemble one already kept.

The Repr Filter of DEITA (Liu et al., arXiv 2312.15685): with its score of complexity times quality as
``quality=column``; any other quality will do.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.dedup import leaders
from smartdpp.strategies.pool_order import by_id
from smartdpp.strategies.scored import quality
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deita:
    """Rows are read by falling quality (ties by id); one is kept unless its cosine with a kept one reaches
    ``threshold``, and reading ends with the budget.

    Where the kept ones are fewer than the budget, those that were passed over fill it by quality, and their
    number is logged. The gain is the score; a smaller budget is a prefix of a larger one.
    """

    nested: ClassVar[bool] = True
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InputError(
                f"strategy.threshold is {self.threshold}: it is a cosine, above 0 and at most 1 (0.9 is "
                "DEITA's)."
            )

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        score, rows = quality(pool, "deita", "rows are read by id"), by_id(pool)
        rows = rows[np.argsort(-score[rows], kind="stable")]
        kept = leaders(pool.X, rows, self.threshold, most=budget)
        missing = budget - int(kept.sum())
        if missing > 0:
            logger.warning(
                "only %d examples are no near-copies of better ones (cosine of %g or more): the best %d of "
                "the others fill the budget of %d",
                budget - missing,
                self.threshold,
                missing,
                budget,
            )
        index = np.concatenate([rows[kept], rows[~kept]])[:budget]
        return Selection(index=index, gain=score[index])
