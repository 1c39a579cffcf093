"""experiments/benchmarks/cell.py and training.py with the tiny model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from smartdpp.run.pipeline import execute, prepare


def cells(table: str) -> dict[str, list[str]]:
    """Of each line that has a name, what stands behind it."""
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


@pytest.fixture
def cell(scripts: Path, configure: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, whose processes are this one, and whose cells have the tests' corpus."""
    import cell

    def run(command: Sequence[str], **_: Any) -> None:
        if command[1] == "run.py":
            cfg = configure(*command[2:])
            execute(prepare(cfg, HydraConfig.get().runtime.choices))
        else:
            assert command[1] == cell.__file__
            cell.main(command[2:])

    monkeypatch.setattr(cell, "subprocess", SimpleNamespace(run=run, DEVNULL=None))
    return cell


def test_a_cell_stands_beside_the_script_that_does_the_same_by_hand(
    cell: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    cell.main(["--model", "tiny", "--budget", "12", "--documents", "3"])
    out = capsys.readouterr().out
    found = cells(out)
    assert found["seconds"] == ["now", "by hand"]
    assert re.search(r"12 rows \(\d+ tokens\) trained, 3 documents \(\d+ tokens\) scored", out)
    for stage in ("adapter", "base scores", "scores"):
        assert all(float(seconds) >= 0 for seconds in found[stage])
    assert all(float(rate) > 0 for rate in found["tokens/s of training"])
    assert found["mixture"][1] == ""  # the script has its rows


def test_ours_and_what_the_libraries_compute_see_the_same_losses(
    scripts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import training

    from smartdpp.finetune import trainer

    usual = training.usual

    def restored(*args: Any) -> Any:  # a process would end with what is patched in it
        with monkeypatch.context() as patch:
            for name in ("_trainer", "fuse", "pack"):
                patch.setattr(trainer, name, getattr(trainer, name))
            return usual(*args)

    monkeypatch.setattr(training, "usual", restored)
    monkeypatch.setattr(training, "alone", training.measure)
    training.main(["--model", "tiny", "--rows", "16", "--rounds", "1"])
    out = capsys.readouterr().out
    found = cells(out)
    assert found["smartdpp"][3] == "1.00 (1.00 to 1.00)"
    assert {*found} >= set(training.VARIANTS.values())
    off = re.search(r"differ by at most (\S+) between", out)
    assert off is not None
    assert float(off[1]) < 1e-4
