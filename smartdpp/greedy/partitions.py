"""Exact greedy over a pool that lies in shares, on one machine or many: the picks of the pool in one piece.

Graph cut, and the log determinant on a linear kernel, know of the chosen rows only what fits in d numbers or
d × d (Pull, Span). What the last picks changed of that is handed to every share; each answers with its
leaders and bounds on them and on everybody else (an all-reduce of a few thousand numbers, or d for each
pick). The leaders of leaders are gathered as a window, picks are made there as long as they beat every bound,
and the next round starts. A window and its rules are those of smartdpp.greedy.exact; what differs is where
the rows are.

A share that has lost everything but its rows, because its process died, says so, is told all of it and
answers the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.state import Divisible
from smartdpp.greedy.exact import leaders, pick_inside, settle
from smartdpp.greedy.limits import Limits
from smartdpp.greedy.picks import Picks
from smartdpp.types import Ask, Selection

CHECKED = 8  # one of so many leaders is resolved in float64, which holds what bounds them against the truth


@dataclass(frozen=True)
class Now:
    """Where the selection stands: the rows chosen after the first ``base``, int64[t], and what the function
    keeps of all rows chosen, or what it says to those who know the first ``base``.
    """

    index: np.ndarray
    base: int
    common: Any


@dataclass(frozen=True)
class Head:
    """A share's answer. Rows are numbered as in the whole pool."""

    first: int  # the row greedy would pick of this share; -1: none is left
    best: float  # its gain
    slack: float  # gains this close to the best are a tie
    index: np.ndarray  # int64[w], the leaders
    gain: np.ndarray  # float64[w], not below theirs
    inner: float  # no other row looked at just now has more
    # nor any other row at all, but this one is an old bound, which a look at everybody may lower
    outer: float


@dataclass
class Share:
    """Rows ``begin``, begin + 1, ... of a pool, as a function of these rows alone."""

    function: Divisible
    begin: int
    # the leaders that are followed between looks at everybody
    active: np.ndarray | None = field(default=None, init=False)

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

    def head(self, now: Now, everybody: bool = False) -> Head | None:
        """The leaders after these picks, after a look at ``everybody`` or at those that led when it was last
        taken. None: it must be told of more picks than these, which go on from what it has not seen.
        """
        if self.seen < now.base:
            return None
        self.state.common = now.common
        for j in now.index[self.seen - now.base :] - self.begin:
            if 0 <= j < len(self.function):
                self.limits.take(int(j))
        self.seen = now.base + len(now.index)
        if everybody or self.active is None:
            first = settle(self.state, self.limits, self.bound, self.everyone)
            self.mark, self.outer = self.state.mark(), -np.inf
            if first is not None:
                self.active, self.outer = leaders(
                    self.limits, self.bound, self.everyone, self.state.active, first
                )
        else:
            first = settle(self.state, self.limits, self.bound, self.active)
        outer = self.outer + self.state.rise(self.mark)
        if first is None:
            return Head(-1, -np.inf, 0.0, np.empty(0, dtype=np.int64), np.empty(0), -np.inf, outer)
        index, inner = leaders(self.limits, self.bound, self.active, self.state.width, first)  # type: ignore[arg-type]  # not None by now
        index = index[self.limits.open(index)]
        some = index[::CHECKED]
        self.bound[some], _ = self.state.resolve(some)
        best = float(self.bound[first])
        return Head(
            self.begin + first,
            best,
            self.state.tolerance(first, best),
            self.begin + index,
            self.bound[index],
            inner,
            outer,
        )

    def take(self, index: np.ndarray) -> Divisible:
        """The function on those of these rows (ascending) that lie here."""
        a, b = np.searchsorted(index, [self.begin, self.begin + len(self.function)])
        return self.function.subset(index[a:b] - self.begin)


def pieces(n: int, parts: int) -> list[slice]:
    """0..n-1 in so many pieces of nearly the same size."""
    ends = [n * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(ends) if b > a]


