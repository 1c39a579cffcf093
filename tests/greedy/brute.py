"""Greedy by the definition, in 80-bit floats on a dense kernel: the yardstick for every fast path."""

from __future__ import annotations

import numpy as np

from smartdpp.functions import FacilityLocation, GraphCut, LogDet

TIE = 1e-9  # gains that differ by less may go either way; gains that differ by less than EQUAL are a tie
EQUAL = 1e-15
NOISE = 4e-15  # what float64 makes of a kernel's entry, as a share of its diagonal
COPY = 1e-10  # d² below which an item is a copy


def kernel(function) -> np.ndarray:
    X = np.asarray(function.X).astype(np.longdouble)
    if function.features.unit:
        X = X / np.sqrt((X**2).sum(1))[:, None]
    S = X @ X.T
    if isinstance(function, LogDet) and function.kernel != "cosine":
        square = (X**2).sum(1)
        S = {
            "linear": function.gamma * (S + 1) / 2,
            "vmf": np.exp(function.gamma * (S - 1) / 2),
            "rbf": np.exp(-function.gamma * (square[:, None] + square - 2 * S)),
        }[function.kernel]
    return S


class Gains:
    """All gains given the items added so far."""

    def __init__(self, function) -> None:
        self.f, self.S, self.chosen = function, kernel(function), []
        self.n = len(self.S)
        self.best = np.zeros(self.n, dtype=np.longdouble)
        if isinstance(function, LogDet):
            self.C = self.S + function.S.rho * np.eye(self.n)
            # how much of each pick an item's residual has been freed of
            self.shares = np.zeros((self.n, 0), dtype=np.longdouble)

    def all(self) -> np.ndarray:
        match self.f:
            case FacilityLocation():
                return np.maximum(self.S - self.best[:, None], 0).sum(0)
            case GraphCut(lam=lam):
                return self.S.sum(0) - 2 * lam * self.S[:, self.chosen].sum(1) - lam * np.diag(self.S)
            case LogDet(theta=theta):
                d2 = np.diag(self.C)
                gain = (1 - theta) * np.log(np.maximum(d2, 1e-20)) + (
                    theta * np.log(self.f.quality) if theta else 0
                )
                return np.where(d2 < COPY - self.noise(), -np.inf, gain)

    def noise(self) -> np.ndarray:
        """How far rounding can move each d². With w an item less its shares of the picks, d² = w'Kw, and
        moving the entries of K by at most e moves d² by at most e ‖w‖₁². Cholesky's result is exact for
        entries so close to K's (Higham 2002, theorem 10.3)."""
        if not isinstance(self.f, LogDet):
            return np.zeros(self.n)
        return NOISE * self.f.S.diagonal * (1 + np.abs(self.shares).sum(1)).astype(float) ** 2

    def rounding(self, j: int) -> float:
        """What float64 makes of a gain."""
        return (
            (1 - self.f.theta) * float(self.noise()[j] / max(self.C[j, j], 1e-20))
            if isinstance(self.f, LogDet)
            else 0.0
        )

    def is_sure(self) -> np.ndarray:
        """bool[n]: where rounding cannot make a copy of an item that is none."""
        return (
            np.diag(self.C) >= COPY + self.noise()
            if isinstance(self.f, LogDet)
            else np.ones(self.n, dtype=bool)
        )

    def tells_copies(self, j: int) -> bool:
        """Whether float64 sees that a copy of j ties with it: to within NOISE / d², or 1e-11."""
        return not isinstance(self.f, LogDet) or self.rounding(j) <= (1 - self.f.theta) * max(
            1e-11, 4 * NOISE / float(self.C[j, j])
        )

    def add(self, j: int) -> None:
        self.best = np.maximum(self.best, self.S[j])
        if isinstance(self.f, LogDet):
            share = self.C[:, j] / self.C[j, j]
            self.C = self.C - np.outer(share, self.C[j])
            self.shares = np.column_stack([self.shares - np.outer(share, self.shares[j]), share])
        self.chosen.append(j)


def check(
    function,
    index,
    gain,
    *,
    cost=None,
    groups=None,
    limits=None,
    budget=None,
    start=(),
    tie=TIE,
    relative=1e-5,
    absolute=1e-8,
    whole=True,
) -> np.ndarray:
    """Every pick is greedy's, at its gain, ties by lowest index; and the selection ends only when nothing can
    follow.

    Returns what rounding makes of each gain, float64[k].
    """
    now = Gains(function)
    for j in start:
        now.add(int(j))
    cost = np.ones(now.n) if cost is None else np.asarray(cost, dtype=float)
    left, room = float(budget), None if limits is None else np.array(limits)
    taken = set(map(int, start))

    def open_items() -> np.ndarray:
        return np.array(
            [
                j not in taken and cost[j] <= left and left > 0 and (room is None or room[groups[j]] > 0)
                for j in range(now.n)
            ],
            dtype=bool,
        )

    rounding = []
    for pick, claimed in zip(index, gain, strict=True):
        gains = now.all()
        score = np.where(open_items(), gains / cost, -np.inf)
        scale = max(1.0, float(np.abs(gains[np.isfinite(gains)]).max()))
        rivals = np.where(now.is_sure(), score, -np.inf)
        first = int(rivals.argmax())
        best = max(rivals[first], score[pick])
        rounding.append(now.rounding(pick))
        doubt = (rounding[-1] / cost[pick] + now.rounding(first) / cost[first]) if first != pick else 0.0
        assert score[pick] >= best - tie * scale - doubt, (pick, first, float(best - score[pick]))
        ties = np.flatnonzero(score >= best - EQUAL * scale)
        assert not (pick in ties and pick != ties[0] and now.tells_copies(pick)), (pick, ties)
        np.testing.assert_allclose(
            claimed, float(gains[pick]), rtol=relative, atol=absolute * scale + rounding[-1]
        )
        taken.add(int(pick))
        left -= cost[pick]
        if room is not None:
            room[groups[pick]] -= 1
        now.add(int(pick))
    if whole:
        assert not np.any(open_items() & now.is_sure()), "the selection ended early"
    return np.array(rounding)
