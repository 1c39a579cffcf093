"""Several evaluations in one run: each scores what it would alone, and none of them changes what the others
hold out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.ability import Ability
from smartdpp.evaluation.combined import Combined
from smartdpp.evaluation.heldout import Heldout
from smartdpp.evaluation.indomain import Indomain
from smartdpp.evaluation.jsonl import Jsonl
from smartdpp.evaluation.none import NoEvaluation
from smartdpp.evaluation.scores import read_samples
from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.store.disk import read_json

from .test_indomain import small_run  # noqa: F401  # a fixture

BOTH = (
    "evaluation=combined",
    *(f"evaluation.of.heldout.{one}" for one in ("tasks=[parity]", "limit=4", "max_new_tokens=4")),
    *(f"evaluation.of.indomain.{one}" for one in ("per_task=2", "max_new_tokens=4")),
)
ALONE = (
    "evaluation=heldout",
    "evaluation.tasks=[parity]",
    "evaluation.limit=4",
    "evaluation.max_new_tokens=4",
)


def test_each_has_its_own_columns_and_the_first_has_the_usual_ones(
    small_run: Callable[..., Run],  # noqa: F811
    capsys: pytest.CaptureFixture,
) -> None:
    run = small_run(*BOTH)
    execute(small_run(*BOTH, "until=plan"))
    score = execute(run)
    shown = capsys.readouterr().out
    row = read_json(run.path / "result.json")
    assert score == row["score"] == row["loss"]
    assert row["evaluations"] == "indomain"
    assert {name for name in row if name.startswith("loss/")} == {"loss/parity"}
    assert {name for name in row if name.startswith("indomain/loss/")} == {
        f"indomain/loss/{task}" for task in ("add", "copy", "first", "length")
    }
    assert (row["documents"], row["indomain/documents"]) == (4, 8)
    assert row["indomain/loss_change"] == pytest.approx(row["indomain/loss"] - row["indomain/loss_base"])
    assert row["indomain/loss_change_low"] < row["indomain/loss_change_high"]
    assert "held-out tasks, never trained on: base → tuned" in shown
    assert "indomain: held-out documents of the pool's tasks: base" in shown
    main, beside = (read_samples(run.scores.path / folder / "samples.jsonl") for folder in ("", "indomain"))
    assert {sample["task"] for sample in main} == {"parity"}
    assert {sample["task"] for sample in beside} == {"add", "copy", "first", "length"}

    alone = small_run(*ALONE)
    execute(alone)
    assert (
        read_json(alone.base.path / "scores.json")["tasks"]
        == read_json(run.base.path / "scores.json")["tasks"]
    )


def test_a_report_tells_them_apart(small_run: Callable[..., Run], tmp_path: Path) -> None:  # noqa: F811
    runs = [
        small_run(*BOTH, f"strategy={name}", f"seed={seed}")
        for name in ("random", "equal")
        for seed in (0, 1)
    ]
    for run in runs:
        execute(run)
    assert report([str(runs[0].path), "--out", str(tmp_path / "one")]) == 0
    one = (tmp_path / "one" / "report.md").read_text()
    assert "## Results (indomain)" in one
    assert "## Finetuned against base (indomain)" in one
    assert "## Held-out tasks\n" in one
    assert "## Held-out documents of the pool's tasks (indomain)\n" in one
    assert (tmp_path / "one" / "heldout_indomain.png").is_file()
    assert report([*(str(run.path) for run in runs), "--out", str(tmp_path / "all")]) == 0
    text = (tmp_path / "all" / "report.md").read_text()
    beside = text[text.index("## Results (indomain)") :]
    expected = sum(read_json(run.path / "result.json")["indomain/loss"] for run in runs[:2]) / 2
    assert f"{expected:.3f} ± " in beside
    assert "Scores are means over 4 tasks (8 documents)" in beside
    assert "## Against random, seed by seed (indomain)" in beside
    assert "the 8 documents together" in beside


def test_runs_with_and_without_a_second_evaluation_share_a_report(
    small_run: Callable[..., Run],  # noqa: F811
    tmp_path: Path,
) -> None:
    both, alone = small_run(*BOTH), small_run(*ALONE)
    for run in (both, alone):
        execute(run)
    assert report([str(both.path), str(alone.path), "--out", str(tmp_path / "out")]) == 0
    assert "## Results (indomain)" in (tmp_path / "out" / "report.md").read_text()


def talk(task: str, i: int) -> dict:
    said = [f"{task} {i * 37 % 101} of {['one', 'two', 'three'][i % 3]}?", f"{i}.", "Sure?", "Yes."]
    return {
        "task": task,
        "messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)],
    }


def test_conversations_are_scored_both_ways_at_an_address_and_reported_elsewhere(
    small_run: Callable[..., Run],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, root = tmp_path / "talks.jsonl", f"memory://{tmp_path.name}/study"
    rows = [talk(task, i) for task in ("add", "copy", "parity") for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = (*BOTH, f"corpus.path={path}", f"root={root}", "model.format=chat", "budget=8")
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / "a"))
    run = small_run(*given)
    execute(run)
    row = read_json(run.path / "result.json")
    assert {name for name in row if name.startswith("indomain/loss/")} == {
        "indomain/loss/add",
        "indomain/loss/copy",
    }
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / "b"))
    assert report([f"{root}/runs", "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    section = text[text.index("## Held-out documents of the pool's tasks (indomain)") :]
    assert f"{row['indomain/loss/add']:.3f}" in section[: section.index("\n## ")]
    assert f"{row['loss/parity']:.3f}" in text[text.index("## Held-out tasks\n") :]


def test_a_query_is_of_the_first_and_none_of_it_is_scored_by_any(small_run: Callable[..., Run]) -> None:  # noqa: F811
    run = small_run(*BOTH, "strategy=targeted", "strategy.query.per_task=3")
    execute(run)
    query = {
        json.loads(line)["id"]: json.loads(line)["task"] for line in (run.query.path / "query.jsonl").open()
    }
    assert set(query.values()) == {"parity"}
    for folder in ("", "indomain"):
        assert (
            not {sample["id"] for sample in read_samples(run.scores.path / folder / "samples.jsonl")}
            & query.keys()
        )


def test_an_evaluation_that_holds_out_nothing_shares_the_corpus_of_the_one_that_does(tmp_path: Path) -> None:
    assert Combined({"a": Heldout(tasks=["x"])}).split() == Heldout(tasks=["x"]).split()
    two = Combined({"a": Heldout(tasks=["x"]), "b": Indomain()})
    assert two.split() == {"of": [Heldout(tasks=["x"]).split(), Indomain().split()]}
    assert two.heldout(["x", "y"]) == ["x"]
    with pytest.raises(InputError, match="holds out every task"):
        two.heldout(["x"])


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({}, "evaluation.of is empty"),
        ({"loss": Heldout()}, r"evaluation\.of\.loss: call it otherwise"),
        ({"a/b": Heldout()}, "call it otherwise"),
        ({"a": NoEvaluation()}, "scores nothing of its own"),
        ({"a": Indomain(), "b": Indomain()}, "two evaluations set rows of the pool's tasks aside"),
        (
            {"a": Heldout(), "b": Jsonl("x.jsonl")},
            r"evaluation\.of\.a\.tasks is null: a, b hold out tasks together",
        ),
    ],
)
def test_what_cannot_be_combined_is_said(of: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Combined(of)


def test_an_arena_s_documents_and_a_file_s_are_both_held_out(tmp_path: Path) -> None:
    row = {"task": "odd", "prompt": "3", "response": "yes"}
    (tmp_path / "odd.jsonl").write_text(json.dumps(row) + "\n")
    both = Combined({"ability": Ability(), "odd": Jsonl(str(tmp_path / "odd.jsonl"))})
    assert both.heldout(["add", "copy", "target/add", "odd"]) == ["odd", "target/add"]


def test_every_mistake_inside_is_named_with_its_place(small_run: Callable[..., Run]) -> None:  # noqa: F811
    with pytest.raises(
        InputError,
        match=r"evaluation\.of\.indomain\.per_tsk: Indomain has no parameter 'per_tsk'; did you "
        r"mean per_task",
    ):
        small_run(*BOTH, "+evaluation.of.indomain.per_tsk=3")
    with pytest.raises(
        InputError,
        match=r"evaluation\.of\.mine\._target_=os\.system: only components under smartdpp\. are instantiated",
    ):
        small_run(*BOTH, "+evaluation.of.mine._target_=os.system")
    with pytest.raises(
        InputError, match=r"evaluation\.of\.mine: nothing chosen.*out with ~evaluation\.of\.mine"
    ):
        small_run(*BOTH, "+evaluation.of.mine=3")
    small_run("evaluation=combined", "~evaluation.of.indomain", "until=plan")
    with pytest.raises(InputError, match=r"evaluation\.of\.file\.path: .*gone\.jsonl"):
        small_run(*BOTH, "+evaluation@evaluation.of.file=jsonl", "evaluation.of.file.path=gone.jsonl")
    small_run("evaluation=combined", "~evaluation@evaluation.of.heldout", "until=plan")
