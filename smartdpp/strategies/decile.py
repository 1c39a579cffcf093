"""A slice of the pool by its distance to a target: what shows, trained on slice by slice, whether the
distance means anything. See smartdpp.influence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.features import Features
from smartdpp.functions.mutual_information import query_of
from smartdpp.runtime.memory import selection
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id, targets
from smartdpp.strategies.query_rules import closeness
from smartdpp.types import Pool, Query, Selection

DECILES = 10


@dataclass(frozen=True)
class Decile:
    """``budget`` rows on end in the ranking by mean cosine to the query, from the nearest: the ``decile`` 1
    begins with the first of it, 10 ends with the last, those between are evenly apart, so that of a budget of
    n / 10 they are its tenths. Ties go to the first id."""

    query: Query
    decile: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.decile <= DECILES:
            raise InputError(f"strategy.decile is {self.decile}: it is one of 1 (nearest) to {DECILES}.")

    def check(self) -> list[str]:
        return self.query.check()

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float | None:
        return selection(n, d) + 16 * n

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        query, _ = targets(pool, "decile")
        rows = by_id(pool)
        near = nearness(pool.X[rows], query)
        order = np.argsort(-near, kind="stable")
        first = round((self.decile - 1) * (len(rows) - budget) / (DECILES - 1))
        chosen = order[first : first + budget]
        return Selection(rows[chosen], near[chosen].astype(np.float64))


def nearness(X: np.ndarray, query: np.ndarray) -> np.ndarray:
    """float32[n]: the mean cosine of each row to the query's."""
    features = Features(X)
    return closeness(features, query_of(query, features), [np.arange(len(query))], "mean")[0]