def maximize(ask: Ask[Share], budget: int, *, progress: bool = False) -> Selection:
    """The greedy selection of ``budget`` rows over all shares: what smartdpp.greedy.maximize gives for the
    pool in one piece.

    index int64[k] and gain float64[k] as there, ties to the lowest index. Two gains count as tied when
    float64 cannot tell them apart, so that summing in another order does not decide. Raises InputError for
    shares that do not fit together, a budget out of range, and a kernel that needs every pair of rows.
    """
    about = ask(lambda share: share.about())
    ends = _check(about, budget)
    commons = [common for *_, common in about]
    news = whole = Now(np.empty(0, dtype=np.int64), 0, ask(lambda share: share.pooled(commons), [0])[0])
    picks = Picks(budget, progress=progress)
    while len(picks.index) < budget:
        heads = _heads(ask, news, whole)
        lead = max(heads, key=lambda head: head.best)
        if lead.best == -np.inf:  # only copies are left
            break
        first = min(head.first for head in heads if head.best >= lead.best - lead.slack and head.first >= 0)
        index, floor = _merged(heads, first)
        owners = np.unique(np.searchsorted(ends, index, side="right"))
        first_part, *others = ask(partial(_take, index), owners.tolist())
        function = first_part.union(others)
        state = function.state(len(index))
        state.common = whole.common
        window = state.window(np.arange(len(index)))
        room, inside = (
            Limits(len(index), min(len(index), budget - len(picks.index)), None, None, None, None),
            Picks(len(index)),
        )
        pick_inside(state, window, room, inside, floor, int(np.searchsorted(index, first)))
        window.close()
        for j, gain in zip(index[inside.index], inside.gain, strict=True):
            picks.append(int(j), gain)
        base = len(whole.index)
        whole = Now(np.array(picks.index, dtype=np.int64), 0, state.common)
        news = Now(whole.index[base:], base, state.since(base))
    return picks.done()


def _heads(ask: Ask[Share], news: Now, whole: Now) -> list[Head]:
    """Every share's answer; those whose old bounds stand in the way have looked at all their rows for it."""
    heads = _told(ask, news, whole)
    lead = max(heads, key=lambda head: head.best)
    late = [
        i for i, head in enumerate(heads) if head.outer > -np.inf and head.outer >= lead.best - lead.slack
    ]
    for i, head in zip(late, _told(ask, news, whole, late, everybody=True), strict=True):
        heads[i] = head
    return heads


def _told(
    ask: Ask[Share], news: Now, whole: Now, which: Sequence[int] | None = None, everybody: bool = False
) -> list[Head]:
    """The heads after the ``news``, or after the ``whole`` of it where a share has lost what the news go on
    from."""
    heads = ask(partial(_head, news, everybody), which)
    lost = [i for i, head in enumerate(heads) if head is None]
    for i, head in zip(
        lost,
        ask(partial(_head, whole, everybody), lost if which is None else [which[i] for i in lost]),
        strict=True,
    ):
        heads[i] = head
    return heads  # type: ignore[return-value]  # the whole begins with the first pick


def _head(now: Now, everybody: bool, share: Share) -> Head | None:
    return share.head(now, everybody)


def _merged(heads: Sequence[Head], first: int) -> tuple[np.ndarray, float]:
    """The leaders of leaders, int64[w] ascending, ``first`` among them, and what no other row's gain
    exceeds."""
    index, gain = (
        np.concatenate([head.index for head in heads]),
        np.concatenate([head.gain for head in heads]),
    )
    floor = max(max(head.inner, head.outer) for head in heads)
    width = max(len(head.index) for head in heads)
    if len(index) > width:
        order = np.argsort(np.where(index == first, -np.inf, -gain), kind="stable")
        floor = max(floor, float(gain[order[width]]))
        index = index[order[:width]]
    return np.sort(index), floor


def _take(index: np.ndarray, share: Share) -> Divisible:
    return share.take(index)


def _check(about: Sequence[tuple[int, int, int, Any]], budget: int) -> np.ndarray:
    """int64[p]: where each share ends."""
    begins, ends, widths = (np.array([facts[i] for facts in about]) for i in range(3))
    if begins[0] != 0 or np.any(begins[1:] != ends[:-1]):
        raise InputError(
            "The shares of a pool must follow on each other, the first from row 0: each begins where the "
            "last one ends."
        )
    if np.unique(widths).size > 1:
        raise InputError(
            "The shares of a pool must have rows of one length; these have "
            f"{', '.join(map(str, np.unique(widths)))}."
        )
    if not 1 <= budget <= ends[-1]:
        raise InputError(
            f"budget is {budget}; it must be a whole number from 1 to {ends[-1]}, the rows there are to "
            "choose from."
        )
    return ends
