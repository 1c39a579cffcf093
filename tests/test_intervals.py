"""Intervals: the textbook's where there is one, and their coverage where there is none."""

import numpy as np
import pytest
from scipy.stats import t

from smartdpp.evaluation.compare import paired
from smartdpp.intervals import holm, influence, paired_difference, t_interval


def test_t_interval_is_scipys() -> None:
    values = [2.0, 2.5, 2.1]
    mean, half = t_interval(values)
    assert (mean - half, mean + half) == pytest.approx(t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / np.sqrt(3)))
    assert np.isnan(t_interval([2.0])[1])


def test_holm_steps_down_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, np.nan, 0.5])[[0, 2]] == pytest.approx([0.08, 0.5])
    assert np.isnan(holm([0.04, np.nan])[1])
    assert len(holm([])) == 0


def test_holm_keeps_the_rate_of_any_false_claim() -> None:
    p = np.random.default_rng(0).random((2000, 10))
    assert np.mean([holm(row).min() < 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)


def test_documents_alone_agree_with_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    sides = [
        [
            {"task": task, "id": str(i), "nll": float(rng.gamma(3) + shift), "tokens": int(rng.integers(1, 6))}
            for task in "ab"
            for i in range(60)
        ]
        for shift in (0, 0.3)
    ]
    boot = paired(*sides, "loss")
    adds = [
        influence(
            [(s["task"], s["id"]) for s in side], np.array([s["nll"] for s in side]), np.array([s["tokens"] for s in side], dtype=float)
        )
        for side in sides
    ]
    found = paired_difference([boot["estimate"]], [{key: adds[1][key] - adds[0][key] for key in adds[0]}])
    assert found.half_documents == pytest.approx((boot["high"] - boot["low"]) / 2, rel=0.1)
    assert (found.documents, found.seeds) == (120, 1)
    assert np.isnan([found.half, found.half_seeds, found.p]).all()


def test_seeds_alone_are_the_paired_t_test() -> None:
    from scipy.stats import ttest_1samp

    differences = [-0.1, -0.05, -0.12]
    found = paired_difference(differences, [])
    test = ttest_1samp(differences, 0)
    low, high = test.confidence_interval()
    assert found.p == pytest.approx(test.pvalue)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert np.isnan(found.half_documents)


def test_seeds_and_documents_together_cover_the_truth() -> None:
    """The truth is of all seeds and all documents: either alone is too sure of it."""
    rng = np.random.default_rng(1)
    S, D, trials = 4, 40, 400
    covered = np.zeros(3)
    keys = [("task", str(i)) for i in range(D)]
    for _ in range(trials):
        values = rng.normal(0, 0.1, (S, 1)) + rng.normal(0, 0.6, (1, D)) + rng.normal(0, 0.3, (S, D))
        found = paired_difference(values.mean(axis=1), [influence(keys, row, np.ones(D)) for row in values])
        covered += np.abs(found.mean) <= [found.half, found.half_seeds, found.half_documents]
    both, seeds, documents = covered / trials
    assert both >= 0.93
    assert both > documents > seeds
