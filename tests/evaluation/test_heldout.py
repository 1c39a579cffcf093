"""Which families are held out, and that they are what is evaluated."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.heldout import Heldout

from .lively import row

TASKS = ["gcd", "lcm", "chain_sum", "word_sorting", "maze"]


def test_names_are_held_out_as_given_or_drawn_by_the_seed():
    assert Heldout(tasks=["maze", "gcd"]).heldout(TASKS) == ["gcd", "maze"]
    draws = {
        tuple(Heldout(num_tasks=2, seed=seed).heldout(order))
        for seed in range(10)
        for order in (TASKS, TASKS[::-1])
    }
    assert all(len(set(draw)) == 2 and set(draw) <= set(TASKS) for draw in draws)
    assert 1 < len(draws) <= 10, "one draw a seed, whatever the order of the corpus's tasks"


def test_a_task_that_is_not_in_the_corpus_is_named_with_its_likeness():
    with pytest.raises(InputError, match="no task chainsum; did you mean chain_sum"):
        Heldout(tasks=["gcd", "chainsum"]).heldout(TASKS)


def test_a_pool_without_tasks_is_refused():
    with pytest.raises(InputError, match="leave at least one to train on"):
        Heldout(tasks=TASKS).heldout(TASKS)
    with pytest.raises(InputError, match="leave at least one to train on"):
        Heldout(num_tasks=8).heldout(TASKS)


@pytest.mark.parametrize(
    "wrong",
    [{"limit": 0}, {"batch_size": -1}, {"max_new_tokens": 0}, {"num_tasks": 0}, {"seed": -1}, {"tasks": []}],
)
def test_parameters_out_of_range_are_named(wrong):
    with pytest.raises(InputError, match=f"evaluation.{next(iter(wrong))} is"):
        Heldout(**wrong)


def test_rows_of_the_table_are_evaluated(model, tmp_path):
    rows = [row(task, i, f"{task} {i}?", str(i)) for task in ("gcd", "maze") for i in range(5)]
    Heldout(limit=3, max_new_tokens=4).evaluate(model, None, pa.Table.from_pylist(rows), tmp_path)
    assert {
        task: s["n"] for task, s in json.loads((tmp_path / "scores.json").read_text())["tasks"].items()
    } == {"gcd": 3, "maze": 3}


def test_documents_are_checked_once_the_corpus_is_there(model):
    assert Heldout(tasks=["t"]).check_documents(None, None) == []
    rows = [
        row("t", 0, "Is 1 odd?", "yes", choices=["yes", "no"]),
        row("t", 1, "Is 2 odd?", "nope", choices=["yes", "no"]),
    ]
    (problem,) = Heldout(tasks=["t"]).check_documents(pa.Table.from_pylist(rows), model)
    assert problem.startswith("row 't/1' of task 't': answer 'nope' is none of its 2 choices")
    (problem,) = Heldout(tasks=["t"], max_new_tokens=4096).check_documents(
        pa.Table.from_pylist(rows[:1]), model
    )
    assert "each of the 1 held-out documents is empty or too long: over 2048 tokens of context" in problem
    (problem,) = Heldout(tasks=["t"]).check_documents(pa.Table.from_pylist(rows[:0]), model)
    assert "there is no held-out document" in problem
