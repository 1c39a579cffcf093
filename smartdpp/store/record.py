"""What making an artifact took, and what made it: seconds, memory, energy; versions, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from smartdpp.store.disk import digest
from smartdpp.store.disk import file_hash as file_hash
from smartdpp.store.energy import gpu_watt_hours


def measured(build: Callable[[Path], dict[str, Any]], partial: Path) -> dict[str, Any]:
    """The build's facts with its wall-clock seconds, the resident memory of this process at its start and
    peak, and what GPUs drew.

    A build that takes over what another has made (see `same`) says among its facts what that one has
    ``spent``: it stands for its own.
    """
    started, drawn = time.perf_counter(), gpu_watt_hours()
    with peak_memory() as peak:
        start = peak()
        facts = build(partial)
    spent = facts.pop("spent", {})
    gib = {name: round(held / 2**30, 3) for name, held in (("peak_gib", peak()), ("start_gib", start))}
    record = {"facts": facts, "seconds": round(time.perf_counter() - started, 3), **gib}
    if drawn is not None and (now := gpu_watt_hours()) is not None:
        record["energy_wh"] = round(now - drawn, 4)
    torch = sys.modules.get("torch")  # a stage that used a GPU has imported it
    if torch is not None and torch.cuda.is_available():
        record["peak_gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        torch.cuda.reset_peak_memory_stats()
    return record | spent


@contextmanager
def peak_memory(every: float = 0.05) -> Iterator[Callable[[], int]]:
    """Peak resident bytes by sampling: the system's own high-water mark cannot be reset between stages
    everywhere."""
    import psutil

    process, stop, seen = psutil.Process(), threading.Event(), [0]

    def sample() -> None:
        while not stop.wait(every):
            seen[0] = max(seen[0], process.memory_info().rss)

    watcher = threading.Thread(target=sample, daemon=True)
    seen[0] = process.memory_info().rss
    watcher.start()
    try:
        yield lambda: seen[0]
    finally:
        stop.set()
        watcher.join()


@cache
def provenance() -> dict[str, Any]:
    """What made it: package versions, the machine, and the code's commit with a hash of uncommitted
    changes."""
    packages = (
        "smartdpp",
        "torch",
        "transformers",
        "peft",
        "trl",
        "datasets",
        "lm_eval",
        "sentence-transformers",
        "numpy",
    )
    return {
        "packages": {name: _version(name) for name in packages},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **_git(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any]:
    def git(*args: str) -> str | None:
        try:
            command = ["git", "-C", str(Path(__file__).parent), *args]
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = git("rev-parse", "HEAD"), git("diff", "HEAD")
    return {"commit": commit, "uncommitted": digest(changes) if changes else None}
