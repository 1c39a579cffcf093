"""Paired comparison, against direct calculation and against known truth."""

from __future__ import annotations

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.compare import mean_interval, paired


def run(values: dict[str, np.ndarray], tokens: int = 1):
    return [
        {"task": task, "id": str(i), "nll": float(v) * tokens, "tokens": tokens, "bytes": 1, "accuracy": float(v > 0)}
        for task, vs in values.items()
        for i, v in enumerate(vs)
    ]


def test_the_difference_is_the_mean_over_tasks_of_the_difference_of_ratios():
    base = [{"task": t, "id": str(i), "nll": n, "tokens": k, "bytes": 1} for t, i, n, k in [("a", 0, 6, 2), ("a", 1, 2, 2), ("b", 0, 9, 3)]]
    tuned = [
        {"task": t, "id": str(i), "nll": n, "tokens": k, "bytes": 1} for t, i, n, k in [("b", 0, 3, 3), ("a", 1, 2, 2), ("a", 0, 2, 2)]
    ]
    found = paired(base, tuned, "loss")
    assert found["tasks"]["a"]["estimate"] == pytest.approx(4 / 4 - 8 / 4)
    assert found["tasks"]["b"]["estimate"] == pytest.approx(1 - 3)
    assert found["estimate"] == pytest.approx((-1 - 2) / 2)
    # task a resampled is (0, 0), (0, 1), (1, 0) or (1, 1): differences -2, -1, -1, 0; task b never changes
    assert (found["tasks"]["a"]["low"], found["tasks"]["a"]["high"]) == (-2, 0)
    assert (found["tasks"]["b"]["low"], found["tasks"]["b"]["high"]) == (-2, -2)


def test_what_both_runs_share_cancels():
    rng = np.random.default_rng(0)
    hardness = {task: rng.normal(10, 5, 40) for task in "ab"}
    found = paired(run(hardness), run({task: v - 1 for task, v in hardness.items()}), "loss")
    assert found["low"] == pytest.approx(-1)
    assert found["high"] == pytest.approx(-1)
    alone = mean_interval(run(hardness), "loss")
    assert alone["high"] - alone["low"] > 1
    assert alone["estimate"] == pytest.approx(np.mean([v.mean() for v in hardness.values()]))


def test_the_interval_agrees_with_the_normal_one_and_is_the_same_each_time():
    rng = np.random.default_rng(1)
    base, tuned = {t: rng.normal(3, 1, 200) for t in "abc"}, {t: rng.normal(2, 1, 200) for t in "abc"}
    found = paired(run(base), run(tuned), "loss")
    se = np.sqrt(sum((tuned[t] - base[t]).var(ddof=1) / 200 for t in base)) / 3
    assert found["low"] == pytest.approx(found["estimate"] - 1.96 * se, abs=0.15 * se)
    assert found["high"] == pytest.approx(found["estimate"] + 1.96 * se, abs=0.15 * se)
    assert found == paired(run(base)[::-1], run(tuned), "loss")
    assert found != paired(run(base), run(tuned), "loss", seed=1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        base = {t: rng.normal(0, 1, 40) for t in "ab"}
        found = paired(run(base), run({t: v + rng.normal(0.3, 1, 40) for t, v in base.items()}), "loss", n_boot=400)
        covered += found["low"] <= 0.3 <= found["high"]
    assert 0.89 <= covered / 200 <= 0.99


def test_different_documents_or_no_such_metric_are_errors():
    samples = run({"a": np.ones(3)})
    with pytest.raises(InputError, match="1 are only in the base run and 0 only in the tuned run"):
        paired(samples, samples[:2], "loss")
    with pytest.raises(InputError, match="no document of these samples has the metric 'rouge_l'"):
        paired(samples, samples, "rouge_l")
