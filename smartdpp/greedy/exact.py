"""Exact greedy with few passes over the pool: bounds for everybody, certainty for a few, picks among fewer.

Three nested sets. Every item has an upper bound on its gain: a value computed earlier, which stands because
gains only fall (where they can rise, graph cut with negative similarities, by at most a known ``rise``). The
*active* items are the leaders by bound; the *window* holds the leaders of these, with exact gains that are
kept up to date pick by pick at the cost of a small matrix row. A pick inside the window is greedy's pick as
long as it beats every bound outside. When none does, ``settle`` evaluates just the items whose bounds stand
in the way, in blocks, which is one matrix product for many items instead of many passes over the pool (lazy
greedy: Minoux 1978).

All gains that decide are float64, or are resolved in float64 where float32 cannot tell two items apart. Ties
go to the lowest index.
"""

from __future__ import annotations

import numpy as np

from smartdpp.functions.state import State, StateAhead, Window
from smartdpp.greedy.limits import Limits
from smartdpp.greedy.picks import Picks

# where this share of the members is still in doubt after a first look, all of it is evaluated at once
MOST = 0.45
AHEAD = 64  # picks that a state makes by itself at a time: in between the progress is shown


def exact(state: State, limits: Limits, picks: Picks) -> None:
    """Greedy until the limits are reached or every gain is -inf."""
    everyone = np.arange(len(limits.free))
    bound = np.full(len(everyone), np.inf) if state.rises else state.gains()
    while True:
        certain = isinstance(state, StateAhead) and go_ahead(state, limits, bound, picks)
        first = settle(state, limits, bound, everyone)
        if first is None:
            return
        if certain:  # settled alone; where one tie follows another, the window is quicker
            limits.take(first)
            state.add(np.array([first]))
            picks.append(first, float(bound[first]))
            continue
        active, outer = leaders(limits, bound, everyone, state.active, first)
        mark = state.mark()
        while first is not None:
            index, inner = leaders(limits, bound, active, state.width, first)
            floor = max(inner, outer + state.rise(mark) / limits.cheapest)
            window = state.window(index)
            pick_inside(state, window, limits, picks, floor, first)
            bound[index] = window.gain
            window.close()
            first = settle(state, limits, bound, active)
            if first is not None:
                ceiling = outer + (state.rise(mark) + state.tolerance(first, bound[first])) / limits.cheapest
                if limits.rank(bound, np.array([first]))[0] <= ceiling:
                    first = None


def go_ahead(state: StateAhead, limits: Limits, bound: np.ndarray, picks: Picks) -> bool:
    """Picks what the state can by itself; whether it could anything."""
    any_picked = False
    while limits.plain and limits.left > 0:
        index, gain = state.ahead(bound, limits.free, min(AHEAD, int(limits.left)))
        for j, g in zip(index.tolist(), gain.tolist(), strict=True):
            limits.take(j)
            picks.append(j, g)
        any_picked |= len(index) > 0
        if len(index) < AHEAD:
            break
    return any_picked


def settle(state: State, limits: Limits, bound: np.ndarray, members: np.ndarray) -> int | None:
    """The member greedy picks next (None: there is none), once every member whose bound stands in the way is
    evaluated, into ``bound``."""
    score = limits.rank(bound, members)
    candidates = np.count_nonzero(score > -np.inf)
    stale = np.ones(len(members), dtype=bool)
    best, slack, size = -np.inf, 0.0, len(members) if state.rises else state.chunk
    while True:
        doubtful = np.flatnonzero(stale & (score >= best - slack) & (score > -np.inf))
        if not doubtful.size:
            break
        if doubtful.size > size and not (best > -np.inf and doubtful.size > MOST * candidates):
            doubtful = np.sort(doubtful[np.argpartition(-score[doubtful], size)[:size]])
        elif doubtful.size == candidates:  # the members as they are: their rows may still be at hand
            doubtful = np.arange(len(members))
        index = members[doubtful]
        bound[index] = state.gains(index)
        score[doubtful] = limits.rank(bound, index)
        stale[doubtful] = False
        doubt = state.doubt(index)
        sure = score[doubtful] - doubt / limits.cheapest
        if sure.max() > best:
            at = int(sure.argmax())
            best, slack = sure[at], state.tolerance(index[at], bound[index[at]]) / limits.cheapest
        size *= 2
    if best == -np.inf:
        return settle(state, limits, bound, members) if candidates and state.sharpen() else None
    tied = members[np.flatnonzero(~stale & (score >= best - slack))]
    if tied.size == 1 and not np.any(doubt):
        return int(tied[0])
    bound[tied], error = state.resolve(tied)
    return int(tied[decide(limits, tied, bound[tied], error)])


def decide(limits: Limits, tied: np.ndarray, gain: np.ndarray, error: float) -> int:
    """Which of some items (ascending) that were too close to call is picked: the best, and of equals the
    first."""
    score = limits.score(gain, tied)
    return int(np.flatnonzero(score >= score.max() - error / limits.cheapest)[0])


def leaders(
    limits: Limits, bound: np.ndarray, members: np.ndarray, size: int, first: int
) -> tuple[np.ndarray, float]:
    """The ``size`` members of highest bound (ascending), ``first`` among them, and the highest score of the
    others."""
    if len(members) <= size:
        return members, -np.inf
    score = limits.rank(bound, members)
    score[members == first] = np.inf
    order = np.argpartition(-score, size)
    return np.sort(members[order[:size]]), float(score[order[size:]].max())


def pick_inside(
    state: State, window: Window, limits: Limits, picks: Picks, floor: float, first: int | None
) -> None:
    """Picks in the window, ``first`` before anything else, while the best beats ``floor`` and what the
    outside may have risen by."""
    while True:
        if first is not None:
            at, first = int(np.searchsorted(window.index, first)), None
        else:
            score = np.where(limits.open(window.index), limits.score(window.gain, window.index), -np.inf)
            at = int(score.argmax())
            best = score[at]
            slack = (
                state.tolerance(window.index[at], window.gain[at]) / limits.cheapest
                if best > -np.inf
                else 0.0
            )
            if best <= floor + window.rise / limits.cheapest + slack:  # -inf too: nothing is left in here
                return
            tied = np.flatnonzero(score >= best - slack)
            at = int(
                tied[0] if tied.size == 1 else tied[decide(limits, window.index[tied], *window.resolve(tied))]
            )
        gain = window.gain[at]
        limits.take(int(window.index[at]))
        window.add(at)
        picks.append(int(window.index[at]), float(gain))
