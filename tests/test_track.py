"""What wandb is given of a run among others."""

import numpy as np
import pytest
from synthetic_runs import finished_run

from smartdpp.track import Wandb, diversity_performance


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for i, strategy in enumerate(("smart", "random")):
        for seed in range(4):
            d = 0.2 + 0.1 * i + 0.05 * rng.random()
            found.append(finished_run(tmp_path, f"{strategy}-{seed}", strategy=strategy, seed=seed, loss=2 + d, curve=(0.1, d)))
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
    from smartdpp.study import Cell, Wanted

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
    assert {"report", "cells/done", "Results/table", "Results/strategies", "Against random, seed by seed/table"} <= set(logged)
