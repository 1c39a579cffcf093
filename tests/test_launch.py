"""A component crosses to another process as its configuration, and what that process refuses comes back as one sentence."""

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
from smartdpp.launch import LAUNCHED_BY, REFUSED, as_config, launch, refusals, too_many
from smartdpp.models import Tiny


def test_a_component_is_made_again_from_its_configuration() -> None:
    component = Gradient(Tiny(hidden_size=64), dim=7)
    config = as_config(component)
    assert config["model"]["_target_"] == "smartdpp.models.Tiny"
    assert instantiate(config) == component


def test_a_refusal_in_a_process_is_a_refusal_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCHED_BY, str(os.getpid()))
    with pytest.raises(SystemExit), refusals(tmp_path):
        raise InputError("row 7 has no response")
    with pytest.raises(InputError, match=r"^row 7 has no response$"):
        launch("platform", tmp_path, 1)
    assert not (tmp_path / REFUSED).exists()
    with pytest.raises(SystemExit), refusals(tmp_path):
        raise Diverged("the loss is nan")
    with pytest.raises(Diverged, match=r"^the loss is nan$"):  # what its cell is called in a report hangs on the kind
        launch("platform", tmp_path, 1)


def test_launched_processes_end_with_the_one_that_launched_them(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-m", "tests.lingering", str(tmp_path)], cwd=Path(__file__).parents[1])
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
    monkeypatch.setattr("smartdpp.launch.visible", lambda: ())
    assert too_many("recipe", 4) == []  # processors are shared
    monkeypatch.setattr("smartdpp.launch.visible", lambda: ("GPU-a", "GPU-b"))
    assert too_many("recipe", 2) == []
    assert too_many("recipe", 4) == ["recipe.processes=4: each process has a GPU of its own, and 2 are visible here: choose at most 2"]
