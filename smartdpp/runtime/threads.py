"""A machine's cores, shared out among the processes that work on it at once.

Every library here starts as many threads as there are cores, and two processes that both do so wait for each
other at every barrier: two terminals that share a sweep on two cores took longer for it than one. So a
process that works says so, by a lock that the operating system frees when it ends, and takes its share of the
cores while others do too. Who has set OMP_NUM_THREADS has decided: that holds.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from smartdpp.store.place import machine_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)
T = TypeVar("T")
LOOK = 2.0  # seconds between looks at who else works
DECIDED = "OMP_NUM_THREADS" in os.environ  # by the user, or by the process that launched this one


class Sharing:
    """What this process knows: its own lock while it works, when it last looked, and the threads that it has
    set."""

    held: BaseFileLock | None = None
    looked = -LOOK
    threads: int | None = None


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share() -> int:
    """The threads that this process may use now."""
    return Sharing.threads or cores()


def working(work: Callable[..., T], *arguments: object) -> T:
    """``work(*arguments)``, counted among what works on this machine meanwhile."""
    if DECIDED or Sharing.held is not None:
        return work(*arguments)
    from filelock import FileLock

    Sharing.held = FileLock(_folder() / f"{os.getpid()}.lock")
    Sharing.held.acquire()
    try:
        settle(now=True)
        return work(*arguments)
    finally:
        os.environ.pop("OMP_NUM_THREADS", None)
        Sharing.held.release()
        (_folder() / f"{os.getpid()}.lock").unlink(missing_ok=True)
        Sharing.held = None


def settle(*, now: bool = False) -> None:
    """Takes this process's share of the cores. Cheap: long work calls it between its steps, and it looks
    every few seconds."""
    if Sharing.held is None or not (now or time.monotonic() - Sharing.looked > LOOK):
        return
    Sharing.looked = time.monotonic()
    others = sorted({os.getpid(), *_working()})
    share, rest = divmod(cores(), len(others))
    wanted = max(1, share + (others.index(os.getpid()) < rest))
    if len(others) > 1 and wanted != Sharing.threads:
        log.info(
            "%d processes of smartdpp work on this machine: this one takes %d of %d cores",
            len(others),
            wanted,
            cores(),
        )
    _use(wanted)


def _use(threads: int) -> None:
    """In what is loaded, now or later, for the thread that calls this: OpenMP's number is of each thread."""
    from threadpoolctl import threadpool_limits

    Sharing.threads = threads
    threadpool_limits(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by what this work is the first to import
    # before torch, whose number it would change where both use one OpenMP
    if (numba := sys.modules.get("numba")) is not None:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def _working() -> list[int]:
    """Process numbers of those that hold their lock; what a killed process has left is cleared away."""
    from filelock import FileLock, Timeout

    found = []
    for path in _folder().glob("*.lock"):
        if path.stem == str(os.getpid()):
            continue
        try:
            with FileLock(path).acquire(timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            found.append(int(path.stem))
        except OSError:  # gone meanwhile
            continue
    return found


def _folder() -> Path:
    return machine_folder("threads")
