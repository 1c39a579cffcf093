"""Exact greedy over a pool that lies in shares, on one machine or many: the picks of the pool in one piece.

Graph cut, and the log determinant on a linear kernel, know of the chosen rows only what fits in d numbers or d × d (Pull, Span). That is
handed to every share; each answers with its leaders and a bound on everybody else (an all-reduce of a few thousand numbers). The leaders
of leaders are gathered as a window, picks are made there as long as they beat every bound, and the next round starts. A window and its
rules are those of smartdpp.greedy.windows; what differs is where the rows are.

A share that has lost everything but its rows, because its process died, answers the same: all it keeps is a cache of what a question says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions import GraphCut, LogDet
from smartdpp.functions.subset import subset, union
from smartdpp.greedy.limits import Limits
from smartdpp.greedy.picks import Picks
from smartdpp.greedy.windows import leaders, pick_inside, settle
from smartdpp.types import Selection

T = TypeVar("T")


@dataclass(frozen=True)
class Now:
    """Where the selection stands: the rows chosen so far, int64[t], and what the function keeps of them, d- or d × d-sized."""

    index: np.ndarray
    common: Any


@dataclass(frozen=True)
class Head:
    """A share's answer. Rows are numbered as in the whole pool."""

    first: int  # the row greedy would pick of this share; -1: none is left
    best: float  # its gain
    slack: float  # gains this close to the best are a tie
    index: np.ndarray  # int64[w], the leaders
    gain: np.ndarray  # float64[w]
    inner: float  # no other row looked at just now has more
    outer: float  # nor any other row at all, but this one is an old bound, which a look at everybody may lower


@dataclass
class Share:
    """Rows ``begin``, begin + 1, ... of a pool, as a function of these rows alone."""

    function: GraphCut | LogDet
    begin: int
    active: np.ndarray | None = field(default=None, init=False)  # the leaders that are followed between looks at everybody

    def __post_init__(self) -> None:
        self.state = self.function.state(len(self.function))
        self.limits = Limits(len(self.function), len(self.function), None, None, None, None)
        self.everyone = np.arange(len(self.function))
        self.bound = np.full(len(self.function), np.inf)
        self.seen, self.outer, self.mark = 0, -np.inf, None

    def about(self) -> tuple[int, int, int, Any]:
        """First row, last row + 1, length of a row, and what the function keeps when nothing is chosen."""
        nothing = self.function.state(1).common if self.seen else self.state.common
        return self.begin, self.begin + len(self.function), self.function.features.shape[1], nothing

    def pooled(self, commons: Sequence[Any]) -> Any:
        return self.state.pooled(commons)

    def head(self, now: Now, everybody: bool = False) -> Head:
        """The leaders after these picks, after a look at ``everybody`` or at those that led when it was last taken."""
        self.state.common = now.common
        for j in now.index[self.seen :] - self.begin:
            if 0 <= j < len(self.function):
                self.limits.take(int(j))
        self.seen = len(now.index)
        if everybody or self.active is None:
            first = settle(self.state, self.limits, self.bound, self.everyone)
            self.mark, self.outer = self.state.mark(), -np.inf
            if first is not None:
                self.active, self.outer = leaders(self.limits, self.bound, self.everyone, self.state.active, first)
        else:
            first = settle(self.state, self.limits, self.bound, self.active)
        outer = self.outer + self.state.rise(self.mark)
        if first is None:
            return Head(-1, -np.inf, 0.0, np.empty(0, dtype=np.int64), np.empty(0), -np.inf, outer)
        index, inner = leaders(self.limits, self.bound, self.active, self.state.width, first)  # type: ignore[arg-type]  # not None by now
        index = index[self.limits.open(index)]
        gain, _ = self.state.resolve(index)
        self.bound[index] = gain
        best = float(self.bound[first])
        return Head(self.begin + first, best, self.state.tolerance(first, best), self.begin + index, gain, inner, outer)

    def take(self, index: np.ndarray) -> GraphCut | LogDet:
        """The function on those of these rows (ascending) that lie here."""
        a, b = np.searchsorted(index, [self.begin, self.begin + len(self.function)])
        return subset(self.function, index[a:b] - self.begin)


