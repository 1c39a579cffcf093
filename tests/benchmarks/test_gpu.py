"""experiments/benchmarks/gpu.py on a processor, with the tiny model."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def gpu(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, whose two sides are measured in this process."""
    import gpu

    monkeypatch.setattr(gpu, "side", lambda names, given, folder, _: gpu.measure(names, given, folder))
    return gpu


def answers(path: Path) -> dict[str, str]:
    """By what was asked, from the table's lines."""
    lines = [line.split(" | ") for line in path.read_text(encoding="utf-8").splitlines()]
    return {cells[0].removeprefix("| "): cells[1] for cells in lines[1:] if len(cells) > 2}


def test_a_processor_beside_itself_answers_the_same_and_says_what_it_cannot(
    gpu: ModuleType, tmp_path: Path
) -> None:
    out = tmp_path / "gpu.md"
    assert gpu.main(["--device", "cpu", "--model", "tiny", "--out", str(out)]) == 0
    found = answers(out)
    assert found["energy"] == "cannot be made: a processor has no counter"
    assert "needs a CUDA device" in found.pop("QLoRA training, beside LoRA in float32")
    assert found["out of memory: batches are halved"].startswith("right: halved 3 times")
    assert sum(answer.startswith("right: ") for answer in found.values()) == 7


def test_other_losses_and_a_check_that_fails_are_told_and_counted(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter([2.0, 1.0])

    def training(_: Any) -> Any:
        return {"losses": np.array([next(drawn)])}, 1.0

    def broken(_: Any) -> Any:
        raise ValueError("no such kernel")

    monkeypatch.setitem(gpu.CHECKS, "lora", gpu.CHECKS["lora"]._replace(work=training))
    monkeypatch.setitem(gpu.CHECKS, "hidden", gpu.CHECKS["hidden"]._replace(work=broken))
    out = tmp_path / "gpu.md"
    given = ["--device", "cpu", "--model", "tiny", "--out", str(out)]
    assert gpu.main([*given, "--only", "lora,hidden"]) == 1
    assert answers(out)["LoRA training"].startswith("**WRONG**: losses of 1 steps: off by 100.00%")
    assert answers(out)["hidden states"] == "FAILED: ValueError: no such kernel"


def test_what_no_time_was_left_for_is_named(gpu: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line, _ = gpu.line("full", tmp_path / "empty", tmp_path / "empty")
    assert "not reached in the time given" in line


def test_without_a_gpu_nothing_is_measured_and_it_says_so(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "gpu.md")]) == 0
    assert "no GPU here: nothing was measured" in capsys.readouterr().out
    assert not (tmp_path / "gpu.md").exists()
