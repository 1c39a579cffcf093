"""How sure a mean or a difference is: over seeds, over documents, over both, and among many comparisons.

A difference between two ways of choosing is paired twice: the same seeds and the same held-out documents
enter both sides, so what makes a seed or a document hard for both cancels. What is left varies over seeds and
over documents. The two are independent parts of one error: the squares of their half widths add (recovery of
variance estimates, Zou and Donner 2008). Unlike Satterthwaite's degrees of freedom this does not take few
seeds that agree by luck for many. Several ways under one baseline tell of each other's variance over seeds:
see ``moderated``. How often all this claims what is not so was simulated:
experiments/results/benchmarks/intervals.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
CLAIM = 5  # pairs of runs (seeds) below which a difference is no claim
FEWEST_WAYS = 3  # ways whose variances are moderated
SHARED = 0.5  # the least correlation of two ways' differences: both have the baseline's noise in them

Influence = Mapping[Any, float]
"""Document to what it adds to a difference of macro-averages: their squares sum to its variance over
documents."""


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences; half widths of 95 % intervals are nan where they cannot be had."""

    mean: float
    half: float  # seeds and documents together: the root of the sum of the two squares below
    half_seeds: float  # the documents taken as given; nan for one seed
    half_documents: float  # the seeds taken as given; nan where no document is known
    p: float  # of no difference, two-sided; nan for one seed
    seeds: int
    documents: int


def t_interval(values: Any) -> tuple[float, float]:
    """Mean of n values and half the width of its 95 % t interval; the latter is nan for n < 2."""
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    return float(values.mean()), _half([(values.var(ddof=1) / n, n - 1)], LEVEL) if n > 1 else np.nan


def plus_minus(half: float, digits: int = 3) -> str:
    """How half a width is written behind its mean; nothing where there is none."""
    return "" if np.isnan(half) else f" ± {half:.{digits}f}"


def influence(
    keys: Sequence[tuple[str, str]], numerator: np.ndarray, denominator: np.ndarray
) -> dict[tuple[str, str], float]:
    """What each document adds to a macro-average over tasks of ratios of sums, by linearisation (Cochran,
    Sampling Techniques, ch. 6).

    keys: (task, document) for each of n; numerator, denominator: float64[n]. Documents without the metric
    have denominator 0 and no part.
    """
    has = denominator > 0
    tasks, of = np.unique([task for (task, _), h in zip(keys, has, strict=True) if h], return_inverse=True)
    num, den = numerator[has], denominator[has]
    n, total = np.bincount(of), np.bincount(of, den)
    ratio = np.bincount(of, num) / total
    adds = (num - ratio[of] * den) / total[of] * np.sqrt(n / np.maximum(n - 1, 1))[of] / len(tasks)
    return dict(zip((key for key, h in zip(keys, has, strict=True) if h), adds.tolist(), strict=True))


@dataclass(frozen=True)
class Spread:
    """How one way's differences vary over seeds."""

    variance: float  # of one pair of runs
    df: float  # degrees of freedom of that


def moderated(ways: Sequence[Mapping[Any, float]]) -> list[Spread | None]:
    """Each way's spread over seeds, steadied by the other ways'. ways: seed to difference, all against the
    same runs of one baseline.

    Empirical Bayes (Smyth 2004): the variances s² of W ways with d degrees of freedom each are draws around
    s0² with d0, both of which the spread of log s² tells, so that (d0 s0² + d s²) / (d0 + d) has d0 + d. Ways
    that differ in their variance make d0 small by themselves. Two things are more careful than there. The
    baseline's noise is in all differences, so their variances agree without telling more: with a correlation
    of ρ between ways the spread expected by chance is 1 - ρ² as large, and no way gets more degrees of
    freedom than W d / (1 + (W - 1) ρ²); ρ is taken from the differences, SHARED at least. And a variance is
    never made smaller, as the noisiest of unequal ways would be claimed too often (0.09 for 0.05 in
    simulation).

    With fewer than FEWEST_WAYS ways that vary each keeps its own; None for a way with one seed.
    """
    from scipy.special import polygamma, psi

    values = [np.array(list(way.values()), dtype=np.float64) for way in ways]
    s2 = np.array([v.var(ddof=1) if len(v) > 1 else np.nan for v in values])
    d = np.array([len(v) - 1.0 for v in values])
    fit = s2 > 0
    W = int(fit.sum())
    if W >= FEWEST_WAYS:
        shared = max(SHARED, _correlation([way for way, f in zip(ways, fit, strict=True) if f])) ** 2
        half = d[fit] / 2
        log_s2 = np.log(s2[fit]) - psi(half) + np.log(half)
        excess = log_s2.var(ddof=1) - (1 - shared) * polygamma(1, half).mean()
        if excess > 0:
            d0 = 2 * _inverse_trigamma(excess)
            prior = np.exp(log_s2.mean() + psi(d0 / 2) - np.log(d0 / 2))
            steadied = (d0 * prior + d * s2) / (d0 + d)
        else:  # no more spread than equal variances have
            d0, steadied = np.inf, np.full(len(ways), np.average(s2[fit], weights=d[fit]))
        most = d[fit].sum() / (1 + (W - 1) * shared)
        s2, d = (
            np.where(d > 0, np.maximum(s2, steadied), np.nan),
            np.where(d > 0, np.minimum(d0 + d, np.maximum(most, d)), 0),
        )
    return [Spread(float(v), float(df)) if df > 0 else None for v, df in zip(s2, d, strict=True)]


