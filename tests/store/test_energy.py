"""Energy of a stage is what the visible GPUs' counters rose by; machines without counters record none."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from smartdpp.store.artifact import Artifact
from smartdpp.store.disk import read_json
from smartdpp.store.energy import gpu_watt_hours


class NVMLError(Exception):
    pass


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Two GPUs, their counters in millijoules by UUID."""
    counters = {"GPU-a": 3_600_000, "GPU-b": 7_200_000}
    nvml = ModuleType("pynvml")
    nvml.__spec__ = ModuleSpec("pynvml", None)
    nvml.NVMLError = NVMLError  # type: ignore[attr-defined]
    nvml.nvmlInit = nvml.nvmlShutdown = lambda: None  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetCount = lambda: len(counters)  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetHandleByIndex = lambda i: list(counters)[i]  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetHandleByUUID = lambda uuid: uuid  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda handle: counters[handle]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return counters


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, 3.0), ("1", 2.0), ("GPU-a", 1.0), ("0, 1", 3.0), ("", None)]
)
def test_visible_devices_are_summed(
    driver: dict[str, int], monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: float | None
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_watt_hours() == expected


def test_a_stage_records_what_was_drawn_while_it_ran(driver: dict[str, int], tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, int]:
        driver["GPU-b"] += 1_800_000
        return {}

    artifact = Artifact(tmp_path, "scores", 1, {}, {})
    artifact.produce(build)
    assert read_json(artifact.path / "meta.json")["energy_wh"] == 0.5


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("silent", ["nvmlInit", "nvmlDeviceGetTotalEnergyConsumption"])
def test_without_a_driver_or_a_counter_nothing_is_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silent: str
) -> None:
    def refuse(*_: object) -> None:
        raise NVMLError

    monkeypatch.setattr(sys.modules["pynvml"], silent, refuse)
    artifact = Artifact(tmp_path, "scores", 1, {}, {})
    artifact.produce(lambda folder: {})
    assert "energy_wh" not in read_json(artifact.path / "meta.json")
