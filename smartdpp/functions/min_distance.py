"""The distance to the nearest chosen row, as what greedy gains: k-center (Gonzalez 1985; Sener and Savarese
2018, arXiv 1708.00489).

A row's gain only falls as rows are chosen, so exact greedy needs few of them: each remembers how many of the
chosen it has been compared with, and is compared with the rest when it stands in the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from smartdpp.functions.features import Features
from smartdpp.functions.state import Exact, Falling

ROUNDING = 1e-12  # of a squared distance, beside the largest squared norm
BLOCK = 1024  # rows compared with as many at a time


@dataclass(frozen=True, eq=False)
class MinDistance:
    """X (n, d), numpy or torch. A gain is the squared Euclidean distance to the nearest chosen row; with
    ``normalize`` on rows divided by their norm. Something must be chosen before the first gain is asked
    for: `maximize` takes it as ``start``."""

    X: Any
    normalize: bool = True

    @cached_property
    def features(self) -> Features:
        return Features(self.X, self.normalize)

    def __len__(self) -> int:
        return self.features.shape[0]

    def identity(self) -> list[Any]:
        return ["min_distance", *self.features.identity()]

    def state(self, budget: int) -> MinDistanceState:
        """A greedy run's state: see smartdpp.functions.state."""
        return MinDistanceState(self.features)


class MinDistanceState(Exact, Falling):
    chunk = 1024
    width = 1024

    def __init__(self, features: Features) -> None:
        self.features, self.n = features, features.shape[0]
        self.active = max(4096, self.n // 8)
        self.square = features.square.cpu().numpy()
        self.rounding = ROUNDING * float(self.square.max())
        self.near = np.full(self.n, np.inf)
        self.seen = np.zeros(self.n, dtype=np.int64)  # of the chosen, with how many each row was compared
        self.chosen: list[int] = []

    def between(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """float64[k, m]: squared distances."""
        s = (self.features.take(rows, _double()) @ self.features.take(others, _double()).T).cpu().numpy()
        return np.maximum(self.square[rows][:, None] + self.square[others] - 2 * s, 0.0)

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        index = np.arange(self.n) if index is None else index
        stale = index[(self.seen[index] < len(self.chosen)) & (self.near[index] > self.rounding)]
        chosen = np.array(self.chosen, dtype=np.int64)
        stale = stale[np.argsort(self.seen[stale], kind="stable")]  # those that have seen as much go together
        for a in range(0, len(stale), BLOCK):
            some = stale[a : a + BLOCK]
            for b in range(int(self.seen[some].min()), len(chosen), BLOCK):
                nearest = self.between(some, chosen[b : b + BLOCK]).min(1)
                self.near[some] = np.minimum(self.near[some], nearest)
            self.seen[some] = len(chosen)
        return self.near[index].copy()

    def add(self, index: np.ndarray) -> None:
        self.chosen += [int(j) for j in index]

    def window(self, index: np.ndarray) -> MinDistanceWindow:
        return MinDistanceWindow(self, index)


class MinDistanceWindow:
    """A few candidates with their rows, compared with every pick."""

    rise = 0.0

    def __init__(self, state: MinDistanceState, index: np.ndarray) -> None:
        self.state, self.index = state, index
        self.rows = state.features.take(index, _double())
        self.square = state.square[index]
        self.gain = state.gains(index)

    def resolve(self, at: np.ndarray) -> tuple[np.ndarray, float]:
        return self.gain[at], self.state.rounding

    def add(self, at: int) -> None:
        self.state.add(self.index[at : at + 1])
        s = (self.rows @ self.rows[at]).cpu().numpy()
        self.gain = np.minimum(self.gain, np.maximum(self.square + self.square[at] - 2 * s, 0.0))

    def close(self) -> None:
        """What the window knows, the state knows then."""
        self.state.near[self.index] = self.gain
        self.state.seen[self.index] = len(self.state.chosen)


def _double() -> Any:
    import torch

    return torch.float64
