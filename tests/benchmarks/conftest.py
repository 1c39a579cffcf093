"""Scripts of experiments/benchmarks, to be imported by their names."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(__file__).parents[2] / "experiments" / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    return folder
