"""Log determinant: the chosen rows span a large volume.

f(X) = log det(S_X + ρI), and with a quality q per item the gain of item i is θ log q_i + (1-θ) log d_i²,
where d_i² = det(S_{X+i} + ρI) / det(S_X + ρI) (Wang et al., arXiv 2402.02318; greedy MAP inference: Chen,
Zhang and Zhou 2018). An item with d² < 1e-10 is numerically a copy of what is chosen: it is never picked, and
a selection ends when only such items are left. Greedy has no 1 - 1/e guarantee where gains are negative:
there it is a heuristic. The kernels of S: smartdpp.functions.kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from smartdpp.bounds import Fraction, NotNegative, Positive
from smartdpp.errors import InputError
from smartdpp.functions.dual import Dual, Span
from smartdpp.functions.features import Features, stacked
from smartdpp.functions.kernels import Kernel
from smartdpp.functions.order import checked
from smartdpp.functions.primal import Primal
from smartdpp.functions.state import Falling

if TYPE_CHECKING:
    from smartdpp.functions.schur import Schur

STOP = 1e-10  # below this d² an item is a copy, and is not picked
ROUNDING = 1e-13  # below this d², float64 holds nothing but rounding: an exact copy
NOISE = 4e-15  # what rounding makes of d² in float64, for a kernel whose diagonal is 1
CLAMP = 1e-20  # d² of an exact copy in a prescribed order
WHOLE = 2**16  # larger pools with a linear kernel are looked at in part between windows
DOUBLE = 2048  # pools up to this size are tracked in float64


@dataclass(frozen=True, eq=False)
class LogDet:
    """X (n, d), numpy or torch; ``quality`` float[n], all > 0, weighted by ``theta`` in [0, 1] (0: diversity
    only).

    Raises InputError for a parameter out of range at once, and for features or quality that cannot be used
    when they are first used.
    """

    X: Any
    kernel: Literal["cosine", "vmf", "rbf", "linear"] = "cosine"
    gamma: Positive = 1.0
    ridge: NotNegative | None = None
    quality: Any = None
    theta: Fraction = 0.0

    def __post_init__(self) -> None:
        Kernel(self.kernel, self.gamma, self.ridge)
        if not 0 <= self.theta <= 1:
            raise InputError(f"theta is {self.theta}; it must lie in [0, 1].")
        if self.theta > 0 and self.quality is None:
            raise InputError(
                f"theta is {self.theta} but there is no quality to weigh: pass quality, or set theta to 0."
            )

    @cached_property
    def S(self) -> Kernel:
        """The kernel of any two rows."""
        return Kernel(self.kernel, self.gamma, self.ridge)

    @property
    def divisible(self) -> bool:
        """Whether shares of a pool give the pool's own selection: see smartdpp.greedy.partitions."""
        return self.S.finite

    @cached_property
    def features(self) -> Features:
        return Features(self.X, self.S.unit)

    @cached_property
    def bonus(self) -> np.ndarray:
        """float64[n]: θ log q."""
        if self.theta == 0:
            return np.zeros(len(self))
        q = np.asarray(self.quality, dtype=np.float64)
        if q.shape != (len(self),):
            raise InputError(
                f"quality has shape {q.shape}; it must hold one number for each of the {len(self)} rows."
            )
        bad = np.flatnonzero(~((q > 0) & (q < np.inf)))
        if bad.size:
            raise InputError(
                f"quality must be finite and above 0: {bad.size} of {len(q)} are not, the first is row "
                f"{bad[0]} ({q[bad[0]]})."
            )
        return self.theta * np.log(q)

    def __len__(self) -> int:
        return self.features.shape[0]

    def identity(self) -> list[Any]:
        return [
            "logdet",
            self.kernel,
            self.gamma,
            self.S.rho,
            self.theta,
            self.bonus,
            *self.features.identity(),
        ]

    def subset(self, index: np.ndarray | slice) -> Self:
        """The function of rows ``index`` (int[k], or a slice, which copies nothing) alone."""
        quality = None if self.quality is None else np.asarray(self.quality)[index]
        return replace(self, X=self.features.subset(index), quality=quality)

    def union(self, others: Sequence[Self]) -> Self:
        """Its rows, then those of the others, which have the same parameters."""
        every = [self, *others]
        quality = None if self.quality is None else np.concatenate([np.asarray(f.quality) for f in every])
        return replace(self, X=stacked([f.features for f in every]), quality=quality)

    def gains(self, order: Any) -> np.ndarray:
        """float64[k]: the gain of each item of ``order`` (int[k], distinct) given those before it. An exact
        copy has d² = 1e-20."""
        order = checked(order, len(self))
        schur = self.schur(len(order), order)
        gain = np.empty(len(order))
        for a in range(0, len(order), 512):
            at = np.arange(a, min(a + 512, len(order)))
            window = LogDetWindow(schur, at, self.theta, self.bonus[order[at]])
            for i in range(len(at)):
                gain[a + i] = window.bonus[i] + (1 - self.theta) * np.log(
                    window.d2[i] if window.d2[i] >= ROUNDING else CLAMP
                )
                window.add(i)
            window.close()
        return gain

    def value(self, index: Any) -> float:
        """f of the chosen rows ``index`` (int[k], distinct): the sum of their gains."""
        return float(self.gains(index).sum())

    def schur(self, capacity: int, subset: np.ndarray | None = None) -> Schur:
        """d² of all rows (or of a subset, numbered from 0), as up to ``capacity`` of them are chosen."""
        if self.S.finite:
            return Dual(self.features, self.S, subset)
        return Primal(self.features, self.S, capacity, subset)

    @staticmethod
    def keeps(n: int, d: int, k: int, kernel: str = "cosine", **options: Any) -> float:
        """Bytes beside the features while k of n rows are chosen. On vmf and rbf: the picks' factor, that of
        the rows looked at lately, and that of all rows; else the rows that are looked at between windows."""
        if kernel in ("vmf", "rbf"):
            return 8 * k * k + 8 * min(n, 1024) * k + n * k * (8 if n <= DOUBLE else 4)
        return 24 * d * d + n * d * 4 / 2

    def state(self, budget: int) -> LogDetState:
        """A greedy run's state: see smartdpp.functions.state."""
        return LogDetState(self, budget)


