"""Explicit mixing: the share of each task is given, as mixture laws and recipes write them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.mixing import HONOURS, mix, shuffled_tasks
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """``weights`` in any scale: p_i = w_i / sum of w; a task that is not named gives nothing. Shares are of
    examples, or of tokens where the budget is in tokens. Rows are drawn at random inside a task. Where a task
    holds less than its share, the others make up for it, which is logged, unless ``repeat`` lets its rows be
    seen again.
    """

    honours: ClassVar[tuple[str, ...]] = tuple(name for name in HONOURS if name != "weights")
    weights: dict[str, float]

    def __post_init__(self) -> None:
        values = list(self.weights.values())
        if not all(0 <= value < np.inf for value in values) or not sum(values) > 0:
            raise InputError(
                f"strategy.weights is {self.weights}: give tasks positive numbers, as {{a: 0.7, b: 0.3}}."
            )

    @property
    def named(self) -> tuple[str, ...]:
        return tuple(self.weights)

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        tasks, blocks = shuffled_tasks(pool, rng, budget)
        names = [pool.names[task] for task in tasks]
        if unknown := [name for name in self.weights if name not in names]:
            raise InputError(
                f"strategy.weights names {', '.join(map(repr, unknown))}: the pool's tasks are "
                f"{', '.join(names[:20])}{' and others' if len(names) > 20 else ''}."
            )
        weights = np.array([float(self.weights.get(name, 0)) for name in names])
        selection = mix(pool, tasks, blocks, weights, budget)
        spent = np.ones(len(pool)) if pool.asked is None or pool.asked.tokens is None else pool.cost
        given = np.bincount(pool.task[selection.index], spent[selection.index], minlength=len(pool.names))[
            tasks
        ]
        for name, wanted, got in zip(names, weights / weights.sum(), given / given.sum(), strict=True):
            if abs(got - wanted) > 0.01:
                logger.info(
                    "task %r: %.1f %% of the mixture, %.1f %% were asked for", name, 100 * got, 100 * wanted
                )
        return selection
