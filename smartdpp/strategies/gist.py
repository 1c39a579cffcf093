"""Quality and the distance between the nearest two chosen rows, added: GIST (Fahrbach et al., arXiv
2405.18754).

f(S) = g(S) + λ min_{i≠j∈S} dist(i, j). For distances d that grow geometrically, greedy on g takes rows no
nearer than d to what it has; the best of these sets by f is the selection. g is monotone and submodular: the
mean quality as a part of the largest, of which greedy reads by falling quality, or facility location, as a
part of the rows. dist is Euclidean on normalised rows, and only sets that fill the budget count: the sweep
ends where one does not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from smartdpp.bounds import NotNegative
from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation
from smartdpp.functions.state import Function
from smartdpp.greedy.exact import exact
from smartdpp.greedy.limits import Limits
from smartdpp.greedy.picks import Picks
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.dedup import leaders
from smartdpp.strategies.pool_order import by_id
from smartdpp.strategies.scored import quality
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)

BLOCK = 1024


@dataclass(frozen=True)
class Gist:
    """``diversity`` is λ. Distances go from ``epsilon`` times half the largest one up by factors of 1 +
    epsilon, after 0. Rows come by falling quality, which is the gain, or in the greedy order of ``function``
    with its gains; another budget is another distance, so a smaller one is no prefix of a larger one."""

    diversity: NotNegative = 1.0
    epsilon: float = 0.1
    function: Callable[[Any], Function] | None = None

    def __post_init__(self) -> None:
        if (
            self.function is not None
            and getattr(self.function, "func", self.function) is not FacilityLocation
        ):
            raise InputError(
                "strategy.function must be monotone, as facility_location is; without it quality decides."
            )
        if not 0.001 <= self.epsilon <= 1:
            raise InputError(
                f"strategy.epsilon is {self.epsilon}: choose between 0.001 and 1 (0.1 is usual)."
            )

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        if self.function is not None:
            return self._covering(pool, self.function, budget)
        score, rows = quality(pool, "gist", "only distances decide, and ids"), by_id(pool)
        rows = rows[np.argsort(-score[rows], kind="stable")]
        best, at, kept = -np.inf, 0.0, rows[:budget]
        for distance in distances(self.epsilon):
            # a cosine of more than 1 - d²/2 is nearer than d
            found = (
                rows[leaders(pool.X, rows, 1 - distance**2 / 2, most=budget)] if distance else rows[:budget]
            )
            if len(found) < budget:
                break
            value = float(score[found].mean() / score.max()) + self.diversity * nearest_pair(pool.X[found])
            if value > best:
                best, at, kept = value, distance, found
        logger.info("no two of the chosen were taken nearer than %.3g: objective %.4g", at, best)
        return Selection(index=kept, gain=score[kept])

    def _covering(self, pool: Pool, make: Callable[[Any], Function], budget: int) -> Selection:
        rows = by_id(pool)
        X = np.asarray(pool.X[rows], dtype=np.float32)
        best, at, kept = -np.inf, 0.0, Selection(rows[:0], np.zeros(0))
        for distance in distances(self.epsilon):
            function, picks = make(X), Picks(budget)
            exact(function.state(budget), Apart(X, budget, distance), picks)
            found = picks.done()
            if len(found) < budget:
                break
            value = float(found.gain.sum()) / len(rows) + self.diversity * nearest_pair(X[found.index])
            if value > best:
                best, at, kept = value, distance, Selection(rows[found.index], found.gain)
        logger.info("no two of the chosen were taken nearer than %.3g: objective %.4g", at, best)
        return kept


class Apart(Limits):
    """``budget`` of the rows X (n, d), none nearer than ``distance`` to one that is taken; 0: any."""

    plain = False

    def __init__(self, X: np.ndarray, budget: int, distance: float) -> None:
        super().__init__(len(X), budget, None, None, None, None)
        self.distance = distance
        self.V = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def take(self, j: int) -> None:
        super().take(j)
        if self.distance:
            self.free[self.V @ self.V[j] > 1 - self.distance**2 / 2] = False


def distances(epsilon: float) -> np.ndarray:
    """float64: 0, then ε, ε (1 + ε), ... below 2, the largest distance there is between normalised rows."""
    steps = int(np.ceil(np.log(2 / epsilon) / np.log1p(epsilon)))
    return np.concatenate([[0.0], epsilon * (1 + epsilon) ** np.arange(steps)])


def nearest_pair(X: np.ndarray) -> float:
    """The least distance between two of the rows (k, d), normalised; 2 of a single one."""
    V = np.asarray(X, dtype=np.float32)
    V = V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    highest = -1.0
    for a in range(0, len(V), BLOCK):
        s = V[a : a + BLOCK] @ V[a:].T
        s[np.tril_indices(len(s), 0, s.shape[1])] = -1.0
        highest = max(highest, float(s.max(initial=-1.0)))
    return float(np.sqrt(max(0.0, 2 - 2 * highest)))
