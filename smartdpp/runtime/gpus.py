"""One GPU a worker: in a sweep, every process keeps the first GPUs that no other process of ours holds, and
sees only those.

A worker of a launcher and a terminal that shares a sweep are alike here: both are processes, and the
operating system frees their locks when they end. Where the processes see no more GPUs than one of them needs,
all share what there is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING

from smartdpp.errors import InputError
from smartdpp.store.place import machine_folder

if TYPE_CHECKING:
    from filelock import FileLock

held: dict[str, FileLock] = {}  # by device; for as long as the process lives


def claim(count: int = 1) -> None:
    """Makes this process hold ``count`` GPUs and hides the others from it. Before anything asks CUDA what
    there is.

    Raises InputError if fewer are free.
    """
    from filelock import FileLock, Timeout

    devices = visible()
    if len(devices) <= count or len(held) >= count:
        return
    folder = machine_folder("gpus")
    for device in devices:
        if device in held or len(held) == count:
            continue
        lock = FileLock(folder / f"{device.replace('/', '_')}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        held[device] = lock
    if len(held) < count:
        raise InputError(
            f"{len(devices)} GPUs are visible and other workers hold all but {len(held)}, where this one "
            f"needs {count}: "
            "start fewer workers (hydra.launcher.n_jobs=N, or fewer terminals)"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)


@cache
def visible() -> tuple[str, ...]:
    """The GPUs that this process was started with, by UUID where the driver tells it, so that terminals mean
    the same by a name."""
    uuids = _uuids()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(uuids.values())
    return tuple(uuids.get(name, name) for name in map(str.strip, chosen.split(",")) if name)


def _uuids() -> dict[str, str]:
    """Index to UUID of every GPU; empty where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return {}
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [line.split(", ") for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return {index: uuid for index, uuid in lines}
