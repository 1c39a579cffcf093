"""Two runs on the same documents, compared document by document; intervals over documents.

The tasks are the ones that were asked for, their documents a sample: what is resampled are documents within
their tasks. The same documents enter both runs, so what makes a document hard for both cancels. An interval
says nothing about other tasks or other training seeds.

Intervals are studentised: the estimate plus and minus its standard error times the larger of Student's t and
the 95th percentile of |t| over resamples (symmetric bootstrap-t; Hall 1988). Percentiles of the estimate
alone are too narrow at 10 to 25 documents a task; how often each covers was simulated:
experiments/results/benchmarks/intervals.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.evaluation.intervals import LEVEL
from smartdpp.evaluation.scores import RATIOS, Sample, terms
from smartdpp.metrics import METRICS

BLOCK = 2**22  # documents drawn at a time
LOST = 1 / 3  # of the standard error: resamples with less are not counted; they widened without covering more


def paired(
    base: list[Sample], tuned: list[Sample], metric: str, n_boot: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Tuned minus base (of a loss, below 0 is better), macro-averaged over tasks.

    Returns ``estimate`` with its 95 % interval ``low`` to ``high``, and ``tasks`` with the same and ``n``
    documents for each. One document has no interval, nor have shares whose interval would leave out nothing
    from -1 to 1: nan. A task of one among larger ones is taken to vary as their documents do on average.
    InputError if the runs hold different documents, or if no document has the metric.
    """
    base, tuned = _ordered(base), _ordered(tuned)
    before, after = {(s["task"], s["id"]) for s in base}, {(s["task"], s["id"]) for s in tuned}
    if before != after:
        raise InputError(
            f"the two runs hold different documents: {len(before - after)} are only in the base run and "
            f"{len(after - before)} only in the "
            "tuned run; compare runs with the same evaluation settings"
        )
    base_sum, base_size = terms(base, metric)
    tuned_sum, tuned_size = terms(tuned, metric)

    def difference(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (after, of_after), (before, of_before) = (
            _ratio(tuned_sum, tuned_size, rows),
            _ratio(base_sum, base_size, rows),
        )
        return after - before, of_after - of_before

    found = _studentised(
        _rows_by_task(base, (base_size > 0) & (tuned_size > 0), metric), difference, n_boot, seed
    )
    least, most = _ends(metric)
    return _bounded(found, least - most, most - least)


def mean_interval(samples: list[Sample], metric: str, n_boot: int = 2000, seed: int = 0) -> dict[str, Any]:
    """One run's macro-average of a metric, with the same fields as `paired`; its intervals end where the
    metric does, and one that would leave out nothing is none."""
    samples = _ordered(samples)
    total, size = terms(samples, metric)
    found = _studentised(
        _rows_by_task(samples, size > 0, metric), lambda rows: _ratio(total, size, rows), n_boot, seed
    )
    return _bounded(found, *_ends(metric))


def _ends(metric: str) -> tuple[float, float]:
    """Between which a number lies: of ours all but the one that is a difference of logarithms are 0 at least,
    and those that are no ratios are shares."""
    if metric not in METRICS or metric == "own_over_other":
        return -np.inf, np.inf
    return 0.0, np.inf if metric in RATIOS else 1.0


def _bounded(found: dict[str, Any], least: float, most: float) -> dict[str, Any]:
    """The same with intervals that end where the number does. One that leaves out nothing is none: nan."""
    for interval in (found, *found["tasks"].values()):
        low, high = max(interval["low"], least), min(interval["high"], most)  # nan stays
        interval |= (
            {"low": np.nan, "high": np.nan} if (low, high) == (least, most) else {"low": low, "high": high}
        )
    return found


Estimator = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Document indices (..., n) to the estimates (...) and what each document adds to them (..., n), to first
order."""


def _studentised(
    by_task: dict[str, np.ndarray], estimator: Estimator, n_boot: int, seed: int
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    n = np.array([len(rows) for rows in by_task.values()])
    estimates, variances = np.empty(len(n)), np.empty(len(n))
    drawn = np.zeros((2, len(n), n_boot))  # each resample's estimate and its variance, task by task
    for i, rows in enumerate(by_task.values()):
        estimates[i], variances[i] = _with_variance(estimator, rows)
        step = max(1, BLOCK // len(rows))
        for a in range(0, n_boot, step):
            drawn[:, i, a : a + step] = _with_variance(
                estimator, rng.choice(rows, size=(min(step, n_boot - a), len(rows)))
            )
    found = {
        task: {
            "n": int(n[i]),
            **_interval(estimates[i : i + 1], variances[i : i + 1], n[i : i + 1], drawn[:, i : i + 1]),
        }
        for i, task in enumerate(by_task)
    }
    return {**_interval(estimates, variances, n, drawn), "tasks": found}


def _with_variance(estimator: Estimator, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    estimate, adds = estimator(rows)
    n = rows.shape[-1]
    return estimate, np.square(adds).sum(-1) * n / max(n - 1, 1)


def _interval(
    estimates: np.ndarray, variances: np.ndarray, n: np.ndarray, drawn: np.ndarray
) -> dict[str, float]:
    """Of the mean of T estimates from n documents each; drawn: float64[2, T, B], the estimates and variances
    of B resamples."""
    from scipy.special import stdtrit

    T, several, mean = len(n), n > 1, float(estimates.mean())
    if not several.any():
        return {"estimate": mean, "low": np.nan, "high": np.nan}
    known = variances[several]
    variance = known.sum() + (~several).sum() * (known * n[several]).mean()
    if variance <= 0:
        return {"estimate": mean, "low": mean, "high": mean}
    # Satterthwaite's: one task may vary more than the others
    df = known.sum() ** 2 / (known**2 / (n[several] - 1)).sum()
    error = np.sqrt(drawn[1].sum(0)) / T
    # where few documents differ, a resample can miss most of them: its t knows no end and tells nothing
    defined = error > LOST * np.sqrt(variance) / T
    t = np.abs(drawn[0].mean(0) - mean)[defined] / error[defined]
    half = (
        max(stdtrit(df, (1 + LEVEL) / 2), np.percentile(t, 100 * LEVEL) if len(t) else 0.0)
        * np.sqrt(variance)
        / T
    )
    return {"estimate": mean, "low": float(mean - half), "high": float(mean + half)}


def _ratio(total: np.ndarray, size: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numerator, denominator = total[rows], size[rows]
    whole = denominator.sum(-1)
    ratio = numerator.sum(-1) / whole
    return ratio, (numerator - ratio[..., None] * denominator) / whole[..., None]


def _ordered(samples: list[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda sample: (sample["task"], sample["id"]))


def _rows_by_task(samples: list[Sample], has_metric: np.ndarray, metric: str) -> dict[str, np.ndarray]:
    tasks = np.array([sample["task"] for sample in samples])
    if not has_metric.any():
        raise InputError(f"no document of these samples has the metric {metric!r}")
    return {str(task): np.flatnonzero((tasks == task) & has_metric) for task in np.unique(tasks[has_metric])}
