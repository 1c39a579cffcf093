"""All measures inside a run: what the pipeline hands them, and what the run's record then holds."""

import json

import numpy as np
import pytest

from smartdpp.pipeline import execute


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
