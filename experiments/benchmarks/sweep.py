"""What a sweep costs beside its training and scoring: its plan, what a cell takes, and its report.

    python experiments/benchmarks/sweep.py [--rounds 3]

Every measurement is a process of its own. The table goes to experiments/results/benchmarks/sweep.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUT = ROOT / "experiments" / "results" / "benchmarks" / "sweep.md"
PLAN = (
    *("-m", "until=plan", "seed=0,1,2", "budget=10,20,40,80,160"),
    "strategy=smart,dpp,random,equal,proportional,top,dedup,dpp_sample",
)
# a cell with next to no training and scoring: a model of 27 thousand parameters, one step, four documents
CELL = (
    *("embedding=tfidf", "embedding.dim=16", "embedding@probe=tfidf", "probe.dim=16", "model=tiny"),
    *(
        "evaluation=heldout",
        "evaluation.tasks=[even]",
        "evaluation.limit=4",
        "evaluation.max_new_tokens=4",
        "budget=16",
    ),
    *("recipe.batch_size=16", "tracker=none", "strategy=random"),
)
CELLS = 6
Measured = tuple[float, float]  # processor seconds and seconds


def measured(command: Sequence[str], folder: Path) -> Measured:
    """Of one process, from its start to its end."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    (folder / "said.txt").write_text(done.stdout, encoding="utf-8")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, seconds


def plan(folder: Path) -> Measured:
    found = measured([str(ROOT / "run.py"), *PLAN, f"root={folder}"], folder)
    assert "120 cells" in (folder / "said.txt").read_text(encoding="utf-8")
    return found


def start(folder: Path) -> Measured:
    return measured([str(ROOT / "run.py"), "until=plan", f"root={folder}"], folder)


def cell(folder: Path) -> Measured:
    """The median of a process's cells after its first."""
    draw = random.Random(0)
    rows = [
        {
            "task": task,
            "prompt": f"Is {draw.randrange(10**6)} {task}?",
            "response": draw.choice(("yes", "no")),
        }
        for task in ("even", "odd", "prime", "square")
        for _ in range(24)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    corpus = ("corpus=jsonl", f"corpus.path={folder / 'rows.jsonl'}", f"root={folder}")
    seeds = f"seed={','.join(map(str, range(CELLS)))}"
    measured([__file__, "--timed", "-m", *CELL, *corpus, seeds], folder)
    ends = json.loads((folder / "ends.json").read_text(encoding="utf-8"))
    assert len(ends) == CELLS
    apart = [[b - a for a, b in zip(one, other, strict=True)] for one, other in pairwise(ends)]
    processor, seconds = (statistics.median(column) for column in zip(*apart, strict=True))
    return processor, seconds


def timed(arguments: list[str]) -> None:
    """The command line, with the times at which each of its cells ends."""
    from smartdpp import main

    ends, whole = [], main.cell

    def noted(cfg: object) -> float | None:
        score = whole(cfg)  # type: ignore[arg-type]
        ends.append((time.process_time(), time.perf_counter()))
        return score

    noted.__module__, noted.__wrapped__ = whole.__module__, whole  # type: ignore[attr-defined]
    main.cell, sys.argv = noted, ["run.py", *arguments]
    main.main()
    Path("ends.json").write_text(json.dumps(ends), encoding="utf-8")


def report(folder: Path) -> Measured:
    """Of made-up runs, as tests make them: nine pairs of functions and a baseline, 200 runs."""
    sys.path.insert(0, str(ROOT))
    from tests.synthetic_runs import crossed_study

    crossed_study(folder, seeds=5)
    assert len(list((folder / "runs").iterdir())) == 200
    return measured(["-m", "smartdpp.report", str(folder / "runs"), "--out", str(folder / "out")], folder)


def missing(folder: Path) -> Measured:
    """Of a study none of whose cells has run: what finding out costs which they are."""
    study = str(ROOT / "experiments" / "quickstart.yaml")
    functions = "graph_cut,facility_location,logdet"
    cells = ["strategy=smart", "budget=24,72", f"seed={','.join(map(str, range(11)))}"]
    cells += [f"function@strategy.{part}={functions}" for part in ("tasks", "instances")]
    return measured(["-m", "smartdpp.report", study, *cells, f"root={folder}", "--out", str(folder)], folder)


WHAT: dict[str, Callable[[Path], Measured]] = {
    "`until=plan` of one cell": start,
    "`until=plan` of 120 cells": plan,
    "a cell after the first, of a model of 27 thousand parameters: one step, four documents": cell,
    "report of 200 finished cells": report,
    "report of a study of 198 cells, none of them begun": missing,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found: dict[str, list[Measured]] = {what: [] for what in WHAT}
    for _ in range(rounds):
        for what, measure in WHAT.items():
            with tempfile.TemporaryDirectory() as folder:
                found[what].append(measure(Path(folder)))
            print(f"{what}: {found[what][-1][0]:.2f} s of the processor", file=sys.stderr)
    lines = "\n".join(
        f"| {what} | "
        + " | ".join(f"{statistics.median(column):.2f}" for column in zip(*times, strict=True))
        + " |"
        for what, times in found.items()
    )
    text = f"""# What a sweep costs beside its training and scoring

Medians of {rounds} on {os.cpu_count()} cores ({platform.machine()}), each a process of its own, by
`python experiments/benchmarks/sweep.py`.

| | processor seconds | seconds |
|---|---:|---:|
{lines}

Before the cells of a sweep shared what they have in common, the plan of 120 cells took 40 to 60 processor
seconds and was 120 tables.
"""
    OUT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    timed(sys.argv[2:]) if sys.argv[1:2] == ["--timed"] else main()
