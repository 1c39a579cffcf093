"""Dose and response in a report: a number that was swept, its trend in each line and between them."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import finished_run
from test_report import lines, report, section

from smartdpp.report import main

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("undrawn")]
TENTHS = (1, 4, 7, 10)


def tenths(root: Path, seeds: int = 5, slopes: dict[str, float] | None = None) -> None:
    """Worlds that differ by far more than their tenths do."""
    rng = np.random.default_rng(1)
    for embedding, slope in (slopes or {"minilm": 0.0, "gradient": 0.1}).items():
        for seed in range(seeds):
            for tenth in TENTHS:
                finished_run(
                    root,
                    f"{embedding}-{tenth}-s{seed}",
                    strategy="decile",
                    seed=seed,
                    loss=2 + seed + slope * tenth + rng.normal(0, 0.02),
                    names={"embedding": embedding},
                    config={"strategy": {"decile": tenth}},
                )


def told(root: Path) -> str:
    assert main([str(root / "runs"), "--out", str(root / "out")]) == 0
    return section(report(root / "out"), "Trend along")


@pytest.mark.drawn
def test_each_lines_trend_and_what_is_between_them(tmp_path: Path) -> None:
    tenths(tmp_path)
    text = told(tmp_path)
    assert text.startswith("## Trend along decile")
    alone, apart = text.index("| line "), text.rindex("| line ")
    rows = {row["line"]: row for row in lines(text[alone:apart])}
    gradient, minilm = rows["decile, gradient"], rows["decile, minilm"]
    assert (gradient["seeds"], gradient["values"]) == ("5", "4")
    mean, half = map(float, gradient["Δ per 1 of decile"].split(" ± "))
    assert abs(mean - 0.1) < half < 0.03, "what makes a world hard cancels"
    assert float(gradient["Δ from 1 to 10"].split(" ± ")[0]) == pytest.approx(9 * mean, abs=1e-3)
    assert gradient["Spearman ρ"] == "+1.00"
    assert gradient["reading"] == "worse as decile rises"
    assert minilm["reading"].startswith("no trend shown; ")
    (between,) = lines(text[apart:])
    assert between["line"] in (
        "decile, gradient minus decile, minilm",
        "decile, minilm minus decile, gradient",
    )
    assert between["reading"] == (
        "rises faster, or falls more slowly"
        if between["line"].startswith("decile, gradient")
        else "rises more slowly, or falls faster"
    )


def test_a_seed_that_lacks_a_value_is_left_out_and_counted(tmp_path: Path) -> None:
    tenths(tmp_path, seeds=6, slopes={"minilm": 0.1})
    (tmp_path / "runs" / "minilm-4-s3" / "result.json").unlink()
    text = told(tmp_path)
    (row,) = lines(text)
    assert row["seeds"] == "5"
    assert "is missing: 1 of 6 worlds." in text


def test_a_line_without_any_whole_world_is_named(tmp_path: Path) -> None:
    tenths(tmp_path)
    for seed in range(5):
        (tmp_path / "runs" / f"minilm-{4 if seed else 7}-s{seed}" / "result.json").unlink()
    text = told(tmp_path)
    assert [row["line"] for row in lines(text)] == ["decile, gradient"]
    assert "is missing: 5 of 10 worlds, all of decile, minilm." in text
    for seed in range(5):
        (tmp_path / "runs" / f"gradient-{4 if seed else 7}-s{seed}" / "result.json").unlink()
    text = told(tmp_path)
    assert not lines(text)
    assert "10 of 10 worlds" in text


def test_nothing_is_claimed_from_four_worlds(tmp_path: Path) -> None:
    tenths(tmp_path, seeds=4)
    rows = lines(told(tmp_path))
    assert rows[0]["reading"] == "no claim from 4 seeds: it needs 5"
    assert rows[0]["p"] == ""


def test_a_wide_sweep_is_told_per_doubling_and_two_values_are_no_trend(tmp_path: Path) -> None:
    for budget in (10, 40, 160):
        for seed in range(5):
            loss = 3 - 0.1 * np.log2(budget) + seed + 0.01 * seed * (budget == 40)
            finished_run(tmp_path, f"smart-b{budget}-s{seed}", budget=budget, seed=seed, loss=loss)
    text = told(tmp_path)
    (row,) = lines(text)
    assert text.startswith("## Trend along budget")
    assert row["Δ per doubling"].startswith("-0.1000")
    assert row["reading"] == "better as budget rises"
    for seed in range(5):
        (tmp_path / "runs" / f"smart-b160-s{seed}" / "result.json").unlink()
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    assert "Trend along" not in report(tmp_path / "out")
