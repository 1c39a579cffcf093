"""Greedy by the definition, in 80-bit floats on a dense kernel: the yardstick for every fast path."""

from __future__ import annotations

import numpy as np

from smartdpp.functions import FacilityLocation, GraphCut, LogDet

TIE = 1e-9  # gains that differ by less may go either way; gains that differ by less than EQUAL are a tie
EQUAL = 1e-15


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
            self.C = self.S + function.rho * np.eye(self.n)
            self.least = 1.0  # d² of a pick

    def all(self) -> np.ndarray:
        match self.f:
            case FacilityLocation():
                return np.maximum(self.S - self.best[:, None], 0).sum(0)
            case GraphCut(lam=lam):
                return self.S.sum(0) - 2 * lam * self.S[:, self.chosen].sum(1) - lam * np.diag(self.S)
            case LogDet(theta=theta):
                d2 = np.diag(self.C)
                gain = (1 - theta) * np.log(np.maximum(d2, 1e-20)) + (theta * np.log(self.f.quality) if theta else 0)
                return np.where(d2 < 1e-10, -np.inf, gain)

    def rounding(self, j: int) -> float:
        """What float64 makes of a gain: the smaller the d² of a pick, the more it enlarges rounding in those of the others."""
        return (1 - self.f.theta) * min(1e-18 / self.least / float(self.C[j, j]), 1e-3) if isinstance(self.f, LogDet) else 0.0

    def add(self, j: int) -> None:
        self.best = np.maximum(self.best, self.S[j])
        if isinstance(self.f, LogDet):
            self.least = min(self.least, float(self.C[j, j]))
            self.C = self.C - np.outer(self.C[:, j], self.C[j]) / self.C[j, j]
        self.chosen.append(j)


def check(
    function, index, gain, *, cost=None, groups=None, limits=None, budget=None, start=(), tie=TIE, relative=1e-5, absolute=1e-8, whole=True
) -> None:
    """Every pick is greedy's, at its gain, ties by lowest index; and the selection ends only when nothing can follow."""
    now = Gains(function)
    for j in start:
        now.add(int(j))
    cost = np.ones(now.n) if cost is None else np.asarray(cost, dtype=float)
    left, room = float(budget), None if limits is None else np.array(limits)
    taken = set(map(int, start))

    def open_items() -> np.ndarray:
        return np.array(
            [j not in taken and cost[j] <= left and left > 0 and (room is None or room[groups[j]] > 0) for j in range(now.n)], dtype=bool
        )

    for pick, claimed in zip(index, gain, strict=True):
        gains = now.all()
        score = np.where(open_items(), gains / cost, -np.inf)
        scale = max(1.0, float(np.abs(gains[np.isfinite(gains)]).max()))
        best = score.max()
        assert score[pick] >= best - tie * scale, (pick, int(score.argmax()), float(best - score[pick]))
        ties = np.flatnonzero(score >= best - EQUAL * scale)
        assert not (pick in ties and pick != ties[0]), (pick, ties)
        np.testing.assert_allclose(claimed, float(gains[pick]), rtol=relative, atol=absolute * scale + now.rounding(pick))
        taken.add(int(pick))
        left -= cost[pick]
        if room is not None:
            room[groups[pick]] -= 1
        now.add(int(pick))
    if whole:
        assert not np.any(open_items() & (now.all() > -np.inf)), "the selection ended early"
