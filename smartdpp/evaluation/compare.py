"""Two runs on the same documents, compared document by document; intervals by bootstrap.

Documents are resampled within their tasks: the tasks are the ones that were asked for, their documents a sample. The same resampled
documents enter both runs, so what makes a document hard for both cancels (Efron & Tibshirani, An Introduction to the Bootstrap, ch. 13).
An interval says nothing about other tasks or other training seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.evaluation.scores import Sample, terms

PERCENTILES = (2.5, 97.5)  # a 95 % interval


def paired(base: list[Sample], tuned: list[Sample], metric: str, n_boot: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Tuned minus base (of a loss, below 0 is better), macro-averaged over tasks.

    Returns ``estimate`` with its 95 % percentile interval ``low`` to ``high``, and ``tasks`` with the same and ``n`` documents for each.
    InputError if the runs hold different documents, or if no document has the metric.
    """
    base, tuned = _ordered(base), _ordered(tuned)
    before, after = {(s["task"], s["id"]) for s in base}, {(s["task"], s["id"]) for s in tuned}
    if before != after:
        raise InputError(
            f"the two runs hold different documents: {len(before - after)} are only in the base run and {len(after - before)} only in the "
            "tuned run; compare runs with the same evaluation settings"
        )
    base_sum, base_size = terms(base, metric)
    tuned_sum, tuned_size = terms(tuned, metric)

    def difference(rows: np.ndarray) -> np.ndarray:
        return _ratio(tuned_sum, tuned_size, rows) - _ratio(base_sum, base_size, rows)

    return _bootstrap(_rows_by_task(base, (base_size > 0) & (tuned_size > 0), metric), difference, n_boot, seed)


def mean_interval(samples: list[Sample], metric: str, n_boot: int = 2000, seed: int = 0) -> dict[str, Any]:
    """One run's macro-average of a metric, with the same fields as `paired`."""
    samples = _ordered(samples)
    total, size = terms(samples, metric)
    return _bootstrap(_rows_by_task(samples, size > 0, metric), lambda rows: _ratio(total, size, rows), n_boot, seed)


def _bootstrap(by_task: dict[str, np.ndarray], estimate: Callable[[np.ndarray], np.ndarray], n_boot: int, seed: int) -> dict[str, Any]:
    """``estimate`` maps document indices (..., n) to one number for each leading index."""
    rng = np.random.default_rng(seed)
    found, resampled = {}, []
    for task, rows in by_task.items():
        draws = estimate(rng.choice(rows, size=(n_boot, len(rows))))  # float64[n_boot]
        found[task] = {"n": len(rows), **_interval(estimate(rows), draws)}
        resampled.append(draws)
    mean = np.mean([of_task["estimate"] for of_task in found.values()])
    return {**_interval(mean, np.mean(resampled, axis=0)), "tasks": found}


def _interval(estimate: np.ndarray | np.floating, draws: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(draws, PERCENTILES)
    return {"estimate": float(estimate), "low": float(low), "high": float(high)}


def _ratio(total: np.ndarray, size: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return total[rows].sum(-1) / size[rows].sum(-1)


def _ordered(samples: list[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda sample: (sample["task"], sample["id"]))


def _rows_by_task(samples: list[Sample], has_metric: np.ndarray, metric: str) -> dict[str, np.ndarray]:
    tasks = np.array([sample["task"] for sample in samples])
    if not has_metric.any():
        raise InputError(f"no document of these samples has the metric {metric!r}")
    return {str(task): np.flatnonzero((tasks == task) & has_metric) for task in np.unique(tasks[has_metric])}
