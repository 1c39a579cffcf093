"""Who works on a path: one process of one machine, or of all machines that share a root."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from smartdpp.store import disk, lease, remote
from smartdpp.store.disk import digest
from smartdpp.store.disk import file_hash as file_hash

log = logging.getLogger(__name__)


@contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[Callable[[], bool]]:
    """Holds ``path`` for this process; the operating system lets go when the process dies. Raises Busy if
    another has it and not wait.

    Under an address other machines are kept out too, by a lease; the function it yields tells whether that
    still holds.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    where, at = remote.address(path) or _leased(path), path.with_name(f".{path.name}.lock")
    if where and not remote.address(path):  # this machine's processes keep each other out where it has locks
        at = Path(tempfile.gettempdir()) / f"smartdpp-{digest([lease.machine(), where])}.lock"
    held = FileLock(at)
    try:
        held.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise Busy(path) from None
        _wait(held, at, path)
    try:
        if where is None:
            at.write_text(
                json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}),
                encoding="utf-8",
            )
            yield lambda: True
        elif (leased := lease.acquire(where, wait=wait)) is None:
            raise Busy(path)
        else:
            with leased.kept():
                yield leased.mine
    finally:
        held.release()


def _wait(held: Any, at: Path, path: Path) -> None:
    """Until the lock is free, saying now and then who has it and since when."""
    from filelock import Timeout

    while True:
        holder: Any = None
        with suppress(OSError):  # another user's may not be read
            holder = disk.read_object(at)
        who = lease.said(holder if isinstance(holder, dict) else {}, "another process")
        log.info(
            "waiting: %s is working on %s; this goes on when it has finished or is stopped",
            who,
            remote.shown(path),
        )
        try:
            held.acquire(timeout=lease.REMIND)
            return
        except Timeout:
            continue


def _leased(path: Path) -> str | None:
    """The address that locks ``path`` by a lease, where its filesystem has no locks of its own."""
    folder = path.absolute().parent
    if not folder.is_dir() or _has_locks(folder, folder.stat().st_dev):
        return None
    return f"file://{path.absolute()}"


@cache
def _has_locks(folder: Path, device: int) -> bool:
    import fcntl

    probe = folder / f".smartdpp-{uuid.uuid4().hex}"
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        log.warning(
            "the filesystem of %s has no locks (%s): files that are renewed every %.0f s stand for them",
            folder,
            error.strerror,
            lease.BEAT,
        )
        return False
    finally:
        os.close(descriptor)
        probe.unlink()
    return True


def busy(path: Path) -> bool:
    """Whether a process holds ``path``. PermissionError if its lock cannot be tried."""
    if (where := remote.address(path) or _leased(path)) is not None:
        return lease.busy(where)
    try:
        with lock(path, wait=False):
            return False
    except Busy:
        return True


class Busy(Exception):
    """Another process holds this path."""
