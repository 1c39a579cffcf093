"""A component crosses to another process as its configuration, and what that process refuses comes back as
one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hydra.utils import instantiate

from smartdpp.embedding.gradient import Gradient
from smartdpp.errors import Diverged, InputError
from smartdpp.models import Tiny
from smartdpp.runtime.processes import REFUSED, as_config, launch, refusals, refuse_other_launchers, too_many
from smartdpp.store.place import LAUNCHED_BY


def test_a_component_is_made_again_from_its_configuration() -> None:
    component = Gradient(Tiny(hidden_size=64), dim=7)
    config = as_config(component)
    assert config["model"]["_target_"] == "smartdpp.models.tiny.Tiny"
    assert instantiate(config) == component


def test_a_refusal_in_a_process_is_a_refusal_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCHED_BY, str(os.getpid()))

    def launched(error: Exception | None) -> None:
        def process(*args: object, **kwargs: object) -> object:
            if error is not None:
                with pytest.raises(SystemExit), refusals(tmp_path):
                    raise error
            return type("Done", (), {"returncode": int(error is not None)})

        monkeypatch.setattr("smartdpp.runtime.processes.subprocess.run", process)
        launch("platform", tmp_path, 1)

    with pytest.raises(InputError, match=r"^row 7 has no response$"):
        launched(InputError("row 7 has no response"))
    assert not (tmp_path / REFUSED).exists()
    # what its cell is called in a report hangs on the kind
    with pytest.raises(Diverged, match=r"^the loss is nan$"):
        launched(Diverged("the loss is nan"))
    with pytest.raises(SystemExit), refusals(tmp_path):
        raise Diverged("the loss is nan")
    launched(None)  # that one was said to a launcher which was killed: it is no word on this training


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({"WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0"}, "4"),
        ({"WORLD_SIZE": "2"}, "2"),
        ({"LOCAL_RANK": "0"}, "N"),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}, "N"),
        ({"RANK": "1"}, "N"),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, "3"),
        ({"WORLD_SIZE": "two"}, "N"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "N"),  # accelerate launch --num_processes 1
    ],
)
def test_a_process_that_another_launcher_started_is_refused_with_the_right_way(
    environment: dict[str, str], processes: str
) -> None:
    with pytest.raises(InputError) as refused:
        refuse_other_launchers(environment)
    assert f"python run.py ... recipe.processes={processes}" in str(refused.value)
    assert f"unset {' '.join(environment)}" in str(refused.value)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"},
        {
            "SLURM_JOB_ID": "7",
            "SLURM_NTASKS": "4",
            "SLURM_PROCID": "2",
            "SLURM_LOCALID": "2",
            "PMI_SIZE": "1",
            "PMI_RANK": "0",
        },
        {"LOCAL_RANK": "-1"},
    ],
)
def test_what_stands_in_an_environment_without_a_launcher_is_harmless(environment: dict[str, str]) -> None:
    refuse_other_launchers(environment)


def test_launched_processes_end_with_the_one_that_launched_them(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-m", "tests.lingering", str(tmp_path)], cwd=Path(__file__).parents[2]
    )
    until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    launched = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert all(map(psutil.pid_exists, launched))
    first.kill()
    first.wait()
    until(lambda: not any(map(psutil.pid_exists, launched)))


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_more_processes_than_gpus_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smartdpp.runtime.processes.visible", lambda: ())
    assert too_many("recipe", 4) == []  # processors are shared
    monkeypatch.setattr("smartdpp.runtime.processes.visible", lambda: ("GPU-a", "GPU-b"))
    assert too_many("recipe", 2) == []
    assert too_many("recipe", 4) == [
        "recipe.processes=4: each process has a GPU of its own, and 2 are visible here: choose at most 2"
    ]
