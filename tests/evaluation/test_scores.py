"""Estimates and standard errors, against definitions computed another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartdpp.errors import NotFinite
from smartdpp.evaluation.scores import (
    exact_match,
    mean_scores,
    read_samples,
    rouge_l,
    task_scores,
    write_samples,
)

SAMPLES = st.lists(
    st.fixed_dictionaries(
        {
            "nll": st.floats(0, 50),
            "tokens": st.integers(1, 20),
            "bytes": st.integers(1, 60),
            "exact_match": st.sampled_from([0.0, 1.0]),
        }
    ),
    min_size=2,
    max_size=20,
)


@given(SAMPLES)
def test_scores_are_ratios_of_totals_with_linearised_errors(samples):
    scores = task_scores([{"task": "t", "id": str(i), **sample} for i, sample in enumerate(samples)])
    n, nll, tokens, size, exact = (
        len(samples),
        *(
            np.array([s[name] for s in samples], dtype=float)
            for name in ("nll", "tokens", "bytes", "exact_match")
        ),
    )
    assert scores["loss"] == pytest.approx(nll.sum() / tokens.sum())
    assert scores["bits_per_byte"] == pytest.approx(nll.sum() / math.log(2) / size.sum())
    assert scores["exact_match_se"] == pytest.approx(exact.std(ddof=1) / math.sqrt(n))
    # the ratio's error to first order: that of the mean of nll - loss * tokens, over the mean number of
    # tokens
    assert scores["loss_se"] == pytest.approx(
        (nll - scores["loss"] * tokens).std(ddof=1) / math.sqrt(n) / tokens.mean(), abs=1e-9
    )


def test_one_document_has_no_standard_error():
    assert task_scores([{"task": "t", "id": "0", "nll": 1.0, "tokens": 2, "bytes": 3}])["loss_se"] is None


def test_a_metric_is_averaged_over_the_documents_and_the_tasks_that_have_it():
    with_choices = task_scores(
        [{"task": "a", "id": str(i), "accuracy": value} for i, value in enumerate([1.0, 0.0, None, 1.0])]
    )
    assert with_choices["accuracy"] == pytest.approx(2 / 3)
    without = task_scores(
        [{"task": "b", "id": str(i), "nll": 2.0, "tokens": 1, "bytes": 1} for i in range(3)]
    )
    mean = mean_scores({"a": with_choices, "b": without})
    assert (mean["accuracy"], mean["loss"], mean["n"]) == (with_choices["accuracy"], 2.0, 7)
    assert mean_scores({"a": with_choices, "b": with_choices})["accuracy_se"] == pytest.approx(
        with_choices["accuracy_se"] / math.sqrt(2)
    )


def test_exact_match_forgives_surrounding_blanks_only():
    assert exact_match(" 4\n", "4") == 1
    assert exact_match("Four", "four") == exact_match("4.", "4") == 0


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence():
    assert rouge_l("the cat sat there", "a cat sat") == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))


def test_samples_survive_the_file_exactly(tmp_path):
    samples = [
        {
            "task": "t",
            "id": "0",
            "nll": 0.1 + 0.2,
            "generation": "line\u2028separator\r\n\x85",
            "accuracy": None,
        }
    ]
    write_samples(tmp_path / "samples.jsonl", samples)
    assert read_samples(tmp_path / "samples.jsonl") == samples


@pytest.mark.parametrize(
    "broken", [{"nll": math.nan}, {"nll": math.inf}, {"choice_logprobs": [-1.0, math.nan]}]
)
def test_a_document_without_a_finite_likelihood_is_named_and_nothing_is_written(tmp_path, broken):
    good = {"task": "t", "id": "t/0", "nll": 2.0, "tokens": 1, "choice_logprobs": None}
    with pytest.raises(NotFinite, match="document t/1 of task t is NaN or infinite"):
        write_samples(tmp_path / "samples.jsonl", iter([good, good | {"id": "t/1"} | broken]))
    assert not (tmp_path / "samples.jsonl").exists()
