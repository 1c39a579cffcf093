"""Two stages: one strategy keeps a share of the pool, another chooses from what it kept.

Superfiltering.D (Li et al., arXiv 2402.00530) keeps the 20 % of highest instruction-following difficulty
below 1, then takes 2 % of the pool by facility location.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id
from smartdpp.types import Pool, Selection, Strategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filtered:
    """``first`` chooses a ``share`` of the pool (rounded up, and no less than the budget, which is then
    logged), ``then`` the budget from it; both see the same quality and embedding. Order and gains are
    ``then``'s.

    While the budget is no more than the share, a smaller one is a prefix of a larger one if it is so with
    ``then``.
    """

    first: Strategy
    then: Strategy
    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(
                f"strategy.share is {self.share}: it is the part of the pool that the first strategy keeps, "
                "above 0 and at most 1."
            )
        for name, inside in (("first", self.first), ("then", self.then)):
            if getattr(inside, "query", None) is not None or getattr(inside, "rounds", 1) != 1:
                raise InputError(
                    f"strategy.{name} is {type(inside).__name__}, which needs a query or several rounds: "
                    "choose one that needs the pool alone."
                )
            if (inside.size(1000, 1), inside.size(1000, 2)) != (1, 2):
                raise InputError(
                    f"strategy.{name} is {type(inside).__name__}, which does not follow a budget."
                )

    def check(self) -> list[str]:
        return [problem for inside in (self.first, self.then) for problem in inside.check()]

    def size(self, n: int, budget: int) -> int:
        return budget

    @property
    def text(self) -> bool:
        return any(getattr(inside, "text", False) for inside in (self.first, self.then))

    def memory(self, n: int, d: int, budget: int, largest: int) -> float | None:
        """That of ``then``, the pool's features beside it."""
        keep = max(ceil(self.share * n), budget)
        found = (
            self.then.memory(keep, d, budget, min(largest, keep)) if hasattr(self.then, "memory") else None
        )
        return None if found is None else found + 4 * n * d

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        keep = ceil(self.share * len(pool))
        if keep < budget:
            logger.warning(
                "strategy.share=%g of the pool is %d examples, fewer than the budget: the first strategy "
                "keeps %d",
                self.share,
                keep,
                budget,
            )
        kept = self.first.select(pool, max(keep, budget), rng).index
        rows = by_id(pool)
        rows = rows[np.isin(rows, kept)]
        chosen = self.then.select(some(pool, rows), budget, rng)
        return Selection(index=rows[chosen.index], gain=chosen.gain)


def some(pool: Pool, rows: np.ndarray) -> Pool:
    """The pool of these rows (int64[k]) alone, numbered anew."""
    of_rows = {
        name: values[rows]
        for name in ("ids", "X", "task", "cost", "quality", "template")
        if (values := getattr(pool, name)) is not None
    }
    return replace(pool, **of_rows, text=None if pool.text is None else pool.text.take(rows))
