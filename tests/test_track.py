"""What wandb is given of a run among others, and that every finished run is mirrored once to wherever it is
to be."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import finished_run

from smartdpp import track
from smartdpp.errors import InputError
from smartdpp.run import pipeline, tracked
from smartdpp.run.pipeline import execute
from smartdpp.track import NoTracker, Wandb, diversity_performance
from tests.conftest import small
from tests.forked import MAIN, Forked

VARIABLES = ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_GROUP", "WANDB_NAME", "WANDB_TAGS")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def given(monkeypatch):
    """What wandb.init is called with; no run of wandb's is started."""
    import wandb

    calls = []

    class Session:
        def log(self, values): ...
        def finish(self): ...

    monkeypatch.setattr(wandb, "init", lambda **kwargs: calls.append(kwargs) or Session())
    return calls


@pytest.fixture
def described(runs):
    """A finished run with a configuration, as the pipeline leaves it."""
    run = runs[0]
    (run / ".hydra").mkdir(exist_ok=True)
    (run / ".hydra" / "config.yaml").write_text(
        "tracker: {_target_: smartdpp.track.Wandb, project: own, group: theirs, mode: null}\n"
    )
    return run


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for i, strategy in enumerate(("smart", "random")):
        for seed in range(4):
            d = 0.2 + 0.1 * i + 0.05 * rng.random()
            found.append(
                finished_run(
                    tmp_path, f"{strategy}-{seed}", strategy=strategy, seed=seed, loss=2 + d, curve=(0.1, d)
                )
            )
    finished_run(tmp_path, "other", budget=80)
    return found


def test_a_run_is_shown_among_the_finished_runs_of_its_budget(runs):
    table, ranking = diversity_performance(runs[-1])
    assert len(table) == 8
    assert table.columns[-1] == "loss"
    assert table.loc[table["run"] == "smart-0", "mixture"].item() == "chain_sum 75%, maze 25%"
    assert ranking.iloc[0]["measure"] == "ldd"
    assert ranking.iloc[0]["pearson"].startswith("+1.00")
    assert "few" in ranking.iloc[0]["warning"]


def test_a_run_alone_has_nothing_to_compare_with(tmp_path):
    table, ranking = diversity_performance(finished_run(tmp_path))
    assert table.empty
    assert ranking.empty


def test_wandb_takes_it_offline(runs, monkeypatch):
    logged = {}
    import wandb

    start = wandb.init

    def init(**kwargs):
        session = start(**kwargs)
        log = session.log
        monkeypatch.setattr(session, "log", lambda values: logged.update(values) or log(values))
        return session

    monkeypatch.setattr(wandb, "init", init)
    Wandb(mode="offline").log(runs[0])
    assert {"mixture", "loss", "diversity/runs", "diversity/correlations"} <= set(logged)
    assert list((runs[0] / "wandb").glob("offline-run-*"))


def test_wandb_takes_a_studys_report_in_its_group(runs, tmp_path, monkeypatch):
    import wandb

    from smartdpp.report import write
    from smartdpp.study.cells import Cell, Wanted

    started, logged = {}, {}
    start = wandb.init

    def init(**kwargs):
        started.update(kwargs)
        session = start(**kwargs)
        log = session.log
        monkeypatch.setattr(session, "log", lambda values: logged.update(values) or log(values))
        return session

    monkeypatch.setattr(wandb, "init", init)
    out = tmp_path / "out"
    *_, report = write([Cell((run.name,), run, "done") for run in runs], Wanted("x"), out)
    Wandb(mode="offline", group="small").log_report("small", report, out)
    assert (started["group"], started["job_type"]) == ("small", "report")
    assert {
        "report",
        "cells/done",
        "Results/table",
        "Results/strategies",
        "Against random, seed by seed/table",
    } <= set(logged)


def test_wandbs_variables_hold_over_our_defaults_and_what_is_given_over_both(described, given, monkeypatch):
    for name, value in zip(VARIABLES, ("disabled", "mine", "team", "g", "n", "t"), strict=True):
        monkeypatch.setenv(name, value)
    Wandb().log(described)
    Wandb(mode="online", project="p", entity="e", group="h", name="o", tags=["a"]).log(described)
    names = ("mode", "project", "entity", "group", "name")
    assert [given[0][name] for name in names] == ["disabled", "mine", "team", "g", "n"]
    assert given[0]["tags"] is None, "wandb reads $WANDB_TAGS itself"
    assert [given[1][name] for name in (*names, "tags")] == ["online", "p", "e", "h", "o", ["a"]]
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(track, "study_name", lambda: "quickstart")
    Wandb().log(described)
    assert [given[2][name] for name in names] == ["offline", "smartdpp", None, "quickstart", described.name]
    assert {call["id"] for call in given} == {described.name}