class Ask(Protocol):
    """Puts a question to some of the shares (all by default) at the same time; answers come in the order of the shares."""

    def __call__(self, question: Callable[[Share], T], which: Sequence[int] | None = None) -> list[T]: ...


def here(shares: Sequence[Share]) -> Ask:
    """Shares that lie in this process."""

    def ask(question: Callable[[Share], T], which: Sequence[int] | None = None) -> list[T]:
        return [question(shares[i]) for i in (range(len(shares)) if which is None else which)]

    return ask


def cut(n: int, parts: int) -> list[slice]:
    """0..n-1 in so many pieces of nearly the same size."""
    ends = [n * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(ends) if b > a]


def maximize(ask: Ask, budget: int, *, progress: bool = False) -> Selection:
    """The greedy selection of ``budget`` rows over all shares: what smartdpp.greedy.maximize gives for the pool in one piece.

    index int64[k] and gain float64[k] as there, ties to the lowest index. Two gains count as tied when float64 cannot tell them apart,
    so that summing in another order does not decide. Raises InputError for shares that do not fit together, a budget out of range, and a
    kernel that needs every pair of rows.
    """
    about = ask(lambda share: share.about())
    ends = _check(about, budget)
    commons = [common for *_, common in about]
    now = Now(np.empty(0, dtype=np.int64), ask(lambda share: share.pooled(commons), [0])[0])
    picks = Picks(budget, progress=progress)
    while len(picks.index) < budget:
        heads = _heads(ask, now)
        lead = max(heads, key=lambda head: head.best)
        if lead.best == -np.inf:  # only copies are left
            break
        first = min(head.first for head in heads if head.best >= lead.best - lead.slack and head.first >= 0)
        index, floor = _merged(heads, first)
        owners = np.unique(np.searchsorted(ends, index, side="right"))
        function = union(ask(partial(_take, index), owners.tolist()))
        state = function.state(len(index))
        state.common = now.common
        window = state.window(np.arange(len(index)))
        room, inside = Limits(len(index), min(len(index), budget - len(picks.index)), None, None, None, None), Picks(len(index))
        pick_inside(state, window, room, inside, floor, int(np.searchsorted(index, first)))
        window.close()
        for j, gain in zip(index[inside.index], inside.gain, strict=True):
            picks.append(int(j), gain)
        now = Now(np.array(picks.index, dtype=np.int64), state.common)
    return picks.done()


def _heads(ask: Ask, now: Now) -> list[Head]:
    """Every share's answer; those whose old bounds stand in the way have looked at all their rows for it."""
    heads = ask(lambda share: share.head(now))
    lead = max(heads, key=lambda head: head.best)
    late = [i for i, head in enumerate(heads) if head.outer > -np.inf and head.outer >= lead.best - lead.slack]
    for i, head in zip(late, ask(lambda share: share.head(now, everybody=True), late), strict=True):
        heads[i] = head
    return heads


def _merged(heads: Sequence[Head], first: int) -> tuple[np.ndarray, float]:
    """The leaders of leaders, int64[w] ascending, ``first`` among them, and what no other row's gain exceeds."""
    index, gain = np.concatenate([head.index for head in heads]), np.concatenate([head.gain for head in heads])
    floor = max(max(head.inner, head.outer) for head in heads)
    width = max(len(head.index) for head in heads)
    if len(index) > width:
        order = np.argsort(np.where(index == first, -np.inf, -gain), kind="stable")
        floor = max(floor, float(gain[order[width]]))
        index = index[order[:width]]
    return np.sort(index), floor


def _take(index: np.ndarray, share: Share) -> GraphCut | LogDet:
    return share.take(index)


def _check(about: Sequence[tuple[int, int, int, Any]], budget: int) -> np.ndarray:
    """int64[p]: where each share ends."""
    begins, ends, widths = (np.array([facts[i] for facts in about]) for i in range(3))
    if begins[0] != 0 or np.any(begins[1:] != ends[:-1]):
        raise InputError("The shares of a pool must follow on each other, the first from row 0: each begins where the last one ends.")
    if np.unique(widths).size > 1:
        raise InputError(f"The shares of a pool must have rows of one length; these have {', '.join(map(str, np.unique(widths)))}.")
    if not 1 <= budget <= ends[-1]:
        raise InputError(f"budget is {budget}; it must be a whole number from 1 to {ends[-1]}, the rows there are to choose from.")
    return ends
