"""Shots and right choices."""

from __future__ import annotations

import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.tasks import documents, right_choice

from .lively import row


def test_shots_are_other_rows_of_the_task_and_fixed_by_the_seed():
    rows = [row("t", i, f"<{i % 5}>", f"r{i}") for i in range(10)]  # every prompt comes twice
    found = {d["id"]: d["prompt"] for d in documents(rows, num_fewshot=3, seed=0)}
    assert found == {d["id"]: d["prompt"] for d in documents(rows[::-1], num_fewshot=3, seed=0)}
    assert found != {d["id"]: d["prompt"] for d in documents(rows, num_fewshot=3, seed=1)}
    for r in rows:
        assert found[r["id"]].endswith(f"\n\n{r['prompt']}")
        assert found[r["id"]].count("\n\n") == 3
        assert found[r["id"]].count(r["prompt"]) == 1, "a row with the same prompt would give the answer away"


def test_too_few_shots_names_the_task_and_what_would_do():
    with pytest.raises(InputError, match=r"num_fewshot=3: task 't' has 1 other prompts.*set it to 1 or less"):
        list(documents([row("t", i, f"p{i}", "r") for i in range(2)], num_fewshot=3, seed=0))


@pytest.mark.parametrize(
    ("answer", "response", "choices", "expected"),
    [
        ("b", "?", ["a", "b"], 1),
        ("1", "?", ["a", "b"], 1),
        ("1", "?", ["1", "0"], 0),
        (None, "a", ["a", "b"], 0),
        ("b", "?", None, None),
    ],
)
def test_the_right_choice_by_text_then_by_index_then_by_the_response(answer, response, choices, expected):
    assert right_choice(row("t", 0, "p", response, choices=choices, answer=answer)) == expected


@pytest.mark.parametrize("answer", ["c", "2", "-1"])
def test_an_answer_that_is_no_choice_is_an_error(answer):
    with pytest.raises(InputError, match=r"row 't/0' of task 't': answer .* is none of its 2 choices"):
        right_choice(row("t", 0, "p", "a", choices=["a", "b"], answer=answer))