def test_a_setting_that_wandb_has_not_is_told_before_any_work(small_run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "of-line")
    with pytest.raises(InputError, match="WANDB_MODE=of-line: choose one of offline, online, disabled"):
        small_run("tracker=wandb", "tracker.project=team/mine")
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    with pytest.raises(InputError, match=r"tracker\.project=team/mine: wandb allows no /"):
        small_run("tracker=wandb", "tracker.project=team/mine")
    assert Wandb().place()["mode"] == "offline"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert Wandb().place() is None
    assert Wandb(mode="online").place()["mode"] == "online"


def test_a_run_is_mirrored_once_to_each_place(described, given):
    assert tracked.missing(described, Wandb())
    for tracker in (Wandb(), Wandb(project="other"), Wandb(mode="online")):
        assert tracked.mirror(described, tracker)
        assert not tracked.missing(described, tracker)
    assert [place["project"] for place in tracked.places(described)] == ["smartdpp", "other", "smartdpp"]
    assert not tracked.missing(described, NoTracker())
    assert not tracked.missing(described, Wandb(mode="disabled"))
    row = json.loads((described / "result.json").read_text())
    (described / "result.json").write_text(json.dumps(row | {"loss": 1.0}))
    assert tracked.missing(described, Wandb()), "a result that was made anew is nowhere"
    (described / "tracked.json").write_text("{")
    assert tracked.missing(described, Wandb())


def test_a_tracker_that_fails_is_told_and_tried_again(described, monkeypatch, caplog):
    def fail(*args):
        raise ConnectionError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(Wandb, "log", fail)
        assert not tracked.mirror(described, Wandb())
    assert (
        "not mirrored to wandb, offline, smartdpp (ConnectionError: no route). The results are complete"
        in caplog.text
    )
    assert tracked.missing(described, Wandb())
    assert not (described / "tracked.json").exists()


def test_the_command_mirrors_later_and_elsewhere(described, given, monkeypatch, capsys):
    assert track.main([str(described)]) == 0
    assert [(call["mode"], call["project"], call["group"]) for call in given] == [
        ("offline", "own", "theirs")
    ], "as its run had it"
    assert track.main([str(described)]) == 0
    assert len(given) == 1, "it is there"
    assert track.main([str(described), "--again"]) == 0
    monkeypatch.setenv("WANDB_PROJECT", "fresh")
    assert track.main([str(described), "--mode", "online", "--entity", "team", "--tags", "a,b"]) == 0
    assert [given[-1][name] for name in ("mode", "project", "entity", "tags")] == [
        "online",
        "fresh",
        "team",
        ["a", "b"],
    ]
    assert track.main([str(described.parent), "--name", "x"]) == 1
    assert "these are 9 runs" in capsys.readouterr().err
    assert track.main([str(described / "result.json")]) == 1
    assert "result.json is a file: give run folders" in capsys.readouterr().err
    (described / "result.json").unlink()
    (described / "error.txt").write_text("x")
    assert track.main([str(described), "--project", "late"]) == 1
    assert len(given) == 3


def test_the_command_mirrors_runs_at_an_address(described, given):
    import fsspec

    fs = fsspec.filesystem("memory")
    for file in (f for f in described.parent.parent.rglob("*") if f.is_file()):
        fs.pipe_file(f"/tracking/{file.relative_to(described.parent.parent)}", file.read_bytes())
    where = f"memory://tracking/runs/{described.name}"
    assert track.main([where]) == 0
    assert (
        json.loads(fs.cat_file(f"/tracking/runs/{described.name}/tracked.json"))["places"][0]["project"]
        == "own"
    )
    assert track.main([where]) == 0
    assert len(given) == 1


def test_what_was_not_mirrored_is_made_up_for_and_nothing_else_is_done(
    small_run, corpus: Path, tmp_path: Path, monkeypatch
):
    run = small_run("strategy=random", "tracker=none")
    execute(run)
    assert not (run.path / "tracked.json").exists()
    code = (
        "import os, signal\nfrom smartdpp.track import Wandb\n"
        "Wandb.log = lambda self, run: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    words = [*small(corpus, tmp_path), "strategy=random", "tracker=wandb"]
    killed = Forked(*words, code=code + MAIN).ended()
    assert killed.returncode == -signal.SIGKILL
    assert not (run.path / "tracked.json").exists()
    monkeypatch.setattr(pipeline, "_made", lambda run: pytest.fail("everything is there"))
    (run.path / "error.txt").write_text("of a tracker that failed the run, once")
    for _ in range(2):
        execute(small_run("strategy=random", "tracker=wandb"))
    assert len(list((run.path / "wandb").glob("offline-run-*"))) == 1
    assert (run.path / "figures" / "task_shares.png").is_file()
    assert not (run.path / "error.txt").exists()
