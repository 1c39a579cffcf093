"""A quality score alone: the baseline that weighing quality against diversity has to beat (Wang et al., arXiv
2402.02318)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Top:
    """The examples of highest (or lowest) quality; ties go to the first id, and a smaller budget is a prefix
    of a larger one.

    The gain is the score, negative where the lowest are taken: it falls along the selection.
    """

    direction: Literal["highest", "lowest"] = "highest"

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        if pool.quality is None:
            raise InputError(
                "strategy=top ranks by quality, but there is none: choose one (quality=response_tokens)."
            )
        if np.ptp(pool.quality) == 0:
            logger.warning(
                "strategy=top: the quality is the same for every example, so the first ids are taken"
            )
        rows = by_id(pool)
        gain = pool.quality[rows] if self.direction == "highest" else -pool.quality[rows]
        order = np.argsort(-gain, kind="stable")[:budget]
        return Selection(index=rows[order], gain=gain[order].astype(np.float64))