def _correlation(ways: Sequence[Mapping[Any, float]]) -> float:
    """The mean correlation of two ways' differences over the seeds that both have; 0 where no two share three
    seeds."""
    seeds = sorted({seed for way in ways for seed in way}, key=repr)
    values = np.array([[way.get(seed, np.nan) for seed in seeds] for way in ways])
    found = []
    for i, one in enumerate(values):
        for other in values[i + 1 :]:
            both = ~np.isnan(one) & ~np.isnan(other)
            x, y = one[both] - one[both].mean(), other[both] - other[both].mean()
            if both.sum() > 2 and (scale := np.sqrt((x @ x) * (y @ y))) > 0:
                found.append(float(x @ y / scale))
    return float(np.mean(found)) if found else 0.0


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value > 0, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = polygamma(1, x)
        step = trigamma * (1 - trigamma / value) / polygamma(2, x)
        x += step
        if -step / x < 1e-8:
            break
    return float(x)


def paired_difference(
    by_seed: Sequence[float], influences: Sequence[Influence], spread: Spread | None = None
) -> Difference:
    """The mean of ``by_seed``, one difference a pair of runs; ``influences`` are the pairs' own, or empty
    where documents are not known.

    A document that several pairs share is the same draw in each of them. spread: over seeds, as ``moderated``
    has it; None: by these alone.
    """
    S, mean = len(by_seed), float(np.mean(by_seed))
    if spread is None and S > 1:
        spread = Spread(float(np.var(by_seed, ddof=1)), S - 1)
    adds: dict[Any, float] = {}
    for of_pair in influences:
        for key, value in of_pair.items():
            adds[key] = adds.get(key, 0.0) + value / S
    D, T = len(adds), len({key[0] for key in adds})
    documents = [(float(np.square(list(adds.values())).sum()), float(D - T))] if T < D else []
    half_documents = _half(documents, LEVEL) if documents else np.nan
    if spread is None:
        return Difference(mean, np.nan, np.nan, half_documents, np.nan, S, D)
    seeds = [(spread.variance / S, spread.df)]
    both = seeds + documents
    return Difference(
        mean, _half(both, LEVEL), _half(seeds, LEVEL), half_documents, _two_sided(mean, both), S, D
    )


def _half(parts: Sequence[tuple[float, float]], level: float) -> float:
    """Half the width of an interval for a sum of independent errors, each with its variance and the degrees
    of freedom of that."""
    from scipy.special import stdtrit

    return float(np.sqrt(sum(variance * stdtrit(df, (1 - level) / 2) ** 2 for variance, df in parts)))


def _two_sided(mean: float, parts: Sequence[tuple[float, float]]) -> float:
    """p of a true difference of zero: one minus the largest level at which the interval leaves zero out."""
    from scipy.special import stdtr, stdtrit

    parts = [(variance, df) for variance, df in parts if variance > 0]
    if not parts:
        return float(mean == 0)
    if len(parts) == 1:
        return float(2 * stdtr(parts[0][1], -abs(mean) / np.sqrt(parts[0][0])))
    low, high = -200.0, float(np.log(0.5))  # of the logarithm of p / 2
    for _ in range(60):
        middle = (low + high) / 2
        wide = sum(variance * stdtrit(df, np.exp(middle)) ** 2 for variance, df in parts) > mean**2
        low, high = (middle, high) if wide else (low, middle)
    return float(min(1, 2 * np.exp(high)))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction (1979): the k-th smallest of m values times m - k + 1, made to rise, at
    most 1. nan counts for none."""
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted
