"""A function and a bonus of each row: weight · f(X) + Σ_{j∈X} b_j, which greedy maximises as exactly as f."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from smartdpp.functions.state import Function, State, Window

EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class WithBonus:
    """``function`` f of n rows, ``bonus`` b, float64[n], ``weight`` > 0."""

    function: Function
    bonus: np.ndarray
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.function)

    def identity(self) -> list[Any]:
        return ["with_bonus", self.weight, self.bonus, *self.function.identity()]

    def state(self, budget: int) -> WithBonusState:
        """A greedy run's state: see smartdpp.functions.state."""
        return WithBonusState(self.function.state(budget), self.bonus, self.weight)


class WithBonusState:
    def __init__(self, inner: State, bonus: np.ndarray, weight: float) -> None:
        self.inner, self.bonus, self.weight = inner, bonus, weight
        self.rises, self.chunk, self.active, self.width = inner.rises, inner.chunk, inner.active, inner.width
        self.rounding = 4 * EPSILON * float(np.abs(bonus).max())

    def total(self, gain: np.ndarray, index: np.ndarray) -> np.ndarray:
        return self.weight * gain + self.bonus[index]

    def tolerance(self, j: int, gain: float) -> float:
        return self.weight * self.inner.tolerance(j, (gain - self.bonus[j]) / self.weight) + self.rounding

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        return self.total(self.inner.gains(index), np.arange(len(self.bonus)) if index is None else index)

    def doubt(self, index: np.ndarray) -> np.ndarray | float:
        return self.weight * self.inner.doubt(index)

    def sharpen(self) -> bool:
        return self.inner.sharpen()

    def resolve(self, index: np.ndarray) -> tuple[np.ndarray, float]:
        gain, error = self.inner.resolve(index)
        return self.total(gain, index), self.weight * error + self.rounding

    def add(self, index: np.ndarray) -> None:
        self.inner.add(index)

    def mark(self) -> Any:
        return self.inner.mark()

    def rise(self, mark: Any) -> float:
        return self.weight * self.inner.rise(mark)

    def window(self, index: np.ndarray) -> WithBonusWindow:
        return WithBonusWindow(self, self.inner.window(index))


class WithBonusWindow:
    def __init__(self, state: WithBonusState, inner: Window) -> None:
        self.state, self.inner, self.index = state, inner, inner.index

    @property
    def gain(self) -> np.ndarray:
        return self.state.total(self.inner.gain, self.index)

    @property
    def rise(self) -> float:
        return self.state.weight * self.inner.rise

    def resolve(self, at: np.ndarray) -> tuple[np.ndarray, float]:
        gain, error = self.inner.resolve(at)
        return self.state.total(gain, self.index[at]), self.state.weight * error + self.state.rounding

    def add(self, at: int) -> None:
        self.inner.add(at)

    def close(self) -> None:
        self.inner.close()
