"""Whether a GPU gives what the processor gives, and how much sooner: one table of everything that uses one.

    python experiments/benchmarks/gpu.py [--minutes 20] [--only lora,scoring]

Without a GPU it says so and measures nothing; ``--device cpu --model tiny`` runs all of it on the processor,
against itself. Each side is a process of its own, the device's first; what the minutes do not suffice for is
named in the table, which goes to experiments/results/benchmarks/gpu.md. The exit status is 1 where an answer
is wrong or a check failed. Needs the extras ``gpu`` and ``qlora`` for energy and QLoRA.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from gpu_checks import CHECKS, Given, Numbers, Verdict, measure

ROOT = Path(__file__).parents[2]
OUT = ROOT / "experiments" / "results" / "benchmarks" / "gpu.md"
SIZES = {
    "smollm2": {"rows": 48, "documents": 24, "points": 20_000},
    "tiny": {"rows": 16, "documents": 4, "points": 300},
}


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="held against the processor"
    )
    parser.add_argument("--model", choices=list(SIZES), default="smollm2")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--only", default=",".join(CHECKS), help="checks, with commas: all of them")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if unknown := set(asked.only.split(",")) - CHECKS.keys():
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    return asked


def side(names: list[str], given: Given, folder: Path, seconds: float) -> None:
    """All checks on one device, in a process that sees no other; what is not done in time is not there."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    if given.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    one = json.dumps({"given": asdict(given), "out": str(folder), "names": names})
    try:
        subprocess.run([sys.executable, __file__, "--one", one], env=env, timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"{given.device}: stopped after {seconds / 60:.0f} minutes", file=sys.stderr)


def found(folder: Path, name: str) -> Numbers | str:
    """A check's numbers, or why there are none."""
    if (folder / f"{name}.npz").is_file():
        with np.load(folder / f"{name}.npz") as file:
            return dict(file)
    reason = folder / f"{name}.txt"
    return reason.read_text(encoding="utf-8") if reason.is_file() else "not reached in the time given"


def line(name: str, here: Path, there: Path) -> tuple[str, bool]:
    """A line of the table, and whether nothing is wrong."""
    check, b = CHECKS[name], found(there, name)
    a: Numbers | str = {"seconds": np.array(0.0)} if check.alone else found(here, check.beside or name)
    if isinstance(b, str):
        return f"| {check.what} | {b} | | | |", not b.startswith("FAILED")
    if isinstance(a, str):
        return f"| {check.what} | on the processor {a} | | | |", not a.startswith("FAILED")
    verdict: Verdict = check.judge(a, b)
    slow, fast = float(a["seconds"]), float(b["seconds"])
    times = f"{slow:.2f} | {fast:.2f} | {slow / fast:.1f}" if slow and fast else f" | {fast:.2f} | "
    said = "right" if verdict.right else "**WRONG**"
    return f"| {check.what} | {said}: {verdict.words} | {times} |", verdict.right


def machine(device: str) -> str:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = torch.cuda.get_device_name() if device == "cuda" else "the processor itself, to try the script"
    return f"{name}; beside it {platform.machine()}, {cores} cores. torch {torch.__version__}"


def main(arguments: Sequence[str] | None = None) -> int:
    asked = options(arguments)
    if asked.one:
        measure(asked.one["names"], Given(**asked.one["given"]), Path(asked.one["out"]))
        return 0
    import torch

    if asked.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing was measured (--device cpu --model tiny tries the script itself)")
        return 0
    names = [name for name in CHECKS if name in asked.only.split(",")]
    sizes: Any = SIZES[asked.model]
    end = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as folder:
        here, there = Path(folder) / "here", Path(folder) / "there"
        here.mkdir()
        there.mkdir()
        side(names, Given(asked.model, **sizes, device=asked.device), there, 30 * asked.minutes)
        needed = [name for name in CHECKS if name in {*names, *(CHECKS[n].beside for n in names)}]
        side(needed, Given(asked.model, **sizes, device="cpu"), here, end - time.monotonic())
        lines = [line(name, here, there) for name in names]
    text = "\n".join(
        [
            "# A GPU beside the processor",
            "",
            f"{asked.model}, {sizes['rows']} rows trained and read, {sizes['documents']} documents scored, "
            f"{sizes['points']:,} points chosen from; {machine(asked.device)}. Seconds are of the work "
            "itself, without loading, once; the processor computes in float32.",
            "",
            "| what | answers | s, processor | s, GPU | times as fast |",
            "|---|---|---:|---:|---:|",
            *(text for text, _ in lines),
            "",
        ]
    )
    print(text)
    asked.out.write_text(text, encoding="utf-8")
    return 0 if all(right for _, right in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
