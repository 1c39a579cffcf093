"""What several terminals on one machine do together: cells of one sweep an hour, in 1, 2 and 4 of them.

    python experiments/benchmarks/terminals.py [--cells 4] [--rounds 2] [OVERRIDE ...]

Every cell trains SmolLM2-135M on 24 rows and scores eight documents by loss; the mixture, the base model's
scores and all before them are made first and not timed. The numbers of terminals take turns. Counted are
cells that end after every terminal has ended its first (libraries are imported by then), up to the last.
Terminals beyond the machine's cores are left out. The table goes to
experiments/results/benchmarks/terminals.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUT = ROOT / "experiments" / "results" / "benchmarks" / "terminals.md"
CELL = (
    *("strategy=random", "budget=24", "diversity=none", "tracker=none"),
    *("evaluation=heldout", "evaluation.limit=1", "evaluation.generate=false"),
)
ENDED = re.compile(r"scores\s.*\[[\d.]+ s, ")  # the line of a stage that was made here


@dataclass
class Terminal:
    """One process that was given the sweep, and when each cell ended that it did itself."""

    process: subprocess.Popen[str]
    ended: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if ENDED.match(line):
                self.ended.append(time.perf_counter())
        if self.process.wait():
            raise SystemExit("".join(self.said[-20:]))


def opened(overrides: Sequence[str]) -> Terminal:
    decided = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    env = {name: value for name, value in os.environ.items() if name not in decided}
    env |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "run.py"), "-m", *CELL, *overrides]
    return Terminal(
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    )


def together(terminals: int, overrides: Sequence[str]) -> list[Terminal]:
    """Terminals with the same sweep, started at once; returns when all are done."""
    found = [opened(overrides) for _ in range(terminals)]
    listening = [threading.Thread(target=terminal.listen) for terminal in found]
    for thread in listening:
        thread.start()
    for thread in listening:
        thread.join()
    if any(terminal.process.returncode for terminal in found):
        raise SystemExit("a terminal failed: its last lines stand above")
    return found


def an_hour(terminals: Sequence[Terminal]) -> float:
    """Cells an hour, of all terminals, from when each has ended its first."""
    if not all(terminal.ended for terminal in terminals):
        raise SystemExit("a terminal found nothing to do: give more --cells")
    began = max(terminal.ended[0] for terminal in terminals)
    ends = [ended for terminal in terminals for ended in terminal.ended]
    cells = sum(ended > began for ended in ends)
    if not cells:
        raise SystemExit("all cells were done before every terminal had begun: give more --cells")
    return 3600 * cells / (max(ends) - began)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=4, help="cells for each terminal")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("overrides", nargs="*", help="of every cell, as for run.py")
    args = parser.parse_args(arguments)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counts = [n for n in (1, 2, 4) if n <= max(2, cores)]
    rates: dict[int, list[float]] = {n: [] for n in counts}
    with tempfile.TemporaryDirectory() as folder:
        given = [f"root={folder}", "select_seed=0", *args.overrides]
        together(1, [*given, "train_seed=0"])
        used = 1  # training seeds so far: each cell is trained once
        for turn in range(args.rounds):
            for n in counts if turn % 2 == 0 else reversed(counts):
                seeds = range(used, used := used + n * args.cells)
                rates[n].append(an_hour(together(n, [*given, f"train_seed={','.join(map(str, seeds))}"])))
                print(f"{n} terminals: {rates[n][-1]:.0f} cells an hour", file=sys.stderr)
    alone = statistics.median(rates[1])
    lines = "\n".join(
        f"| {n} | {statistics.median(found):.0f} | {min(found):.0f} to {max(found):.0f} | "
        f"{statistics.median(found) / alone:.2f} |"
        for n, found in rates.items()
    )
    text = f"""# Several terminals on one machine

Cells of one sweep an hour, in all terminals together, on {cores} cores ({platform.machine()}), in
{args.rounds} turns, by `python experiments/benchmarks/terminals.py`: its first lines say what a cell is
and what is counted.

| terminals | cells an hour (median) | least to most | beside one terminal |
|---:|---:|---:|---:|
{lines}

Processes that work at once share the cores out. Before they did, two terminals on two cores took 244 s for
the two cells that one did in 91 s.
"""
    if not args.overrides:
        OUT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
