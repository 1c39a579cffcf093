"""experiments/benchmarks/pilots.py: how often a pilot is right, on few made-up cells."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np


def losses(file: Path, worlds: int, gain: float) -> Path:
    """Two tasks of six documents in each world; the targeted way gains so much on every token."""
    rng, lines = np.random.default_rng(0), ["task,id,setting,seed,tokens,untrained,random,targeted,dpp"]
    for seed in range(worlds):
        noise = rng.normal(0, 0.05, 3)
        for i in range(12):
            nll = 10 * (2 + rng.normal(0, 0.1) + noise - np.array([0, gain, 0]))
            lines.append(f"t{i % 2},{seed}-{i},needle,{seed},10,30," + ",".join(f"{v:.3f}" for v in nll))
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_large_gain_is_found_in_orders_of_its_worlds_and_none_where_it_is_taken_out(
    scripts: Path, tmp_path: Path
) -> None:
    pilots = importlib.import_module("pilots")
    page = tmp_path / "pilots.md"
    made = [f"--losses={losses(tmp_path / 'losses.csv', 8, 0.5)}", f"--out={page}", "--repetitions=20"]
    assert pilots.main(made) == 0
    lines = [line for line in page.read_text().splitlines() if line.startswith("| needle")]
    assert len(lines) == 4  # as it is and without its gain, measured and made
    for line in lines:
        right = re.search(r"\| (\d+) of (\d+) \(", line)
        assert right
        assert int(right[1]) >= 0.9 * int(right[2])


def test_too_few_worlds_are_said_to_be(scripts: Path, tmp_path: Path) -> None:
    pilots = importlib.import_module("pilots")
    found = pilots.worlds(losses(tmp_path / "losses.csv", 3, 0.5))
    assert "too few worlds" in pilots.of_measured(found, 10, 0.05)[1]
