"""Mixing baselines: a share for every task, then examples drawn at random inside each.

The row order of each task is drawn once for the whole pool, before the budget is looked at. A task's examples
under a smaller budget are therefore among its examples under a larger one, as long as its count does not
fall, which rounding can make it do by one. The selection interleaves the tasks. There is no objective, so
every gain is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import (
    check_budget,
    check_num_tasks,
    interleave,
    paid,
    share_out,
    weighted,
)
from smartdpp.strategies.pool_order import by_task, started
from smartdpp.types import Pool, Selection

HONOURS = ("tokens", "weights", "max_share", "repeat", "start")


@dataclass(frozen=True)
class Proportional:
    """Examples-proportional mixing: p_i ∝ min(n_i, cap)."""

    honours: ClassVar[tuple[str, ...]] = HONOURS

    cap: int | None = None

    def __post_init__(self) -> None:
        if self.cap is not None and self.cap < 1:
            raise InputError(
                f"strategy.cap is {self.cap}: give a positive number of examples, or null for no cap."
            )

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        tasks, blocks = shuffled_tasks(pool, rng, budget)
        sizes = _sizes(blocks)
        return mix(pool, tasks, blocks, sizes if self.cap is None else np.minimum(sizes, self.cap), budget)


@dataclass(frozen=True)
class Equal:
    """Equal mixing: p_i = 1/M."""

    honours: ClassVar[tuple[str, ...]] = HONOURS

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        tasks, blocks = shuffled_tasks(pool, rng, budget)
        return mix(pool, tasks, blocks, np.ones(len(blocks)), budget)


@dataclass(frozen=True)
class Temperature:
    """Temperature mixing: p_i ∝ n_i^(1/T). T = 1 is proportional mixing; a large T approaches equal
    mixing."""

    honours: ClassVar[tuple[str, ...]] = HONOURS
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0.1:
            raise InputError(
                f"strategy.temperature is {self.temperature}: give 0.1 or more (1 is proportional, larger "
                "is more equal)."
            )

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        tasks, blocks = shuffled_tasks(pool, rng, budget)
        return mix(pool, tasks, blocks, _sizes(blocks) ** (1 / self.temperature), budget)


@dataclass(frozen=True)
class RandomTasks:
    """A random subset of the tasks, equal shares: the official SMART code's ``random``. None keeps every
    task."""

    honours: ClassVar[tuple[str, ...]] = HONOURS
    num_tasks: int | None = None

    def __post_init__(self) -> None:
        if self.num_tasks is not None and self.num_tasks < 1:
            raise InputError(
                f"strategy.num_tasks is {self.num_tasks}: give a positive number of tasks, or null for all."
            )

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        tasks, blocks = shuffled_tasks(pool, rng, budget)
        chosen = rng.permutation(len(blocks))[: check_num_tasks(self.num_tasks, len(blocks))]
        of_chosen = [blocks[j] for j in chosen]
        return mix(pool, tasks[chosen], of_chosen, np.ones(len(chosen)), budget, largest_first=False)


def shuffled_tasks(pool: Pool, rng: np.random.Generator, budget: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The tasks by name (int64[M], into the pool's) and each one's rows in random order, without those that
    are chosen already. InputError for a budget of more rows than there are."""
    if pool.asked is None or pool.asked.repeat is None:
        check_budget(budget, len(pool))
    tasks, blocks = by_task(pool)
    drawn = [rng.permutation(rows) for rows in blocks]
    return tasks, [rows[~started(pool, rows)] for rows in drawn]


def _sizes(blocks: list[np.ndarray]) -> np.ndarray:
    return np.array([len(block) for block in blocks])


def mix(
    pool: Pool,
    tasks: np.ndarray,
    blocks: list[np.ndarray],
    weights: np.ndarray,
    budget: int,
    *,
    largest_first: bool = True,
) -> Selection:
    """The first rows of each block, as many as its weight earns, from the beginning again where rows may be
    repeated; blocks with equal weights keep their order. Under a budget in tokens weights earn tokens."""
    weights = weighted(pool, tasks, weights)
    if largest_first:
        order = np.argsort(-weights, kind="stable")
        tasks, blocks, weights = tasks[order], [blocks[j] for j in order], weights[order]
    counts, most = share_out(pool, tasks, blocks, weights, budget)
    if pool.asked and pool.asked.tokens is not None:
        times = np.ones(len(tasks), dtype=int) if pool.asked.repeat is None else pool.asked.repeat[tasks]
        costs = [np.tile(pool.cost[rows], k) for rows, k in zip(blocks, times, strict=True)]
        counts = paid(costs, counts, most, pool.asked.tokens)
    index = np.concatenate([np.resize(rows, count) for rows, count in zip(blocks, counts, strict=True)])[
        interleave(counts)
    ]
    return Selection(index=index, gain=np.zeros(len(index)))
