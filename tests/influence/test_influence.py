"""Slices and subsets are ordinary runs, and what is said of them is what their numbers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from smartdpp.influence import cells
from smartdpp.influence.cells import Found, run
from smartdpp.influence.command import main, told


def cells_of(sign: float, n: int = 12) -> np.ndarray:
    near = np.linspace(0, 1, n)
    return np.column_stack([near, 3 - sign * near, 4 - sign * near])


def test_what_is_said_follows_the_sign_and_the_interval() -> None:
    page, *_ = told(Found(100, cells_of(1), cells_of(-1), "loss"))
    assert "slices: nearer, and better on unseen documents: they go together here, ρ = +1.00" in page
    assert "subsets: foreseen, and better on the query: the opposite holds here, ρ = -1.00" in page
    rng = np.random.default_rng(1)
    page, *_ = told(Found(100, rng.normal(size=(10, 3)), np.ones((5, 3)), "loss"))
    assert "not shown either way" in page
    assert "too few different values" in page


def test_slices_and_subsets_are_trained_told_and_found_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(cells, "DECILES", 3)
    settings = [
        "corpus=jsonl",
        f"corpus.path={corpus}",
        "embedding=tfidf",
        "embedding@probe=tfidf",
        "model=tiny",
        "evaluation.tasks=[parity]",
        "evaluation.limit=4",
        "evaluation.generate=false",
        "strategy.query.per_task=6",
        "tracker=none",
        f"root={tmp_path}",
    ]
    out = tmp_path / "out"
    assert main([*settings, "--subsets", "4", "--out", str(out)]) == 0
    page = (out / "influence.md").read_text()
    assert "a pool of 96 by mean cosine to the query, and 4 random subsets" in page
    for said in ("slices of 32 rows", "- embedding: tfidf", "before any training: "):
        assert said in page
    assert (out / "influence.png").stat().st_size > 1000
    trainings = pd.read_csv(out / "influence.csv")
    assert trainings["of"].tolist() == ["slice"] * 3 + ["subset"] * 4
    assert trainings["number"].tolist() == [1, 2, 3, 1, 2, 3, 4]
    monkeypatch.setattr(cells, "likelihood", None)  # what was read once is kept
    found = run(settings, 4, 0.5)
    assert found.slices.shape == (3, 3)
    assert found.subsets.shape == (4, 3)
    assert (np.diff(found.slices[:, 0]) < 0).all()
    assert np.isfinite(found.subsets).all()
    told_rows = trainings[["nearness", "loss_of_query", "loss"]].to_numpy()
    assert told_rows == pytest.approx(np.concatenate([found.slices, found.subsets]))
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 7
    capsys.readouterr()
    for wrong, said in (
        ([*settings, "budget=4"], "influence sets it by itself"),
        ([*settings, "strategy.decile=2"], "influence sets it by itself"),
        ([*settings, "--subsets", "2"], "wants 4 at least"),
        ([*settings, "evaluation=none"], "error"),
        ([*settings, "--share", "1"], "choose a share between 0 and 1"),
    ):
        assert main(wrong) == 1
        assert said in capsys.readouterr().err
