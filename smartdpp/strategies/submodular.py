"""One submodular function over the whole pool, tasks unseen: by facility location the coverage baseline of
the DPP paper (Wang et al., arXiv 2402.02318), and what SMART's second stage would do without its first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.functions import FacilityLocation, LogDet
from smartdpp.functions.state import Function
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.complete import complete
from smartdpp.strategies.pool_order import by_id, started
from smartdpp.strategies.spread import choose, memory
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submodular:
    """``function`` makes f from the features (n, d). The selection is f's greedy order, so a smaller budget
    is a prefix of a larger one; where f stops before copies (a log determinant without ridge), copies fill
    the budget, by id. Under a budget in tokens it is asked for gains per token alone.
    """

    nested: ClassVar[bool] = True
    function: Callable[[np.ndarray], Function] = FacilityLocation

    @property
    def honours(self) -> tuple[str, ...]:
        """A log determinant's gains are negative where rows resemble each other: none of them per token."""
        made = getattr(self.function, "func", self.function)
        return ("start", "outside") if made is LogDet else ("start", "outside", "per_token")

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float:
        return memory(self.function, n, d, budget)

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        rows = by_id(pool)
        start = np.flatnonzero(started(pool, rows))
        if pool.asked and pool.asked.tokens is not None:
            chosen = choose(
                self.function, pool.X, rows, pool.asked.tokens, start=start, costs=pool.cost[rows]
            )
            if negative := int((chosen.gain < 0).sum()):
                logger.warning("%d gains are negative: per token they favour long examples", negative)
            return Selection(index=rows[chosen.index], gain=chosen.gain)
        chosen = choose(self.function, pool.X, rows, budget, start=start)
        if len(chosen) < budget:
            chosen = complete(chosen, budget, bonus=np.zeros(len(pool)), taken=start)
        return Selection(index=rows[chosen.index], gain=chosen.gain)
