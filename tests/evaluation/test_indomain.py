"""Rows of the pool's own tasks are held out by their content, and nothing that reads like them is left to
choose."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from smartdpp.corpus.build import describe, read
from smartdpp.corpus.overlap import plain
from smartdpp.errors import InputError
from smartdpp.evaluation.indomain import Indomain
from smartdpp.evaluation.scores import read_samples
from smartdpp.report import main as report
from smartdpp.run.alone import prepared
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.store.disk import read_json
from tests.conftest import small

from .lively import row

OURS = ("evaluation=indomain", "evaluation.per_task=2", "evaluation.max_new_tokens=4")


@pytest.fixture
def small_run(corpus: Path, tmp_path: Path) -> Callable[..., Run]:
    """conftest's, without the options of evaluation=heldout."""

    def make(*overrides: str) -> Run:
        plain = [override for override in small(corpus, tmp_path) if not override.startswith("evaluation.")]
        return prepared([*plain, *overrides])

    return make


def rows(task: str, n: int) -> list[dict]:
    return [row(task, i, f"{task} number {i}?", str(i)) for i in range(n)]


def test_which_rows_are_set_aside_depends_on_neither_order_nor_other_tasks():
    gcd, maze = rows("gcd", 30), rows("maze", 20)
    alone = Indomain(per_task=3).aside(iter(gcd))["gcd"]
    assert len(set(alone)) == 3
    mixed = gcd + maze
    random.Random(1).shuffle(mixed)
    both = Indomain(per_task=3).aside(iter(mixed))
    assert both["gcd"] == alone
    assert len(both["maze"]) == 3
    assert Indomain(per_task=2).aside(iter(gcd))["gcd"] == alone[:2], "fewer are a part of more"
    assert Indomain(per_task=2, spare=1).aside(iter(gcd))["gcd"] == alone
    assert Indomain(per_task=3, seed=1).aside(iter(gcd))["gcd"] != alone


def test_a_row_more_moves_one_row_at_most():
    before = set(Indomain(per_task=5).aside(iter(rows("gcd", 40)))["gcd"])
    for n in range(41, 60):
        after = set(Indomain(per_task=5).aside(iter(rows("gcd", n)))["gcd"])
        assert len(before - after) <= 1
        before = after


def test_of_equal_prompts_one_row_is_set_aside():
    many = [row("gcd", i, f"gcd number {i % 6}?", str(i)) for i in range(60)]
    (aside,) = Indomain(per_task=3).aside(iter(many)).values()
    assert len({int(one.partition("/")[2]) % 6 for one in aside}) == 3
    assert Indomain(per_task=3).aside(iter(many[::-1]))["gcd"] == aside


def test_a_small_task_is_counted_and_a_small_one_that_was_named_is_refused():
    some = [*rows("gcd", 10), *rows("maze", 9)]
    assert Indomain(per_task=5).aside(iter(some))["maze"] == []
    with pytest.raises(
        InputError, match=r"needs 10 different prompts .* 1 that are named have fewer, such as 'maze' with 9"
    ):
        Indomain(per_task=5, tasks=["gcd", "maze"]).aside(iter(some))
    with pytest.raises(InputError, match=r"2 of them, all, have fewer"):
        Indomain(per_task=6).aside(iter(some))
    with pytest.raises(InputError, match="no task maxe; did you mean maze"):
        Indomain(tasks=["maxe"]).heldout(["gcd", "maze"])


@pytest.mark.parametrize(
    "wrong",
    [{"per_task": 0}, {"spare": -1}, {"batch_size": 0}, {"max_new_tokens": 0}, {"seed": -1}, {"tasks": []}],
)
def test_parameters_out_of_range_are_named(wrong):
    with pytest.raises(InputError, match=f"evaluation.{next(iter(wrong))} is"):
        Indomain(**wrong)


