"""Paired comparison, against direct calculation and against known truth."""

from __future__ import annotations

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.compare import mean_interval, paired


def run(values: dict[str, np.ndarray], tokens: int = 1):
    return [
        {
            "task": task,
            "id": str(i),
            "nll": float(v) * tokens,
            "tokens": tokens,
            "bytes": 1,
            "accuracy": float(v > 0),
        }
        for task, vs in values.items()
        for i, v in enumerate(vs)
    ]


def test_the_difference_is_the_mean_over_tasks_of_the_difference_of_ratios():
    base = [
        {"task": t, "id": str(i), "nll": n, "tokens": k, "bytes": 1}
        for t, i, n, k in [("a", 0, 6, 2), ("a", 1, 2, 2), ("b", 0, 9, 3)]
    ]
    tuned = [
        {"task": t, "id": str(i), "nll": n, "tokens": k, "bytes": 1}
        for t, i, n, k in [("b", 0, 3, 3), ("a", 1, 2, 2), ("a", 0, 2, 2)]
    ]
    found = paired(base, tuned, "loss")
    assert found["tasks"]["a"]["estimate"] == pytest.approx(4 / 4 - 8 / 4)
    assert found["tasks"]["b"]["estimate"] == pytest.approx(1 - 3)
    assert found["estimate"] == pytest.approx((-1 - 2) / 2)
    # task a: what its two documents add to the difference is -1/2 and +1/2, so its standard error is 1, and t
    # with one degree is 12.7
    assert (found["tasks"]["a"]["low"], found["tasks"]["a"]["high"]) == pytest.approx(
        (-1 - 12.706, -1 + 12.706), abs=1e-3
    )
    assert np.isnan([found["tasks"]["b"]["low"], found["tasks"]["b"]["high"]]).all()
    # of the mean of two tasks: task b is taken to vary as a document of task a does, whose variance is twice
    # that of task a
    assert found["high"] - found["estimate"] == pytest.approx(12.706 * np.sqrt(1 + 2) / 2, abs=1e-3)


def test_one_document_a_task_has_no_interval():
    found = paired(run({"a": np.ones(1), "b": np.ones(1)}), run({"a": np.zeros(1), "b": np.zeros(1)}), "loss")
    assert found["estimate"] == -1
    assert np.isnan([found["low"], found["high"]]).all()


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_an_interval_ends_where_its_metric_does(metric):
    few = {"a": np.array([1.0, 0, 0, 0, 0, 0]), "b": np.array([0.01, 0, 0, 0, 0, 0])}
    found = mean_interval(run(few), metric)
    assert found["low"] == found["tasks"]["a"]["low"] == 0 < found["estimate"] < found["high"]
    assert metric == "loss" or found["tasks"]["a"]["high"] <= 1


def test_a_difference_of_shares_ends_where_they_do_and_has_no_interval_where_that_leaves_out_nothing():
    rng = np.random.default_rng(0)
    zeros = {task: np.zeros(6) for task in "abcd"}
    right = {task: rng.normal(size=6) for task in "abcd"}
    found = paired(run(zeros), run(right), "accuracy")
    assert -1 < found["low"] < found["estimate"] < found["high"] < 1
    assert any(one["high"] == 1 for one in found["tasks"].values())
    # two documents of each of many tasks, nearly all of them 0
    few = {f"t{i}": np.array([0.8 * (i < 2), 0.01 * (i % 3 == 0)]) for i in range(41)}
    change = [
        {"task": task, "id": str(i), "task_score": v} for task, vs in few.items() for i, v in enumerate(vs)
    ]
    nothing = paired([sample | {"task_score": 0.0} for sample in change], change, "task_score")
    first = nothing["tasks"]["t0"]
    assert first["estimate"] == pytest.approx(0.405)
    assert np.isnan([first["low"], first["high"]]).all()
    # resamples that miss the first two tasks' spread have no say: it was -57 to 57 with them
    assert nothing["low"] < 0 < nothing["estimate"] < nothing["high"] < 0.1
    assert np.isnan(mean_interval(run({"a": np.array([1.0, 0.0])}), "accuracy")["high"])


def test_a_difference_of_logarithms_has_no_bounds():
    values = np.array([19.0, 22.0, -6.0, 30.0])
    samples = [{"task": "a", "id": str(i), "own_over_other": v} for i, v in enumerate(values)]
    found = mean_interval(samples, "own_over_other")
    assert found["low"] < 0 < 1 < found["estimate"] == values.mean() < found["high"]


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


@pytest.mark.parametrize("kind", ["normal", "heavy", "scores"])
def test_the_interval_covers_the_truth_as_often_as_it_says(kind):
    """At ten documents in each of eight tasks; percentiles of resampled means cover 0.90 to 0.92 there."""
    rng, tasks = np.random.default_rng(2), "abcdefgh"
    rates = np.linspace(0.1, 0.8, len(tasks))
    truth = {"normal": 0.3, "heavy": 0.15 * np.exp(0.5), "scores": 0.0}[kind]
    covered = 0
    for _ in range(300):
        base, change = rng.lognormal(size=(8, 10)), rng.normal(0.3, 1, (8, 10))
        if kind == "heavy":
            change = base * rng.choice([0.5, -0.2], size=(8, 10))
        if kind == "scores":
            base, after = (rng.random((2, 8, 10)) < rates[:, None]) - 0.5
            change = after - base
        found = paired(
            run(dict(zip(tasks, base, strict=True))),
            run(dict(zip(tasks, base + change, strict=True))),
            METRIC[kind],
            n_boot=300,
        )
        covered += found["low"] <= truth <= found["high"]
    assert 0.93 <= covered / 300 <= 0.99


METRIC = {"normal": "loss", "heavy": "loss", "scores": "accuracy"}


def test_different_documents_or_no_such_metric_are_errors():
    samples = run({"a": np.ones(3)})
    with pytest.raises(InputError, match="1 are only in the base run and 0 only in the tuned run"):
        paired(samples, samples[:2], "loss")
    with pytest.raises(InputError, match="no document of these samples has the metric 'rouge_l'"):
        paired(samples, samples, "rouge_l")