def open_gain(d2: np.ndarray, bonus: np.ndarray, theta: float) -> np.ndarray:
    """float64[k]: bonus + (1 - θ) log d², -inf for what counts as a copy."""
    return np.where(d2 < STOP, -np.inf, bonus + (1 - theta) * np.log(np.maximum(d2, CLAMP)))


class LogDetState(Falling):
    """d² only falls, so an old value bounds the present one.

    Large pools are tracked in single precision: then ``gains`` are upper bounds, above the truth by less than
    ``doubt``, which follows from the differences to float64 that are seen in every window. When d² comes down
    to their size the pool is tracked in float64.
    """

    def __init__(self, function: LogDet, budget: int, double: int = DOUBLE) -> None:
        import torch

        n = len(function)
        self.theta, self.bonus, self.kernel = function.theta, function.bonus, function.kernel
        self.schur = function.schur(budget)
        self.active = n if not function.S.finite or n <= WHOLE else WHOLE // 2
        self.chunk = n
        self.width = 256
        # float32 holds x and 1/‖x‖
        moderate = (
            float(function.features.scale.min()) > 1e-15 and float(function.features.scale.max()) < 1e15
        )
        self.single = n > double and moderate
        # of the terms of s
        size = function.gamma * float(function.features.square.max()) if function.kernel == "rbf" else 1.0
        self.noise = NOISE * max(1.0, function.S.diagonal)  # d² is a difference of numbers of that size
        self.margin = 2e-6 * max(function.S.diagonal, size) if self.single else 0.0
        self.schur.track(torch.float32 if self.single else torch.float64)

    @property
    def common(self) -> Span:
        """What the shares of a pool have in common; it suffices to go on from. Of a linear kernel only: see
        smartdpp.functions.dual."""
        return self.dual.common

    @common.setter
    def common(self, span: Span) -> None:
        self.dual.common = span

    def since(self, count: int) -> Span:
        """``common`` for those who know it as it was after ``count`` picks."""
        return self.dual.since(count)

    def pooled(self, spans: Sequence[Span]) -> Span:
        """Of shares of a pool nothing is chosen from: that of the pool."""
        return spans[0]

    @property
    def dual(self) -> Dual:
        if not isinstance(self.schur, Dual):  # Primal needs every pair of rows
            raise InputError(
                "From shares of a pool only the kernels cosine and linear are chosen exactly, not "
                f"{self.kernel}: "
                "see smartdpp.greedy.two_rounds."
            )
        return self.schur

    def tolerance(self, j: int, gain: float) -> float:
        weight = 1 - self.theta
        if not weight:
            return 0.0
        return weight * max(1e-11, self.noise / max(np.exp((gain - self.bonus[j]) / weight), STOP))

    def tracked(self, index: np.ndarray) -> np.ndarray | None:
        """d² of the pool or the active set in the tracked precision, None for other rows."""
        if len(index) == len(self.bonus):
            return self.schur.refresh(None)
        return self.schur.refresh(index) if len(index) == self.active else None

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        index = np.arange(len(self.bonus)) if index is None else index
        d2 = self.tracked(index)
        if d2 is not None and self.single and d2.max() < 100 * self.margin:
            self.sharpen()
            d2 = self.tracked(index)
        if d2 is None or not self.single:
            return self.gain(index, self.schur.residual(index) if d2 is None else d2)
        return self.bonus[index] + (1 - self.theta) * np.log(d2.clip(0) + self.margin)

    def gain(self, index: np.ndarray, d2: np.ndarray) -> np.ndarray:
        return open_gain(d2, self.bonus[index], self.theta)

    def doubt(self, index: np.ndarray) -> np.ndarray | float:
        d2 = self.tracked(index)
        if d2 is None or not self.single:
            return 0.0
        sure = d2 - self.margin
        return np.where(
            sure < STOP,
            np.inf,
            (1 - self.theta) * np.log((d2.clip(0) + self.margin) / np.maximum(sure, STOP)),
        )

    def sharpen(self) -> bool:
        import torch

        was, self.single, self.margin = self.single, False, 0.0
        if was:
            self.schur.track(torch.float64)
        return was

    def resolve(self, index: np.ndarray) -> tuple[np.ndarray, float]:
        d2 = self.schur.residual(index)
        self.compare(index, d2)
        gain = self.gain(index, d2)
        best = int(gain.argmax())
        return gain, self.tolerance(index[best], gain[best])

    def compare(self, index: np.ndarray, d2: np.ndarray) -> None:
        """d2 (float64) of these rows against what single precision made of it: that sets the margin."""
        if self.single:
            self.margin = max(self.margin, 8 * self.schur.drift(index, d2))

    def add(self, index: np.ndarray) -> None:
        for a in range(0, len(index), self.width):
            some = index[a : a + self.width]
            window = LogDetWindow(self.schur, some, self.theta, self.bonus[some])
            for at in range(len(some)):
                window.add(at)
            window.close()

    def window(self, index: np.ndarray) -> LogDetWindow:
        return LogDetWindow(self.schur, index, self.theta, self.bonus[index], self)


