"""A world of a file's rows, of which it is known what is worth choosing."""

import json
from collections import Counter

import pytest

from smartdpp.corpus.arena_file import ArenaFile
from smartdpp.corpus.worlds import FALSE, TRUE
from smartdpp.errors import InputError
from tests.corpus.conftest import parts


@pytest.fixture
def path(tmp_path):
    """Three tasks of 12 rows with different prompts, each of them there a second time with another answer."""
    rows = [
        {"task": task, "prompt": f"{task} {' ' * again}{i}?", "response": f"{i} of {task}, {again}"}
        for task in ("add", "copy", "other")
        for again in (0, 1)
        for i in range(12)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "rows.jsonl")


def world(path, **options):
    asked = {"target": ["copy", "add"], "documents": 5, "per_target": 6, "per_other": 8} | options
    made = ArenaFile(path=path, **asked)
    assert made.check() == []
    return parts(made)


def test_documents_and_pool_are_different_rows_of_the_file(path):
    documents, pool = world(path, others=["other"])
    assert Counter(row["task"] for row in documents) == {"target/add": 5, "target/copy": 5}
    assert Counter((row["task"], row["score"]) for row in pool) == {
        ("add", TRUE): 6,
        ("copy", TRUE): 6,
        ("other", FALSE): 8,
    }
    prompts = [row["prompt"] for row in documents + pool]
    assert len(set(prompts)) == len(prompts) == 30, "of two rows with one prompt the first is taken"
    assert all(row["response"].endswith(", 0") for row in documents + pool)


def test_a_wrong_answer_is_another_row_s_and_marked(path):
    _, pool = world(path, mismatched=0.5)
    right = {f"{task} {i}?": f"{i} of {task}, 0" for task in ("add", "copy") for i in range(12)}
    assert {row["score"] for row in pool} == {TRUE, FALSE}
    assert all((row["response"] == right[row["prompt"]]) == (row["score"] == TRUE) for row in pool)


def test_another_seed_draws_other_documents(path):
    drawn = [{row["id"] for row in world(path, seed=seed)[0]} for seed in range(4)]
    assert len(set(map(frozenset, drawn))) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_target": 8}, "8 rows of 'copy' are asked for beside 5 documents, and corpus.path has 12"),
        ({"documents": 13}, "6 rows of 'copy' are asked for beside 13 documents, and corpus.path has 12"),
        ({"others": ["other"], "per_other": 13}, "13 rows of 'other' are asked for, and corpus.path has 12"),
        ({"target": ["ad"]}, "no row of corpus.path has the task 'ad'; did you mean add"),
        ({"target": ["qq"]}, "no row of corpus.path has the task 'qq'; of its 3 tasks are add, copy"),
        ({"target": []}, "names one or more tasks"),
    ],
)
def test_what_the_file_does_not_have_is_said(path, options, said):
    with pytest.raises(InputError, match=said):
        world(path, **options)


def test_conversations_are_refused(tmp_path):
    turns = [{"role": role, "content": "hi"} for _ in range(2) for role in ("user", "assistant")]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"task": "add", "messages": turns}) + "\n")
    with pytest.raises(InputError, match="is a conversation"):
        world(str(tmp_path / "chat.jsonl"), target=["add"])


def test_a_file_that_is_not_there_is_said_before_it_is_read(tmp_path):
    assert "there is no file" in ArenaFile(path=str(tmp_path / "no.jsonl"), target=["add"]).check()[0]