def test_a_run_scores_its_pools_own_tasks_and_trains_on_none_of_the_documents(
    small_run: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    run = small_run(*OURS)
    score = execute(run)
    pool, held = (read(run.corpus.path / f"{part}.parquet").to_pylist() for part in ("data", "heldout"))
    samples = read_samples(run.scores.path / "samples.jsonl")
    assert {s["id"] for s in samples} == {one["id"] for one in held}
    assert len(held) == 10
    assert {one["task"] for one in pool} == {one["task"] for one in held}
    assert not {plain(one["prompt"]) for one in pool} & {plain(one["prompt"]) for one in held}
    near = run.corpus.meta()["facts"]["dropped"]["pool"].get(
        "near copy of a held-out row of a task in the pool", 0
    )
    assert len(pool) + len(held) + near == 120
    result = read_json(run.path / "result.json")
    assert result["loss"] == score
    assert result["documents"] == 10
    assert {name for name in result if name.startswith("loss/")} == {f"loss/{one['task']}" for one in held}
    assert "held-out documents of the pool's tasks: base → tuned" in capsys.readouterr().out
    assert report([str(run.path)]) == 0
    text = (run.path / "report" / "report.md").read_text()
    assert "means over 5 tasks (10 documents)" in text
    assert "## Held-out documents of the pool's tasks\n" in text
    assert "documents in 5 tasks of the pool" in (run.path / "report" / "report.html").read_text()


def test_small_tasks_are_said_and_stay_in_the_pool(small_run: Callable[..., Run], tmp_path: Path) -> None:
    path = tmp_path / "uneven.jsonl"
    few = [{"task": "few", "prompt": f"few {i}", "response": "r"} for i in range(3)]
    many = [{"task": "many", "prompt": f"many {i}", "response": "r"} for i in range(30)]
    path.write_text("".join(json.dumps(one) + "\n" for one in few + many))
    run = small_run(*OURS, f"corpus.path={path}", "until=corpus")
    execute(run)
    assert run.corpus.meta()["facts"]["tasks_too_small"] == ["few"]
    said = describe(run.corpus.meta()["facts"])
    assert "1 task with too few different prompts to be evaluated (few: see dropped.json)" in said
    assert {one["task"] for one in read(run.corpus.path / "data.parquet").to_pylist()} == {"few", "many"}


def test_a_task_whose_rows_are_all_near_copies_of_another_ones_leaves_the_pool_and_is_said(
    small_run: Callable[..., Run], tmp_path: Path
) -> None:
    stories = [" ".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=12)) for i in range(12)]
    rows_of = [
        {"task": f"way{way}", "prompt": f"{story} {way}", "response": "r"}
        for way in range(10)
        for story in stories
    ]
    rows_of += [{"task": "other", "prompt": f"other {i}", "response": "r"} for i in range(30)]
    path = tmp_path / "told.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows_of))
    run = small_run(*OURS, f"corpus.path={path}", "evaluation.per_task=6", "until=corpus")
    execute(run)
    pool = read(run.corpus.path / "data.parquet").to_pylist()
    assert {one["task"] for one in pool} == {"other"}, "every story is held out in some wording"
    assert run.corpus.meta()["facts"]["tasks_emptied"] == [f"way{way}" for way in range(10)]
    assert "10 tasks left the pool as a whole" in describe(run.corpus.meta()["facts"])


def test_a_query_takes_the_spare_rows(small_run: Callable[..., Run]) -> None:
    targeted = (*OURS, "strategy=targeted", "strategy.query.per_task=3")
    with pytest.raises(InputError, match=r"evaluation=indomain set some aside for it \(evaluation.spare=8\)"):
        execute(small_run(*targeted))
    run = small_run(*targeted, "evaluation.spare=3")
    execute(run)
    query = [json.loads(line)["id"] for line in (run.query.path / "query.jsonl").open()]
    scored = {sample["id"] for sample in read_samples(run.scores.path / "samples.jsonl")}
    assert len(query) == 15
    assert len(scored) == 10
    assert not scored & set(query)
    random_run = small_run(*OURS, "strategy=random", "evaluation.spare=3")
    assert random_run.corpus.key == run.corpus.key, "all strategies choose from the pool without the query"


def test_what_is_set_aside_decides_the_corpus_and_how_it_is_scored_does_not(
    small_run: Callable[..., Run],
) -> None:
    run = small_run(*OURS)
    for other in (
        "evaluation.per_task=3",
        "evaluation.spare=1",
        "evaluation.seed=1",
        "evaluation.tasks=[add]",
    ):
        assert small_run(*OURS, other).corpus.key != run.corpus.key
    quick = small_run(*OURS, "evaluation.generate=false")
    assert quick.corpus.key == run.corpus.key
    assert quick.scores.key != run.scores.key


def test_a_file_of_the_pools_tasks_takes_out_its_near_copies_alone(
    small_run: Callable[..., Run], corpus: Path, tmp_path: Path
) -> None:
    train = [json.loads(line) for line in corpus.open()]
    mine = [
        {"task": "add", "prompt": "What is one plus two?", "response": "3"},
        train[0] | {"prompt": train[0]["prompt"].upper()},
    ]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in mine))
    run = small_run("evaluation=indomain_file", f"evaluation.path={path}", "evaluation.generate=false")
    execute(run)
    pool = read(run.corpus.path / "data.parquet").to_pylist()
    copies = sum(plain(one["prompt"]) == plain(train[0]["prompt"]) for one in train)
    assert len(pool) == 120 - copies
    assert run.corpus.meta()["facts"]["dropped"]["pool"] == {
        "near copy of a held-out row of a task in the pool": copies
    }
    assert [s["task"] for s in read_samples(run.scores.path / "samples.jsonl")] == ["add", "add"]
    assert report([str(run.path)]) == 0
