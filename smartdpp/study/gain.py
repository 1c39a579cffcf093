"""The share of the oracle's gain over random that a strategy recovers, with an interval over seeds and
documents.

share = (random - strategy) / (random - oracle), each a mean over the seeds that all three have: 1 chooses as
well as the truth does, 0 as well as chance, below 0 worse. The interval is a bootstrap of both: seeds are
drawn with replacement, and every document counts as often as a Poisson draw of mean 1 says, the same in all
runs that it was scored in, by what it adds to a run's mean (smartdpp.evaluation.intervals.influence). With
few seeds a bootstrap's spread is too small and its tails too thin: deviations of seeds are widened by
√(S / (S - 1)), and the percentiles are those at which a t interval of S - 1 degrees of freedom ends
(Hesterberg 2015, expanded percentiles, which have the same factor inside them: with both an interval is a
little wider than 95 % asks for).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 4000


@dataclass(frozen=True)
class Way:
    """One strategy's runs over S seeds."""

    values: Sequence[float]  # the metric, one a seed
    influences: Sequence[Mapping[Any, float]]  # of each run's documents; empty where they are not known


@dataclass(frozen=True)
class Share:
    """nan where it is not defined: the oracle is not better than random for sure."""

    gain: float  # the strategy's own, over random
    value: float
    low: float
    high: float
    seeds: int


def recovered(way: Way, random: Way, oracle: Way, lower: bool, seed: int = 0) -> Share:
    """The share with its 95 % interval. lower: whether a smaller value is better."""
    sign = 1.0 if lower else -1.0
    S = len(way.values)
    ways = [way, random, oracle]
    mean = [sign * float(np.mean(one.values)) for one in ways]
    own = mean[1] - mean[0]
    nothing = Share(own, np.nan, np.nan, np.nan, S)
    if S < 2:
        return nothing
    drawn = sign * _resampled(ways, np.random.default_rng(seed))  # (B, 3)
    gains, best = drawn[:, 1] - drawn[:, 0], drawn[:, 1] - drawn[:, 2]
    low, high = _tails(S)
    if np.quantile(best, low) <= 0:
        return nothing
    value = own / (mean[1] - mean[2])
    ends = np.quantile(gains / best, [low, high])
    return Share(own, value, float(ends[0]), float(ends[1]), S)


def _resampled(ways: Sequence[Way], rng: np.random.Generator) -> np.ndarray:
    """float64[B, W]: the ways' means in B worlds, drawn from the seeds and documents that are there."""
    S = len(ways[0].values)
    values = np.array([one.values for one in ways], dtype=np.float64)  # (W, S)
    centre = values.mean(1, keepdims=True)
    values = centre + np.sqrt(S / (S - 1)) * (values - centre)
    seeds = rng.multinomial(S, np.full(S, 1 / S), size=RESAMPLES) / S  # (B, S)
    found = seeds @ values.T
    keys = sorted({key for one in ways for run in one.influences for key in run}, key=repr)
    if keys:
        at = {key: i for i, key in enumerate(keys)}
        adds = np.zeros((len(ways), S, len(keys)))
        for w, one in enumerate(ways):
            for s, run in enumerate(one.influences):
                adds[w, s, [at[key] for key in run]] = list(run.values())
        counts = rng.poisson(1.0, size=(RESAMPLES, len(keys))) - 1.0
        for w in range(len(ways)):
            found[:, w] += np.einsum("bs,bs->b", seeds, counts @ adds[w].T)
    return found


def _tails(S: int) -> tuple[float, float]:
    from scipy.special import ndtr, stdtrit

    low = float(ndtr(-np.sqrt(S / (S - 1)) * -stdtrit(S - 1, 0.025)))
    return low, 1 - low
