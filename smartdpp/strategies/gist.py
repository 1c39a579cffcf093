"""Quality and the distance between the nearest two chosen rows, added: GIST (Fahrbach et al., arXiv
2405.18754).

f(S) = g(S) + λ min_{i≠j∈S} dist(i, j). For distances d that grow geometrically, greedy on g takes rows no
nearer than d to what it has; the best of these sets by f is the selection. Here g is the mean quality as a
part of the largest, so greedy on g is to read by falling quality, dist is Euclidean on normalised rows, and
only sets that fill the budget count: the sweep ends where one does not.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from smartdpp.bounds import NotNegative
from smartdpp.errors import InputError
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
    epsilon, after 0. Rows come by falling quality, which is the gain; another budget is another distance, so
    a smaller one is no prefix of a larger one."""

    diversity: NotNegative = 1.0
    epsilon: float = 0.1

    def __post_init__(self) -> None:
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
