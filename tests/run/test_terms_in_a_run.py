"""Budgets in tokens, weights, limits, repeats and a start through plan, run, record, summary and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.run.price import total, training
from smartdpp.store.disk import read_json
from smartdpp.strategies import mixture
from smartdpp.study.settings import of_strategy, settings

TOKENS = ["strategy=random", "diversity=none", "evaluation.generate=false", "evaluation.limit=2"]


@pytest.fixture(scope="module")
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: the corpus, its embedding and the base model's scores are made once."""
    return tmp_path_factory.mktemp("terms")


def rows(run: Run) -> list[dict]:
    return mixture.read(run.mixture.here()).to_pylist()


def test_a_budget_in_tokens_goes_through_plan_run_summary_and_report(
    small_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = small_run(*TOKENS, "budget=null", "budget_tokens=300")
    execute(small_run(*TOKENS, "budget=null", "budget_tokens=300", "until=plan"))
    assert "select at most 300 tokens of the pool" in " ".join(capsys.readouterr().out.split())
    assert "-t300-s0-" in run.slug
    assert "300 tokens" in str(training(run))
    assert "1 trainings to do, 0 examples and those of 1 budgets in tokens, about 300" in total([run])
    execute(run)
    row = read_json(run.path / "result.json")
    spent = int(run.costs[np.load(run.mixture.here() / "rows.npy")].sum())
    assert (row["budget"], row["budget_tokens"]) == (None, 300)
    assert row["tokens"] == row["tokens_spent"] == spent
    assert 300 - run.costs.max() < spent <= 300
    assert f"of 300 tokens {300 - spent} stay unspent" in " ".join(capsys.readouterr().out.split())
    assert "budget 300 tokens" in (run.mixture.here() / "README.md").read_text()

    execute(small_run(*TOKENS, "budget=null", "budget_tokens=600", "until=plan"))
    larger = small_run(*TOKENS, "budget=null", "budget_tokens=600")
    assert f"({larger.budget} examples or fewer)" in " ".join(
        capsys.readouterr().out.replace("│", " ").split()
    )
    execute(larger)
    assert report([str(run.path), str(larger.path), "--out", str(tmp_path / "tokens")]) == 0
    assert "budget (tokens)" in (tmp_path / "tokens" / "report.html").read_text()
    assert any("along_budget_tokens" in path.name for path in (tmp_path / "tokens").rglob("*"))


def test_shares_limits_repeats_and_a_start_go_through_plan_run_summary_and_report(
    small_run: Callable[..., Run], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lines = [json.loads(line) for line in corpus.read_text().splitlines()]
    begun = [row for row in lines if row["task"] == "add"][:3]
    mine = tmp_path / "mine.jsonl"
    more = [{"task": "other", "prompt": "Not there.", "response": "no"}]
    mine.write_text("".join(json.dumps(row) + "\n" for row in [*begun, *more]))
    asked = [
        "strategy=equal",
        "evaluation.generate=false",
        "evaluation.limit=2",
        "budget=60",
        "weights={copy: 4, length: 0}",
        "max_share=0.7",
        "repeat={copy: 2}",
        f"start={mine}",
        "start_include=true",
    ]
    execute(small_run(*asked, "until=plan"))
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for one in ("max_share=0.7", "repeat={'copy': 2}", "going on from start, which it includes"):
        assert one in said
    run = small_run(*asked)
    execute(run)
    capsys.readouterr()
    execute(small_run(*asked))  # a finished run says the same
    said = " ".join(capsys.readouterr().out.split())
    of_task = [row["task"] for row in rows(run)]
    assert len(of_task) == 63
    assert of_task[:3] == ["add"] * 3
    assert {task: of_task[3:].count(task) for task in set(of_task)} == {"copy": 40, "add": 10, "first": 10}
    row = read_json(run.path / "result.json")
    assert (row["n"], row["start"], row["start_given"], row["start_missing"]) == (63, 3, 4, 1)
    assert row["repeats"] == 16  # of the 24 rows there are of copy
    assert "16 of the examples are there again; with 3 examples of start (1 of 4 given are not" in said
    assert report([str(run.path), "--out", str(tmp_path / "shares")]) == 0


def test_runs_that_ask_for_something_are_told_from_those_that_do_not() -> None:
    rows = [{"strategy": "equal", "budget": 5}] * 3
    table = settings([{"max_share": 0.3, "weights.code": 2}, {"max_share": None, "weights": None}, {}], rows)
    assert table["max_share"].tolist() == [0.3, "none", "none"]
    assert table["weights.code"].tolist() == [2, 1, 1]
    assert "start" not in table
    assert of_strategy("weights.code")
    in_tokens = [{"strategy": "equal", "budget": None, "budget_tokens": 9}, rows[0]]
    assert settings([{}, {}], in_tokens)["budget_tokens"].tolist()[0] == 9


def test_a_mixture_is_added_to_by_its_run_its_folder_its_file_and_its_ids_alike(
    small_run: Callable[..., Run], tmp_path: Path
) -> None:
    first = small_run("strategy=dpp", "budget=8", "until=mixture")
    execute(first)
    whole = small_run("strategy=dpp", "budget=16", "until=mixture")
    execute(whole)
    ids = [row["id"] for row in rows(first)]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    starts = [first.path, first.mixture.path, tmp_path / "ids.txt"]
    names = set()
    for start in starts:
        added = small_run("strategy=dpp", "budget=8", f"start={start}", "until=mixture")
        execute(added)
        assert [row["id"] for row in rows(added)] == [row["id"] for row in rows(whole)][8:]
        names.add(added.slug)
    assert len(names) == 2, "a run and its mixture are one content, ids another"
    assert first.slug not in names


def test_a_damaged_run_to_start_from_is_refused_in_one_sentence(
    small_run: Callable[..., Run], tmp_path: Path
) -> None:
    (tmp_path / "artifacts.json").write_text('{"mixture": ')
    with pytest.raises(InputError, match=r"^start=.*: artifacts\.json is no JSON: it was cut or overwritten"):
        small_run("strategy=random", f"start={tmp_path}")


def test_rows_from_outside_the_pool_are_added_to_as_well(
    small_run: Callable[..., Run], tmp_path: Path
) -> None:
    mine, options = tmp_path / "mine.jsonl", ["strategy=dpp", "budget=8", "until=mixture"]
    plain = small_run(*options)
    execute(plain)
    spoken = [row["prompt"].replace("?", "? Say it.") for row in rows(plain)] + ["How long is houseapple?"]
    lines = [{"prompt": prompt, "response": "so"} for prompt in [*spoken, spoken[0], "zzqx"]]
    mine.write_text("".join(json.dumps(line) + "\n" for line in lines))
    added = small_run(*options, f"start={mine}")
    execute(small_run(*options, f"start={mine}", "until=plan"))
    execute(added)
    facts = added.mixture.meta()["facts"]
    assert {name: facts[name] for name in facts if name.startswith("start")} == {
        "start": 0,
        "start_given": 11,
        "start_missing": 1,
        "start_included": False,
        "start_outside": 9,
    }
    said = "added to 0 examples of start and 9 rows outside the pool (1 of 11 given are not in the pool)"
    assert said in mixture.describe(facts)
    assert [row["id"] for row in rows(added)] != [row["id"] for row in rows(plain)]
    with pytest.raises(
        InputError, match="none of its 11 rows has the prompt and response of one in the pool"
    ):
        execute(small_run("strategy=random", "budget=8", f"start={mine}", "until=mixture"))


@pytest.mark.parametrize(
    "strategy",
    [
        ["strategy=submodular", "tokens_by=best"],
        ["strategy=smart", "weights={add: 2}", "max_share=0.6"],
        ["strategy=weights", "strategy.weights={add: 3, copy: 1}", "repeat=2"],
        ["strategy=two_rounds", "strategy.parts=2"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_strategies_spend_tokens_in_a_run(strategy: list[str], small_run: Callable[..., Run]) -> None:
    run = small_run(*strategy, "budget=null", "budget_tokens=400", "until=mixture")
    execute(run)
    facts = run.mixture.meta()["facts"]
    assert 400 - 2 * run.costs.max() < facts["tokens_spent"] <= 400
    assert facts["n"] == len(rows(run))


def test_rounds_spread_the_tokens(small_run: Callable[..., Run]) -> None:
    run = small_run(
        "strategy=reselect",
        "strategy.rounds=2",
        "strategy.renew=false",
        "budget=null",
        "budget_tokens=400",
        "until=mixture",
    )
    execute(run)
    half, whole = (this.mixture.meta()["facts"]["tokens_spent"] for this in run.rounds)
    assert half <= 200 < whole <= 400
    assert 400 - run.costs.max() < whole


REFUSED = [
    (["budget=9", "budget_tokens=50"], r"budget=9 and budget_tokens=50: a mixture has one budget"),
    (["budget=null"], r"budget=null: it must be a whole number"),
    (["budget=null", "budget_tokens=0"], "it must be at least 1 token"),
    (["max_share=2"], "max_share=2.0: it is a share of the budget"),
    (["weights={nope: 2}"], r"weights: the pool has no task 'nope'; its tasks are add, copy, first, length"),
    (["strategy=weights", "strategy.weights={nope: 2}"], r"strategy: the pool has no task 'nope'"),
    (["budget=null", "budget_tokens=9999999"], r"budget_tokens=9999999: the pool holds \d+ tokens"),
    (["budget=null", "budget_tokens=2"], r"budget_tokens=2: the shortest example has \d+ tokens"),
    (["strategy=dpp", "weights={add: 2}"], "Dpp cannot follow it, as it gives tasks no shares"),
    (["start=nowhere.jsonl"], "start=nowhere.jsonl: there is no such file or folder"),
    (["start=[nobody]"], "none of its 1 ids is one in the pool"),
    (["start_include=true"], "there is no start to include"),
    (["repeat=x"], "repeat='x'"),
    (["tokens_by=cost"], "tokens_by='cost'"),
]


def test_what_cannot_be_is_refused_before_any_work(small_run: Callable[..., Run]) -> None:
    execute(small_run("until=corpus"))
    for overrides, said in REFUSED:
        with pytest.raises(InputError, match=said):
            small_run(*overrides)


def test_the_full_pool_is_one_run_under_every_budget(small_run: Callable[..., Run]) -> None:
    slugs = {
        small_run("strategy=full", *more).slug
        for more in ([], ["budget=null", "budget_tokens=50"], ["budget=3"])
    }
    assert len(slugs) == 1
