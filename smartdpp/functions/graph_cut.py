"""Graph cut: close to the whole pool, far from each other.

f(X) = Σ_{i∈V, j∈X} s_ij - λ Σ_{i,j∈X} s_ij, s the cosine similarity (SMART, arXiv 2403.08370). Monotone
submodular for λ < 0.5 on non-negative similarities: where some are negative, lazy greedy (as submodlib, the
SMART authors' library, runs it) is not exact, and picks other rows than exact greedy does. The kernel is
linear, so it is never built: with S = Σ_{v∈V} x_v and C = Σ_{j∈X} x_j, gain(i | X) = x_i·(S - 2λC) - λ
x_i·x_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from smartdpp.bounds import NotNegative
from smartdpp.errors import InputError
from smartdpp.functions.features import Features, stacked
from smartdpp.functions.order import checked
from smartdpp.functions.state import Exact

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class GraphCut:
    """X (n, d), numpy or torch. ``normalize`` divides rows by their norm; without it s_ij is the plain inner
    product.

    Raises InputError for a λ below 0 at once, and for features that are not finite, not 2-d, empty, or zero
    where a norm is needed when they are first used.
    """

    X: Any
    lam: NotNegative = 0.4
    normalize: bool = True
    # shares of a pool give the pool's own selection: see smartdpp.greedy.partitions
    divisible: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.lam) and self.lam >= 0):
            raise InputError(
                f"lam is {self.lam}; it must be a finite number of at least 0 (below 0.5 for a monotone "
                "function)."
            )

    @cached_property
    def features(self) -> Features:
        return Features(self.X, self.normalize)

    def __len__(self) -> int:
        return self.features.shape[0]

    def identity(self) -> list[Any]:
        return ["graph_cut", self.lam, *self.features.identity()]

    def subset(self, index: np.ndarray | slice) -> Self:
        """The function of rows ``index`` (int[k], or a slice, which copies nothing) alone: it sees only
        these."""
        return replace(self, X=self.features.subset(index))

    def union(self, others: Sequence[Self]) -> Self:
        """Its rows, then those of the others, which have the same parameters."""
        return replace(self, X=stacked([f.features for f in (self, *others)]))

    def gains(self, order: Any) -> np.ndarray:
        """float64[k]: the marginal gain of each item of ``order`` (int[k], distinct) given those before
        it."""
        order = checked(order, len(self))
        x = self.features.rows(order)
        before = x.cumsum(0) - x
        return (
            (x @ self.features.total - 2 * self.lam * (x * before).sum(1) - self.lam * x.square().sum(1))
            .cpu()
            .numpy()
        )

    def value(self, index: Any) -> float:
        """f of the chosen rows ``index`` (int[k], distinct)."""
        x = self.features.rows(checked(index, len(self))).sum(0)
        return float(x @ self.features.total - self.lam * x @ x)

    def state(self, budget: int) -> GraphCutState:
        """A greedy run's state: see smartdpp.functions.state."""
        return GraphCutState(self)


@dataclass(frozen=True)
class Pull:
    """All that graph cut keeps of the whole pool: v = S - 2λC, float64[d]; the largest norm of a row; what
    rounding makes of a gain."""

    v: torch.Tensor
    radius: float
    rounding: float

    @classmethod
    def at_first(cls, total: torch.Tensor, radius: float, lam: float) -> Pull:
        return cls(total, radius, 1e-12 * radius * (float(total.norm()) + lam * radius))


class GraphCutState(Exact):
    """v = S - 2λC is all there is to keep. A gain can rise where similarities are negative, by at most ‖x_i‖
    times the change of v."""

    rises = True

    def __init__(self, function: GraphCut) -> None:
        n = len(function)
        self.lam = function.lam
        self.features = function.features
        self.common = Pull.at_first(
            self.features.total.clone(), float(self.features.square.max().sqrt()), self.lam
        )
        self.chunk = n
        self.active = int(np.clip(n // 8, 4096, 32768))
        self.width = int(np.clip(np.sqrt(10 * n), 256, 2048))

    @property
    def common(self) -> Pull:
        """What the shares of a pool have in common; it suffices to go on from."""
        return Pull(self.v, self.radius, self.rounding)

    @common.setter
    def common(self, pull: Pull) -> None:
        self.v, self.radius, self.rounding = pull.v.to(self.features.device), pull.radius, pull.rounding

    def since(self, count: int) -> Pull:
        """``common`` for those who know it as it was after ``count`` picks: it is small enough as it is."""
        return self.common

    def pooled(self, pulls: Sequence[Pull]) -> Pull:
        """Of shares of a pool nothing is chosen from: that of the pool."""
        return Pull.at_first(
            sum(pull.v.cpu() for pull in pulls), max(pull.radius for pull in pulls), self.lam
        )  # type: ignore[arg-type]

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        square = self.features.square if index is None else self.features.square[index]
        return (self.features.project(self.v, index) - self.lam * square).cpu().numpy()

    def add(self, index: np.ndarray) -> None:
        self.v = self.v - 2 * self.lam * self.features.rows(index).sum(0)

    def mark(self) -> Any:
        return self.v

    def rise(self, mark: Any) -> float:
        return self.radius * float((self.v - mark).norm())

    def window(self, index: np.ndarray) -> GraphCutWindow:
        return GraphCutWindow(self, index)


class GraphCutWindow:
    """A few candidates with their Gram matrix: a pick costs one row of it."""

    def __init__(self, state: GraphCutState, index: np.ndarray) -> None:
        self.state, self.index = state, index
        self.picks: list[int] = []
        x = state.features.rows(index)
        self.gain = (x @ state.v - state.lam * x.square().sum(1)).cpu().numpy()
        self.fall = (2 * state.lam * (x @ x.T)).cpu().numpy()
        self.change = np.zeros(len(index))  # of each gain, by this window's picks
        self.moved = 0.0  # ‖change of v‖²

    @property
    def rise(self) -> float:
        return self.state.radius * np.sqrt(max(self.moved, 0.0))

    def resolve(self, at: np.ndarray) -> tuple[np.ndarray, float]:
        return self.gain[at], self.state.rounding

    def add(self, at: int) -> None:
        self.moved += 2 * self.state.lam * (2 * self.change[at] + self.fall[at, at])
        self.change += self.fall[at]
        self.gain -= self.fall[at]
        self.picks.append(at)

    def close(self) -> None:
        self.state.add(self.index[self.picks])
