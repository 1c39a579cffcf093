"""An equal share of every k-means cluster, drawn at random, or by quality (kMQ).

Yu et al. 2024, arXiv 2409.11378, as in their code: floor(budget / clusters) of each, without replacement,
with probability proportional to exp(score). What their code loses, the remainder and what small clusters
cannot give, goes round the clusters that have more, so that the budget is met.

Their iterative form, which weighs clusters between rounds by the trained model's own answers, is
strategy=kmq_rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from smartdpp.bounds import Count
from smartdpp.errors import InputError
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.clusters import kmeans
from smartdpp.strategies.pool_order import by_id
from smartdpp.strategies.scored import quality
from smartdpp.types import Pool, Selection


@dataclass(frozen=True)
class KMeansRandom:
    """Every cluster's rows in random order; the clusters, largest first, take turns. A smaller budget is a
    prefix of a larger one. There is no objective, so every gain is 0."""

    nested: ClassVar[bool] = True
    clusters: Count = 512
    iterations: Count = 25
    restarts: Count = 1

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        return _in_turns(self, pool, budget, np.zeros(len(pool)), rng)


@dataclass(frozen=True)
class KMeansQuality:
    """As `KMeansRandom`, drawn inside a cluster with probability p ∝ exp(q / ``temperature``), or where
    ``scale`` is log p ∝ q^(1 / temperature): for a q that is the exponential of a score, as a reward's is.

    Draws without replacement in these proportions are the order of log p + Gumbel noise.
    """

    nested: ClassVar[bool] = True
    clusters: Count = 512
    iterations: Count = 25
    restarts: Count = 1
    scale: Literal["linear", "log"] = "linear"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise InputError(f"strategy.temperature is {self.temperature}: choose a positive number.")

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        score = quality(pool, "kmq", "it draws as strategy=kmeans_random does")
        return _in_turns(
            self, pool, budget, (np.log(score) if self.scale == "log" else score) / self.temperature, rng
        )


def _in_turns(
    settings: KMeansRandom | KMeansQuality,
    pool: Pool,
    budget: int,
    log_p: np.ndarray,
    rng: np.random.Generator,
) -> Selection:
    rows = by_id(pool)
    found = kmeans(
        pool.X, rows, settings.clusters, rng, iterations=settings.iterations, restarts=settings.restarts
    )
    key = np.empty(len(pool))
    key[rows] = log_p[rows] + rng.gumbel(size=len(rows))
    largest_first = np.argsort(-found.sizes, kind="stable")
    drawn = [found.rows[c][np.argsort(-key[found.rows[c]], kind="stable")] for c in largest_first]
    turn = np.concatenate([np.arange(len(some)) for some in drawn])
    return Selection(
        index=np.concatenate(drawn)[np.argsort(turn, kind="stable")][:budget], gain=np.zeros(budget)
    )
