"""All measures inside a run: what the pipeline hands them, what the run's record then holds, and that every
reader copes with it."""

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
import yaml

from smartdpp.config.compose import conf_dir
from smartdpp.diversity.components import describe
from smartdpp.errors import InputError
from smartdpp.report import main as report
from smartdpp.run.alone import prepared
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.store.disk import read_json
from tests.conftest import small


@pytest.fixture(scope="module")
def measured(corpus, tmp_path_factory) -> Callable[..., Run]:
    """A run with these overrides, on one store: only its measure is new."""
    root = tmp_path_factory.mktemp("measured")

    def make(*overrides: str) -> Run:
        quick = ["evaluation.generate=false", "evaluation.limit=2"]
        run = prepared([*small(corpus, root), *quick, "strategy=random", *overrides])
        execute(run)
        return run

    make("diversity=none")
    return make


OPTIONS = [
    [],
    ["diversity.n=5"],
    ["diversity.n=5", "+diversity.whole=true"],
    ["+diversity.whole=false", "+diversity.reference=shuffled"],
    ["diversity.kernel=rbf", "diversity.gamma=0.5", "diversity.reference_size=40"],
    ["diversity.kernel=linear", "diversity.truncate=-1"],
    ["diversity.gamma=1e-8"],
    ["diversity.reference_seeds=[3]", "diversity.n=2"],
    ["diversity.reference_size=5"],
    ["diversity=all", "diversity.log_det.n=5"],
    [
        "diversity=all",
        "diversity.vendi_q=0",
        "diversity.neighbors=1",
        "diversity.clusters=1",
        "diversity.seed=9",
    ],
    ["diversity=all", "diversity.neighbors=500", "diversity.clusters=500"],
    ["diversity=none"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_every_option_goes_through_run_plan_summary_and_report(options, measured, capsys) -> None:
    run = measured(*options)
    said = capsys.readouterr().out
    facts = run.diversity.meta()["facts"]
    whole = {
        name
        for name, value in json.loads((run.diversity.path / "diversity.json").read_text()).items()
        if not isinstance(value, list)
    }
    assert set(facts) == {name for name in whole if name not in ("kernel", "reference")}, (
        "a fact is there also where it is not known"
    )
    row = read_json(run.path / "result.json")
    assert {name.removeprefix("diversity_") for name in row if name.startswith("diversity_")} == set(facts)
    if "ldd" in facts:
        assert {
            "ldd",
            "ldd_sd",
            "ldd_n",
            "ldd_untruncated",
            "kept",
            "size",
            "kept_share",
            "duplicate_share",
        } <= set(facts)
        assert f"at n = {facts['ldd_n']}" in said
        assert (facts["kept"] is None) == ("kept at least" in said) == (facts["kept_share"] is None)
        assert (facts["ldd_untruncated"] is None) == ("untruncated unknown" in said)
    else:
        assert "diversity not measured" in said
    measured(*options, "until=plan")
    assert describe(facts)[:40] in re.sub(r"\s+", " ", capsys.readouterr().out.replace("│", " "))
    assert report([str(run.path)]) == 0


def test_runs_that_know_their_kept_share_and_runs_that_do_not_share_a_report(
    measured, capsys, tmp_path
) -> None:
    for options in (
        [["diversity.n=5"], ["diversity.n=5", "select_seed=1"]],
        [[], ["diversity.n=5"], ["diversity=none"]],
    ):
        assert report([*(str(measured(*one).path) for one in options), "--out", str(tmp_path)]) == 0


def test_every_parameter_that_a_yaml_of_the_group_names_is_tried() -> None:
    tried = {
        option.removeprefix("+").partition("=")[0].removeprefix("diversity.").removeprefix("log_det.")
        for one in OPTIONS
        for option in one
    }
    named = {
        key
        for file in (conf_dir() / "diversity").glob("*.yaml")
        for key in yaml.safe_load(file.read_text()) or {}
    }
    assert named - {"_target_", "defaults"} <= tried


def test_an_n_beyond_the_mixture_is_refused_before_anything_is_made(small_run) -> None:
    for options in (["diversity.n=17"], ["diversity=all", "diversity.log_det.n=17"]):
        with pytest.raises(InputError, match=r"diversity\.(log_det\.)?n=17: the mixture holds 16 examples"):
            small_run(*options)
    with pytest.raises(InputError, match=r"diversity.reference_size is 4, less than diversity.n=5"):
        small_run("diversity.n=5", "diversity.reference_size=4")


def test_a_run_measures_its_mixture_against_its_pool(small_run) -> None:
    run = small_run("strategy=dpp_sample", "diversity=all", "until=mixture")
    execute(run)
    measured = json.loads((run.diversity.path / "diversity.json").read_text())
    lines = [json.loads(line) for line in (run.mixture.path / "mixture.jsonl").read_text().splitlines()]
    _, counts = np.unique([line["task"] for line in lines], return_counts=True)
    share = counts / counts.sum()
    assert measured["task_entropy"] == pytest.approx(-(share * np.log(share)).sum())
    assert 0 < measured["coverage"] < 1
    assert {"ldd", "vendi", "novelsum", "knn_distance"} <= set(run.diversity.meta()["facts"])


def test_the_full_pool_covers_itself(small_run) -> None:
    run = small_run("strategy=full", "diversity=all", "until=mixture")
    execute(run)
    assert json.loads((run.diversity.path / "diversity.json").read_text())["coverage"] == pytest.approx(1)
