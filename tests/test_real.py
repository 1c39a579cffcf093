"""The first command of the README with fewer documents, on the real model, the real encoder and real tasks.
Minutes, so marked ``real``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smartdpp.store.disk import read_json

ROOT = Path(__file__).parents[1]


@pytest.mark.real
@pytest.mark.timeout(1200)
def test_the_default_run_gets_better_at_tasks_it_was_never_trained_on(tmp_path: Path) -> None:
    # the user's own model cache
    environment = {name: value for name, value in os.environ.items() if name != "SMARTDPP_CACHE"}

    def run() -> tuple[str, float]:
        started = time.perf_counter()
        # of 25 and 2 documents a task and answers of 32 tokens: scoring would be half of it
        fewer = ["evaluation.of.heldout.limit=5", "evaluation.of.indomain.per_task=1"]
        fewer += [f"evaluation.of.{part}.max_new_tokens=8" for part in ("heldout", "indomain")]
        command = [sys.executable, "run.py", f"root={tmp_path}", *fewer]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1100
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, time.perf_counter() - started

    said, first = run()
    (path,) = (tmp_path / "runs").glob("[!.]*/result.json")
    row = read_json(path)
    assert row["n"] == 230
    assert row["loss"] < row["loss_base"]
    assert row["loss_change_high"] < 0, "the whole interval of the change lies below zero"
    assert len([name for name in row if name.startswith("loss/")]) == 8
    assert row["indomain/documents"] == row["tasks_in_pool"] == 41
    assert all(
        name in said for name in ("syllogism", "log determinant distance", "mixture by smart", "peak memory")
    )
    again, second = run()
    assert "finished before" in again
    assert second < first / 4
    print(f"first run {first:.0f} s, again {second:.1f} s; loss {row['loss_base']:.3f} -> {row['loss']:.3f}")
