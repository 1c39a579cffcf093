"""One GPU a worker, and sweeps under other launchers and sweepers than Hydra's basic ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smartdpp.store.disk import read_json
from tests.conftest import small
from tests.forked import anew

ROOT = Path(__file__).parents[2]
WORKER = """
import os, sys
from smartdpp.runtime import gpus
from smartdpp.errors import InputError
gpus._uuids = dict  # as on a machine without a driver: devices by the names they were given
try:
    gpus.claim(int(sys.argv[1]))
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
except InputError as error:
    print(error, flush=True)
input()
"""


def worker(folder: Path, count: int = 1, devices: str = "0,1,2") -> subprocess.Popen:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": devices, "TMPDIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(count)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def said(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_every_process_sees_a_gpu_of_its_own(tmp_path: Path) -> None:
    processes = []
    try:
        processes.append(worker(tmp_path))
        assert said(processes[0]) == "0"
        processes.append(worker(tmp_path, 2))
        assert said(processes[1]) == "1,2"
        processes.append(worker(tmp_path))
        assert "3 GPUs are visible and other workers hold all but 0" in said(processes[2])
        processes[0].kill()
        processes[0].wait()
        processes.append(worker(tmp_path))
        assert said(processes[3]) == "0", "the system frees a dead process's lock"
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_single_gpu_is_everybodys(tmp_path: Path) -> None:
    processes = [worker(tmp_path, devices="3"), worker(tmp_path, devices="3")]
    try:
        assert [said(process) for process in processes] == ["3", "3"]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_failed_cell_stops_no_other_under_a_launcher(launcher: str, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    done = anew(
        "-m",
        *small(corpus, tmp_path),
        "budget=97,8,9",
        "strategy=random",
        "until=mixture",
        f"hydra/launcher={launcher}",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the pool holds 96 examples" in done.stdout + done.stderr
    runs = {
        path.name.split("-")[2]: path
        for path in (tmp_path / "runs").iterdir()
        if path.name.startswith("random-")
    }
    assert {budget: (path / "error.txt").is_file() for budget, path in runs.items()} == {
        "b97": True,
        "b8": False,
        "b9": False,
    }
    assert len(list((tmp_path / "store" / "corpus").glob("*/meta.json"))) == 1
    assert len(list((tmp_path / "store" / "mixture").glob("*/meta.json"))) == 2


def test_optuna_optimises_the_score(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    # the example itself, made tiny: its own primary configuration, the number of tasks within what the corpus
    # has
    arguments = [
        "-cd",
        str(ROOT / "experiments" / "optuna"),
        "-cn",
        "smart_weights",
        *small(corpus, tmp_path),
    ]
    done = anew("-m", *arguments, "strategy.num_tasks=range(2,4)", "hydra.sweeper.n_trials=3")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [read_json(path) for path in (tmp_path / "runs").glob("smart-*/result.json")]
    assert len(rows) == 3
    best = (tmp_path / "runs" / ".sweep" / "optimization_results.yaml").read_text()
    assert f"best_value: {min(row['score'] for row in rows)}" in best
