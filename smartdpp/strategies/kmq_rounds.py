"""kMQ in rounds: the clusters of which the trained model's own answers are furthest behind give more to the
next round.

Yu et al. 2024, arXiv 2409.11378, as in their code (iter.py): equal shares of k-means clusters are trained on;
the model answers the prompts of all rows chosen so far; cluster c then has the weight w_c ∝ exp(mean over its
rows of score(response) - score(own answer)), and gives its share of the next round, drawn at random from what
it has left. Differences: shares are rounded, not drawn, and what small clusters cannot give goes to others,
so that the budget is met; a cluster of which nothing was chosen, where their code stops, has the mean gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.bounds import Count
from smartdpp.strategies.allocate import allocate, check_budget, interleave
from smartdpp.strategies.clusters import kmeans
from smartdpp.strategies.pool_order import by_id, started
from smartdpp.types import Embedding, Pool, Selection


@dataclass(frozen=True)
class KMeansRounds:
    """The score is quality=reward's model's where that is the quality, otherwise the trained model's log
    perplexity, so that the gap is log PPL(response) - log PPL(own answer). Own answers are cut at
    ``max_new_tokens``. There is no objective, so every gain is 0."""

    answers: ClassVar[bool] = True
    clusters: Count = 64
    rounds: Count = 3
    max_new_tokens: Count = 64
    iterations: Count = 25
    restarts: Count = 1

    def check(self) -> list[str]:
        return []

    def misfits(self, embedding: Embedding, budget: int, *, trained: bool) -> list[str]:
        if budget >= self.rounds:
            return []
        return [f"budget={budget}: strategy.rounds={self.rounds} needs at least one example for each round"]

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        """One round. The generator begins anew with each, so that the clusters are the same in all."""
        check_budget(budget, len(pool))
        found = kmeans(
            pool.X, by_id(pool), self.clusters, rng, iterations=self.iterations, restarts=self.restarts
        )
        weight = weights(found.rows, pool.gap)
        order = np.argsort(-weight, kind="stable")
        left = [rng.permutation(found.rows[c]) for c in order]
        left = [rows[~started(pool, rows)] for rows in left]
        counts = allocate(weight[order], np.array([len(rows) for rows in left]), budget)
        drawn = np.concatenate([rows[:count] for rows, count in zip(left, counts, strict=True)])
        return Selection(drawn[interleave(counts)], np.zeros(budget))


def weights(clusters: list[np.ndarray], gap: np.ndarray | None) -> np.ndarray:
    """float64[K], their sum 1: ∝ exp of the mean ``gap`` (float64[n], NaN where nothing is known) of each
    cluster's rows; all the same before anything is known."""
    mean = np.full(len(clusters), np.nan)
    for c, rows in enumerate(clusters):
        if gap is not None and np.isfinite(gap[rows]).any():
            mean[c] = np.nanmean(gap[rows])
    known = np.isfinite(mean)
    mean[~known] = mean[known].mean() if known.any() else 0.0
    weight = np.exp(mean - mean.max())
    return weight / weight.sum()
