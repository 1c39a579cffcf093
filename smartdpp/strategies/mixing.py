"""Mixing baselines: a share for every task, then examples drawn at random inside each.

The row order of each task is drawn once for the whole pool, before the budget is looked at. A task's examples
under a smaller budget are therefore among its examples under a larger one, as long as its count does not
fall, which rounding can make it do by one. The selection interleaves the tasks. There is no objective, so
every gain is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import allocate, check_budget, check_num_tasks, interleave
from smartdpp.strategies.pool_order import by_task
from smartdpp.types import Pool, Selection


@dataclass(frozen=True)
class Proportional:
    """Examples-proportional mixing: p_i ∝ min(n_i, cap)."""

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
        check_budget(budget, len(pool))
        blocks = _shuffled_tasks(pool, rng)
        sizes = _sizes(blocks)
        return _mix(blocks, sizes if self.cap is None else np.minimum(sizes, self.cap), budget)


@dataclass(frozen=True)
class Equal:
    """Equal mixing: p_i = 1/M."""

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        blocks = _shuffled_tasks(pool, rng)
        return _mix(blocks, np.ones(len(blocks)), budget)


@dataclass(frozen=True)
class Temperature:
    """Temperature mixing: p_i ∝ n_i^(1/T). T = 1 is proportional mixing; a large T approaches equal
    mixing."""

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
        check_budget(budget, len(pool))
        blocks = _shuffled_tasks(pool, rng)
        return _mix(blocks, _sizes(blocks) ** (1 / self.temperature), budget)


@dataclass(frozen=True)
class RandomTasks:
    """A random subset of the tasks, equal shares: the official SMART code's ``random``. None keeps every
    task."""

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
        check_budget(budget, len(pool))
        blocks = _shuffled_tasks(pool, rng)
        chosen = rng.permutation(len(blocks))[: check_num_tasks(self.num_tasks, len(blocks))]
        return _mix([blocks[j] for j in chosen], np.ones(len(chosen)), budget, largest_first=False)


def _shuffled_tasks(pool: Pool, rng: np.random.Generator) -> list[np.ndarray]:
    """Each task's rows in random order; tasks by name."""
    return [rng.permutation(rows) for rows in by_task(pool)[1]]


def _sizes(blocks: list[np.ndarray]) -> np.ndarray:
    return np.array([len(block) for block in blocks])


def _mix(
    blocks: list[np.ndarray], weights: np.ndarray, budget: int, *, largest_first: bool = True
) -> Selection:
    """The first rows of each block, as many as its weight earns; blocks with equal weights keep their
    order."""
    if largest_first:
        order = np.argsort(-weights, kind="stable")
        blocks, weights = [blocks[j] for j in order], weights[order]
    counts = allocate(weights, _sizes(blocks), budget)
    index = np.concatenate([block[:count] for block, count in zip(blocks, counts, strict=True)])[
        interleave(counts)
    ]
    return Selection(index=index, gain=np.zeros(budget))
