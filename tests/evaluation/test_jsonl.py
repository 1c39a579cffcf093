"""Held-out tasks from a file."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.jsonl import Jsonl

from .lively import row


@pytest.fixture
def path(tmp_path):
    rows = [
        row("quiz", i, f"Is {i} even?", "yes" if i % 2 == 0 else "no", choices=["yes", "no"])
        for i in range(6)
    ]
    rows += [row("echo", i, f"Say {i}", str(i)) for i in range(4)]
    file = tmp_path / "heldout.jsonl.gz"
    with gzip.open(file, "wt") as lines:
        lines.writelines(json.dumps(r) + "\n" for r in rows)
    return str(file)


def test_a_file_is_evaluated_with_shots_and_choices(path, model, tmp_path):
    Jsonl(path, num_fewshot=2, limit=3, max_new_tokens=4).evaluate(model, None, None, tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert {task: s["n"] for task, s in scores["tasks"].items()} == {"echo": 3, "quiz": 3}
    assert "accuracy" in scores["tasks"]["quiz"]
    assert "accuracy" not in scores["tasks"]["echo"]
    assert scores["settings"]["num_fewshot"] == 2


def test_a_file_s_answers_are_held_against_others(path, model, tmp_path):
    Jsonl(path, limit=4, generate=False, contrast=True).evaluate(model, None, None, tmp_path)
    tasks = json.loads((tmp_path / "scores.json").read_text())["tasks"]
    assert all({"blind_loss", "own_over_other", "own_first"} <= of_task.keys() for of_task in tasks.values())
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    quiz = [sample for sample in samples if sample["task"] == "quiz"]
    for sample in quiz:  # of two choices the other one is the other answer too
        right = ["yes", "no"].index(sample["target"])
        of_choices = sample["choice_logprobs"][right] - sample["choice_logprobs"][1 - right]
        assert sample["own_over_other"] == pytest.approx(of_choices, abs=1e-4)


def test_tasks_shared_with_the_corpus_leave_the_pool(path):
    assert Jsonl(path).heldout(["quiz", "other"]) == ["quiz"]
    assert Jsonl(path, tasks=["echo"]).heldout(["quiz", "other"]) == []
    with pytest.raises(InputError, match="leave at least one to train on"):
        Jsonl(path).heldout(["quiz"])


def test_documents_are_the_files_rows_of_the_chosen_tasks(path):
    assert len(list(Jsonl(path).documents())) == 10
    assert {r["task"] for r in Jsonl(path, tasks=["echo"]).documents()} == {"echo"}
    with pytest.raises(InputError, match="no task ecko; did you mean echo"):
        list(Jsonl(path, tasks=["ecko"]).documents())


def test_errors_speak_of_the_evaluation(tmp_path):
    (problem,) = Jsonl(str(tmp_path / "missing.jsonl")).check()
    assert problem.startswith("evaluation.path: there is no file")
    (tmp_path / "bad.jsonl").write_text(
        '{"task": "t", "prompt": "p", "response": "r"}\n{"prompt": "p", "response": "r"}\n'
    )
    with pytest.raises(InputError, match=r"bad.jsonl, line 2: the row has no task.*evaluation.columns"):
        list(Jsonl(str(tmp_path / "bad.jsonl")).documents())
    with pytest.raises(InputError, match=r"evaluation\.columns names nonsense"):
        Jsonl("x", columns={"nonsense": "y"})
    with pytest.raises(InputError, match=r"evaluation\.num_fewshot is -1"):
        Jsonl("x", num_fewshot=-1)


def test_a_wrong_answer_is_told_with_its_line_before_any_model(tmp_path):
    rows = [
        row(
            "quiz", i, f"Is {i} even?", "yes", choices=["yes", "no"], answer="maybe" if i in (2, 4) else "yes"
        )
        for i in range(6)
    ]
    file = tmp_path / "heldout.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    problems = Jsonl(str(file), limit=1).check_documents(None, None)
    assert len(problems) == 2
    assert problems[0].startswith(
        f"{file}, line 3: row 'quiz/2' of task 'quiz': answer 'maybe' is none of its 2 choices"
    )
    for r in rows:
        r["answer"] = "maybe"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    problems = Jsonl(str(file)).check_documents(None, None)
    assert len(problems) == 5
    assert problems[-1].endswith("; 1 more rows have such an answer")


def test_shots_and_lengths_are_checked_before_any_model(path, model):
    heldout = pa.table({"task": []})  # the corpus is made
    assert Jsonl(path, num_fewshot=3).check_documents(heldout, model) == []
    problems = Jsonl(path, num_fewshot=5).check_documents(None, None)
    assert problems == [
        f"evaluation.num_fewshot=5: task 'echo' has 3 other prompts than row '{_first(problems)}''s; set it "
        "to 3 or less"
    ]
    (problem,) = Jsonl(path, max_tokens=2).check_documents(heldout, model)
    assert (
        "each of the 10 held-out documents is empty or too long: over 2048 tokens of context or "
        "evaluation.max_tokens=2" in problem
    )
    assert Jsonl(path, max_tokens=2).check_documents(None, model) == [], (
        "without a tokenizer nothing is said of tokens"
    )
    (problem,) = Jsonl(path, tasks=["ecko"]).check_documents(None, None)
    assert "no task ecko; did you mean echo" in problem


def _first(problems):
    return problems[0].split("row '")[1].split("'")[0]
