"""Stochastic greedy (Mirzasoleiman et al. 2015, "Lazier than lazy greedy"): each pick is the best of a random
sample."""

from __future__ import annotations

import numpy as np

from smartdpp.functions.state import State
from smartdpp.greedy.exact import settle
from smartdpp.greedy.limits import Limits
from smartdpp.greedy.picks import Picks


def stochastic(state: State, limits: Limits, picks: Picks, most: int, epsilon: float, seed: int) -> None:
    """Greedy over samples of (n / k) log(1 / ε) open items; pick t draws from ``default_rng([seed, t])``, so
    that a run can resume."""
    n = len(limits.free)
    size = int(np.ceil(n / most * np.log(1 / epsilon)))
    bound = np.full(n, np.inf)
    while True:
        candidates = np.flatnonzero(limits.open(np.arange(n)) & (bound > -np.inf))
        if candidates.size > size:
            draw = np.random.default_rng([seed, len(picks.index)])
            candidates = np.sort(draw.choice(candidates, size, replace=False))
        if not candidates.size:
            return
        if state.rises:
            bound[candidates] = np.inf
        j = settle(state, limits, bound, candidates)
        if j is not None:  # None: all of these are excluded for good, and bound says so
            limits.take(j)
            state.add(np.array([j]))
            picks.append(j, float(bound[j]))
