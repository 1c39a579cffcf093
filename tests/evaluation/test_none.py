"""Choosing and training without any held-out task."""

import json

import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.heldout import Heldout
from smartdpp.evaluation.none import NoEvaluation
from smartdpp.run.alone import prepared
from smartdpp.run.pipeline import execute
from smartdpp.run.stages import artifacts
from tests.conftest import small


@pytest.fixture
def run(tmp_path):
    rows = [
        {"instruction": f"Add {i} and {i + 1}.", "input": "", "output": str(2 * i + 1)} for i in range(40)
    ]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows, indent=1))
    plain = [
        override
        for override in small(tmp_path / "alpaca.json", tmp_path)
        if not override.startswith("evaluation.")
    ]
    return prepared(
        [*plain, "evaluation=none", "corpus.constants={task: alpaca}", "strategy=dpp", "budget=8"]
    )


def test_one_dataset_is_chosen_from_and_trained_on_without_scores(run, capsys):
    from smartdpp.report.command import main
    from smartdpp.track import diversity_performance

    assert execute(run) is None
    assert not {"base scores", "scores"} & set(artifacts(run))
    assert run.corpus.meta()["facts"]["n_pool"] == 40
    row = json.loads((run.path / "result.json").read_text())
    assert (row["n"], row["steps"] > 0, row["score"], row["score_metric"]) == (8, True, None, None)
    assert (run.adapter.path / "adapter_model.safetensors").is_file()
    shown = capsys.readouterr().out
    assert "nothing was evaluated (evaluation=none): there are no scores" in shown
    assert execute(run) is None  # found again
    assert [len(frame) for frame in diversity_performance(run.path)] == [0, 0]
    assert main([str(run.path)]) == 0
    assert (
        "nothing was evaluated: there are no scores of it" in (run.path / "report" / "report.md").read_text()
    )


def test_an_evaluation_that_holds_everything_out_names_the_way(run):
    with pytest.raises(
        InputError, match=r"holds out every task of the corpus: .*, or score nothing with evaluation=none"
    ):
        Heldout().heldout(["alpaca"])
    with pytest.raises(
        InputError,
        match=r"the corpus has no task gcd; it has 1: alpaca; evaluation=indomain scores rows of its own",
    ):
        Heldout(tasks=["gcd"]).heldout(["alpaca"])
    assert NoEvaluation().heldout(["alpaca"]) == []


def test_a_task_named_by_digits_can_be_held_out():
    assert Heldout(tasks=[2, "007"]).heldout(["1", "2", "007"]) == ["007", "2"]