class LogDetWindow:
    """A few candidates with G, their part of the kernel given what is chosen (a Schur complement): greedy is
    a pivoted Cholesky of G."""

    rise = 0.0

    def __init__(
        self,
        schur: Schur,
        index: np.ndarray,
        theta: float,
        bonus: np.ndarray,
        state: LogDetState | None = None,
    ) -> None:
        self.schur, self.index, self.theta, self.bonus, self.state = schur, index, theta, bonus, state
        self.G = schur.complement(index)
        self.d2 = self.G.diagonal().copy()
        if state is not None:
            state.compare(index, self.d2)
        self.L = np.empty((16, len(index)))  # row b: the column that pick b adds to the Cholesky factor
        self.picks: list[int] = []

    @property
    def gain(self) -> np.ndarray:
        return open_gain(self.d2, self.bonus, self.theta)

    def resolve(self, at: np.ndarray) -> tuple[np.ndarray, float]:
        gain = self.gain[at]
        best = int(gain.argmax())
        return gain, 0.0 if self.state is None else self.state.tolerance(self.index[at[best]], gain[best])

    def add(self, at: int) -> None:
        if self.d2[at] < ROUNDING:  # an exact copy, in a prescribed order: it takes nothing from the others
            return
        b = len(self.picks)
        if b == len(self.L):
            self.L = np.concatenate([self.L, np.empty_like(self.L)])
        self.L[b] = (self.G[at] - self.L[:b, at] @ self.L[:b]) / np.sqrt(self.d2[at])
        self.d2 -= self.L[b] ** 2
        self.picks.append(at)

    def close(self) -> None:
        """The picks' own block of the factor, lower triangular, goes to the state."""
        if self.picks:
            self.schur.choose(self.index[self.picks], np.tril(self.L[: len(self.picks), self.picks].T))
