"""Of judged runs a report says what the verdicts are worth, and the win rate against diversity with and
without length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr
from synthetic_runs import finished_run

from smartdpp.report import main
from smartdpp.report.judged import against_diversity, section
from smartdpp.study.results import collect


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Eight mixtures: the judge likes the diverse ones for their length alone."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(8):
        distance = 0.2 + 0.05 * seed
        found.append(
            finished_run(
                tmp_path,
                f"random-{seed}",
                strategy="random",
                seed=seed,
                curve=(0.1, 0.2, distance),
                mean_response_tokens=9 + rng.random(),
                win_rate=0.3 + distance + rng.normal(0, 0.01),
                lc_win_rate=0.5 + rng.normal(0, 0.05),
                judge_calls=80,
                judge_disagreement=0.25,
                judge_length_correlation=None,
                judge_mean_length=100.0 + seed,
            )
        )
    return found


def test_every_measure_stands_against_the_win_rate_with_and_without_length(runs: list[Path]) -> None:
    results = collect(runs)
    sections = against_diversity(results, (), ("win_rate", "lc_win_rate"))
    assert [one.title for one in sections] == [
        "Diversity against win rate",
        "Diversity against win rate at equal length",
    ]
    for one, name in zip(sections, ("win_rate", "lc_win_rate"), strict=True):
        frame = next(block.frame for block in one.blocks if hasattr(block, "frame"))
        line = frame[frame["measure"] == "log determinant distance"].iloc[0]
        r = pearsonr(results.table["ldd"], results.table[name]).statistic
        assert line["Pearson r"].startswith(f"{r:+.2f}")
    assert not against_diversity(results, ("nothing",), ("accuracy",))


def test_the_judges_bias_and_cost_are_means_over_runs(runs: list[Path]) -> None:
    (one,) = section(collect(runs))
    record = one.blocks[0].frame.iloc[0]
    assert (record["calls"], record["orders disagree"]) == ("80", "0.250")
    assert record["characters"].startswith("104 ± ")
    assert "r with length" not in record or record["r with length"] == ""


def test_a_report_has_both_and_one_without_a_judge_has_neither(runs: list[Path], tmp_path: Path) -> None:
    assert main([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## The judge" in text
    assert "## Diversity against win rate at equal length" in text
    plain = finished_run(tmp_path / "plain")
    assert main([str(plain), "--out", str(tmp_path / "none")]) == 0
    assert "judge" not in (tmp_path / "none" / "report.md").read_text()
