"""What may still be picked: a count, a sum of costs, and at most so many of each group (a partition
matroid)."""

from __future__ import annotations

from typing import Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.order import checked


class Limits:
    """``free`` bool[n]; ``left``, how much of the budget remains; ``cost`` float64[n], ``label`` int64[n],
    ``room`` int64[g], or None."""

    def __init__(self, n: int, budget: float, costs: Any, groups: Any, limits: Any, start: Any) -> None:
        self.start = checked([] if start is None else start, n)
        self.free = np.ones(n, dtype=bool)
        self.free[self.start] = False
        self.cost = None if costs is None else _costs(costs, n)
        self.label, self.room = _groups(groups, limits, n)
        self.left = _budget(budget, n - self.start.size, self.cost)

    @property
    def most(self) -> int:
        """How many picks the budget allows at most."""
        if self.cost is None:
            return int(self.left)
        return int(
            np.searchsorted(np.cumsum(np.sort(self.cost[self.free])), self.left * (1 + 1e-12), side="right")
        )

    @property
    def plain(self) -> bool:
        """Whether all that is free may be picked, at one price."""
        return self.cost is None and self.label is None

    def open(self, index: np.ndarray) -> np.ndarray:
        """bool[k]: which of ``index`` may be picked now."""
        mask = self.free[index]
        if self.cost is not None:
            mask &= self.cost[index] <= self.left
        if self.label is not None and self.room is not None:
            mask &= self.room[self.label[index]] > 0
        return mask if self.left > 0 else np.zeros_like(mask)

    def score(self, gain: np.ndarray, index: np.ndarray) -> np.ndarray:
        """float64[k]: what greedy ranks by, the gain per cost."""
        return gain if self.cost is None else gain / self.cost[index]

    def rank(self, gain: np.ndarray, index: np.ndarray) -> np.ndarray:
        """float64[k]: the scores of ``index`` by all gains (n), -inf where an item may not be picked now."""
        return np.where(self.open(index), self.score(gain[index], index), -np.inf)

    @property
    def cheapest(self) -> float:
        """The least cost there is: a rise of a gain is at most so many times smaller than the rise of its
        score."""
        return 1.0 if self.cost is None else float(self.cost.min())

    def take(self, j: int) -> None:
        self.free[j] = False
        self.left -= 1 if self.cost is None else self.cost[j]
        if self.label is not None and self.room is not None:
            self.room[self.label[j]] -= 1


def _budget(budget: Any, n: int, cost: np.ndarray | None) -> float:
    number = isinstance(budget, int | float | np.integer | np.floating) and not isinstance(budget, bool)
    if cost is None and not (number and budget == np.floor(budget) and 1 <= budget <= n):
        raise InputError(
            f"budget is {budget}; it must be a whole number from 1 to {n}, the rows there are to choose from."
        )
    if cost is not None and not (number and cost.min() <= budget < np.inf):
        raise InputError(
            f"budget is {budget}; with costs it must be finite and pay for the cheapest row, which costs "
            f"{cost.min():g}."
        )
    return float(budget)


def _costs(costs: Any, n: int) -> np.ndarray:
    cost = np.asarray(costs)
    if cost.shape != (n,) or cost.dtype.kind not in "iuf" or not np.all((cost > 0) & (cost < np.inf)):
        raise InputError(f"costs must hold one finite number above 0 for each of the {n} rows.")
    return cost.astype(np.float64)


def _groups(groups: Any, limits: Any, n: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    if (groups is None) != (limits is None):
        raise InputError(
            "groups (one label a row) and limits (one number a group) go together: give both or neither."
        )
    if groups is None:
        return None, None
    label, room = np.asarray(groups), np.asarray(limits)
    if (
        label.shape != (n,)
        or label.dtype.kind not in "iu"
        or room.ndim != 1
        or room.dtype.kind not in "iu"
        or np.any(room < 0)
    ):
        raise InputError(
            f"groups must hold one whole number for each of the {n} rows, and limits one of at least 0 for "
            "each group."
        )
    if label.min() < 0 or label.max() >= room.size:
        raise InputError(
            f"groups reach from {label.min()} to {label.max()}, but limits are given for 0..{room.size - 1}."
        )
    return label.astype(np.int64), room.astype(np.int64)
