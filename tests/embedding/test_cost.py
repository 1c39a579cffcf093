"""The plan's estimate comes from a measured rate, or says that there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smartdpp.embedding.cost import estimate, measured_rate
from smartdpp.pipeline import Run, execute
from smartdpp.store import provenance, write_json

PARAMS = {"_target_": "smartdpp.embedding.gradient.Gradient", "model": {"name": "m"}, "dim": 4096, "store": "float16"}


def measured(root: Path, key: str, params: dict, tokens: int, seconds: float, machine: str | None = None) -> None:
    folder = root / "store" / "embedding" / key
    folder.mkdir(parents=True)
    facts = {"tokens": tokens, "seconds": seconds}
    write_json(folder / "meta.json", {"params": params, "facts": facts, "machine": machine or provenance()["machine"]})


def test_the_rate_is_of_the_same_work_on_the_same_machine(tmp_path: Path) -> None:
    measured(tmp_path, "a", PARAMS | {"model": {"name": "larger"}}, 10, 1.0)
    measured(tmp_path, "b", PARAMS, 30, 1.0, machine="another, 64 cores")
    measured(tmp_path, "c", PARAMS, 0, 0.1)  # everything was resumed
    assert measured_rate(tmp_path, PARAMS) is None
    assert estimate(tmp_path, PARAMS, 1000, 90_000) == "90,000 tokens, time unknown until it was measured here once, 8.2 MB on disk"
    measured(tmp_path, "d", PARAMS | {"dim": 64}, 4500, 10.0)
    assert "about 200 s at 450 tokens/s measured here" in estimate(tmp_path, PARAMS, 1000, 90_000)


def test_a_run_selects_on_gradients_and_plans_the_next_by_their_cost(
    small_run: Callable[..., Run], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    options = ["embedding=gradient", "strategy=dpp"]
    run = small_run(*options, "embedding.dim=32", "until=mixture")
    execute(run)
    assert np.load(run.embedding.path / "X.npy").shape == (run.corpus.meta()["facts"]["n_pool"], 32)
    assert (run.mixture.path / "mixture.jsonl").is_file()
    capsys.readouterr()
    execute(small_run(*options, "embedding.dim=64", "until=plan"))
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "tokens/s measured" in told


def test_processes_are_how_not_what(small_run: Callable[..., Run]) -> None:
    one, two = (small_run("embedding=gradient", f"embedding.processes={n}") for n in (1, 2))
    assert one.embedding.key == two.embedding.key
    assert one.slug == two.slug
    assert replace(one.parts.embedding, processes=2) == two.parts.embedding
