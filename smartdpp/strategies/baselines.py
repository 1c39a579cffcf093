"""The comparisons every table needs: a uniform draw, the whole pool, and no training data at all.

They have no objective, so every gain is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id, started
from smartdpp.types import Pool, Selection


@dataclass(frozen=True)
class Random:
    """Uniform without replacement: the first ``budget`` of one random order, so a smaller budget is a prefix
    of a larger one."""

    nested: ClassVar[bool] = True
    honours: ClassVar[tuple[str, ...]] = ("start",)

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        order = rng.permutation(by_id(pool))
        return Selection(index=order[~started(pool, order)][:budget], gain=np.zeros(budget))


@dataclass(frozen=True)
class Full:
    """Every example of the pool, whatever the budget, by id."""

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return n

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        return Selection(index=by_id(pool), gain=np.zeros(len(pool)))


@dataclass(frozen=True)
class Empty:
    """No examples: the base model, untouched."""

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return 0

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        return Selection(index=np.zeros(0, dtype=np.int64), gain=np.zeros(0))
