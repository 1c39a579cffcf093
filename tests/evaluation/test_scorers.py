"""reasoning-gym's own scorers on generated answers: partial credit, and no answer is run."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from smartdpp.corpus.arena import Arena
from smartdpp.corpus.procedural import FAMILIES, SETTINGS, ReasoningGym
from smartdpp.evaluation.heldout import Heldout
from smartdpp.evaluation.scorers import task_score


def first(family: str, **more):
    return next(ReasoningGym(families=[family], per_family=1, **more).rows())


def test_every_family_calls_its_own_answers_right():
    rows = list(ReasoningGym(per_family=3, seed=2).rows())
    assert {task_score(row, f" {row['response']}\n") for row in rows} == {1.0}
    assert {row["task"] for row in rows} == set(FAMILIES)


def test_an_answer_that_is_partly_right_or_right_in_another_form_has_credit():
    row = first("word_sorting")
    words = row["response"].split(", ")
    assert task_score(row, ", ".join([*words[:-1], "other"])) == pytest.approx(1 - 1 / len(words))
    row = first("countdown")
    assert task_score(row, f"({row['response']})") == 1.0
    assert task_score(row, "1 + 1") == 0.05


def test_a_document_of_the_arena_has_its_family_s_scorer():
    row = next(Arena(target=["word_sorting"], documents=1, per_target=1).rows())
    assert row["id"].startswith("target/")
    assert task_score(row, row["response"]) == 1.0


def test_rows_made_by_other_settings_are_scored_where_the_scorer_needs_no_more_than_their_text():
    row = first("dice", settings={"dice": {"num_dice": 2}})
    assert task_score(row, row["response"]) == 1.0
    settings = {"countdown": SETTINGS["countdown"] | {"max_target": 500, "min_numbers": 3, "max_numbers": 3}}
    row = first("countdown", settings=settings)
    assert task_score(row, row["response"]) is None


def test_rows_that_are_not_reasoning_gym_s_or_have_another_s_answer_are_not_scored():
    row = first("gcd")
    assert task_score(row | {"source": None}, row["response"]) is None
    assert task_score(row | {"id": "gcd/0"}, row["response"]) is None
    assert task_score(row | {"response": "another"}, row["response"]) is None


def test_nothing_that_an_answer_says_is_run(tmp_path):
    row, path = first("countdown"), tmp_path / "made"
    assert task_score(row, f"__import__('pathlib').Path({str(path)!r}).touch()") == 0.01
    assert not path.exists()
    assert task_score(row, "9**9**9**9") == task_score(row, "9* *9* *9* *9") == 0.01
    assert task_score(first("coin_flip"), "1e999999999") == 0.0
    assert task_score(first("prime_factorization"), "seven") == 0.0


def test_the_score_stands_beside_exact_match_for_tasks_that_have_one(model, tmp_path):
    rows = [row for row in ReasoningGym(families=["gcd", "letter_jumble"], per_family=3).rows()]
    rows += [row | {"task": "mine", "source": None} for row in rows[:2]]
    Heldout(limit=3, max_new_tokens=4).evaluate(model, None, pa.Table.from_pylist(rows), tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [name for name, of_task in scores["tasks"].items() if "task_score" in of_task] == [
        "gcd",
        "letter_jumble",
    ]
    assert 0 <= scores["mean"]["task_score"] <= 1
