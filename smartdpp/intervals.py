"""How sure a mean or a difference is: over seeds, over documents, over both, and among many comparisons.

A difference between two ways of choosing is paired twice: the same seeds and the same held-out documents enter both sides, so what makes a
seed or a document hard for both cancels. What is left varies over seeds and over documents; the variances of the two are added, as in
two-way clustering (Cameron, Gelbach and Miller 2011) without its last term, which only widens the interval (Owen 2007).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95

Influence = Mapping[Any, float]
"""Document to what it adds to a difference of macro-averages: their squares sum to its variance over documents."""


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences; half widths of 95 % t intervals are nan where they cannot be had."""

    mean: float
    half: float  # seeds and documents together
    half_seeds: float  # the documents taken as given; nan for one seed
    half_documents: float  # the seeds taken as given; nan where no document is known
    p: float  # of no difference, two-sided; nan for one seed
    seeds: int
    documents: int


def t_interval(values: Any) -> tuple[float, float]:
    """Mean of n values and half the width of its 95 % t interval; the latter is nan for n < 2."""
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    return float(values.mean()), _half(values.var(ddof=1) / n, n - 1) if n > 1 else np.nan


def influence(keys: Sequence[tuple[str, str]], numerator: np.ndarray, denominator: np.ndarray) -> dict[tuple[str, str], float]:
    """What each document adds to a macro-average over tasks of ratios of sums, by linearisation (Cochran, Sampling Techniques, ch. 6).

    keys: (task, document) for each of n; numerator, denominator: float64[n]. Documents without the metric have denominator 0 and no part.
    """
    has = denominator > 0
    tasks, of = np.unique([task for (task, _), h in zip(keys, has, strict=True) if h], return_inverse=True)
    num, den = numerator[has], denominator[has]
    n, total = np.bincount(of), np.bincount(of, den)
    ratio = np.bincount(of, num) / total
    adds = (num - ratio[of] * den) / total[of] * np.sqrt(n / np.maximum(n - 1, 1))[of] / len(tasks)
    return dict(zip((key for key, h in zip(keys, has, strict=True) if h), adds.tolist(), strict=True))


def paired_difference(by_seed: Sequence[float], influences: Sequence[Influence]) -> Difference:
    """The mean of ``by_seed``, one difference a pair of runs; ``influences`` are the pairs' own, or empty where documents are not known.

    A document that several pairs share is the same draw in each of them.
    """
    from scipy.stats import t

    S, mean = len(by_seed), float(np.mean(by_seed))
    v_seeds = float(np.var(by_seed, ddof=1)) / S if S > 1 else np.nan
    adds: dict[Any, float] = {}
    for of_pair in influences:
        for key, value in of_pair.items():
            adds[key] = adds.get(key, 0.0) + value / S
    D, T = len(adds), len({key[0] for key in adds})
    v_documents = float(np.square(list(adds.values())).sum()) if T < D else np.nan
    parts = [(v, df) for v, df in ((v_seeds, S - 1), (v_documents, D - T)) if not np.isnan(v)]
    half = p = np.nan
    if S > 1:
        variance = sum(v for v, _ in parts)
        # Satterthwaite's degrees of freedom of a sum of two variances
        df = variance**2 / sum(v**2 / df for v, df in parts) if variance > 0 else S - 1
        half = _half(variance, df)
        p = float(2 * t.sf(abs(mean) / np.sqrt(variance), df)) if variance > 0 else float(mean == 0)
    half_seeds = _half(v_seeds, S - 1) if S > 1 else np.nan
    return Difference(mean, half, half_seeds, np.nan if np.isnan(v_documents) else _half(v_documents, D - T), p, S, D)


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction (1979): the k-th smallest of m values times m - k + 1, made to rise, at most 1. nan counts for none."""
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def _half(variance: float, df: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, df) * np.sqrt(variance))
