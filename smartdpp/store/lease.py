"""Locks between machines: a file at an address, made by whoever comes first and renewed for as long as its
holder lives.

No operating system lets go of such a file when its holder dies. So the holder renews it every BEAT seconds,
and one that was silent for STALE seconds loses it to the next who asks; a machine takes its own back at once,
as its local lock tells that no process of it lives. Clocks of the machines must agree to within some minutes.
Should two hold one lock after all, work is done twice and nothing worse: a holder looks whether the lock is
still its own before it publishes.

The file is made by exclusive creation. A filesystem that does not refuse to create what is there, found out
by trying, gets a substitute: write, wait SETTLE seconds, and see whose name stayed.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from smartdpp.store.remote import make_parents, opened, reached, state_dir

log = logging.getLogger(__name__)

BEAT = 30.0  # seconds
STALE = 600.0
POLL = 5.0
REMIND = 300.0  # between two words of whoever waits
SETTLE = 1.0  # longer than a request takes

_exclusive: dict[str, bool] = {}  # by filesystem and bucket


@dataclass(frozen=True)
class Lease:
    """A lock held by this machine; ``address`` is of the folder that it is about."""

    address: str
    machine: str
    token: str
    since: float = field(default_factory=time.time)

    def mine(self) -> bool:
        """False after another machine has taken over."""
        return (holder(self.address) or {}).get("token") == self.token

    def claim(self) -> bytes:
        claim = {
            "token": self.token,
            "machine": self.machine,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        return json.dumps(claim | {"since": self.since, "beat": time.time()}).encode()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renews the lock meanwhile, and lets go of it at the end."""
        done = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(done,), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            done.set()
            renewing.join()
            with reached(self.address):
                if self.mine():
                    fs, at = _file(self.address)
                    fs.rm_file(at)

    def _renew(self, done: threading.Event) -> None:
        while not done.wait(BEAT):
            try:
                if not self.mine():
                    return
                fs, at = _file(self.address)
                fs.pipe_file(at, self.claim())
            except Exception as error:  # an outage; many beats remain before the lock is stale
                log.warning("the lock of %s could not be renewed, trying again: %s", self.address, error)


def acquire(address: str, *, wait: bool) -> Lease | None:
    """For the process that holds the local lock of the address's working folder. None if another machine has
    it and not ``wait``."""
    lease = Lease(address, machine(), uuid.uuid4().hex)
    seen, since, told = None, time.monotonic(), float("-inf")
    with reached(address):
        while not _create(lease):
            claim = holder(address)
            if claim is None:  # let go meanwhile
                continue
            if claim != seen:
                seen, since = claim, time.monotonic()
            if claim.get("machine") == lease.machine or stale(claim) or time.monotonic() - since > STALE:
                if _take_over(lease, claim):
                    break
            elif not wait:
                return None
            else:
                if time.monotonic() - told >= REMIND:
                    told = time.monotonic()
                    log.info(
                        "waiting: %s is working on %s; if it is silent for %.0f min, it loses it",
                        said(claim),
                        address,
                        STALE / 60,
                    )
                time.sleep(POLL)
    return lease


def busy(address: str) -> bool:
    """Whether some machine holds the lock. Asking changes nothing."""
    claim = holder(address)
    return claim is not None and not stale(claim)


def holder(address: str) -> dict[str, Any] | None:
    """What the lock's file says; empty while it is being written, None without one."""
    with reached(address):
        fs, at = _file(address)
        for _ in range(3):  # a file that is just being written is whole soon after
            try:
                found = json.loads(fs.cat_file(at))
                return found if isinstance(found, dict) else {}
            except FileNotFoundError:
                return None
            except ValueError:
                time.sleep(0.01)
        return {}


def said(claim: dict[str, Any], unknown: str = "another machine") -> str:
    """Who holds a lock and since when: ``process 12 on node7, since 2026-01-31 14:05 (2 h 10 min),``."""
    if not isinstance(claim.get("since"), (int, float)):
        return str(claim.get("host", unknown))
    minutes = max(0, int(time.time() - claim["since"])) // 60
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(claim["since"]))
    return (
        f"process {claim.get('pid')} on {claim.get('host')}, since {begun} ({minutes // 60} h "
        f"{minutes % 60} min),"
    )


def stale(claim: dict[str, Any]) -> bool:
    return "beat" in claim and time.time() - claim["beat"] > STALE


@cache
def _named(where: Path) -> str:
    """A name of this machine, which its host's name alone is not; made on the first call."""
    where.parent.mkdir(parents=True, exist_ok=True)
    if not where.is_file():
        made = where.with_name(f".{where.name}.{uuid.uuid4().hex}")
        made.write_text(uuid.uuid4().hex, encoding="utf-8")
        try:
            os.link(made, where)  # unless another process was quicker
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return f"{socket.gethostname()}-{where.read_text(encoding='utf-8')}"


def machine() -> str:
    return _named(state_dir() / "machine")


def _file(address: str) -> tuple[Any, str]:
    return _beside(address, "lock")


def _beside(address: str, suffix: str) -> tuple[Any, str]:
    folder, _, name = address.rpartition("/")
    return opened(f"{folder}/.{name}.{suffix}")


def _create(lease: Lease) -> bool:
    fs, at = _file(lease.address)
    if _refuses_twice(lease.address):
        return _made(fs, at, lease.claim())
    if fs.exists(at):
        return False
    fs.pipe_file(at, lease.claim())
    time.sleep(SETTLE)
    return lease.mine()


def _made(fs: Any, at: str, content: bytes) -> bool:
    """Whether this created the file; False if it was there."""
    make_parents(fs, [at])
    try:
        with fs.open(at, "xb") as file:
            file.write(content)
    except Exception:  # each driver has its own for this; if the file is not there, it meant something else
        if fs.exists(at):
            return False
        raise
    return True


def _refuses_twice(address: str) -> bool:
    """Whether this filesystem refuses to create what is there: asked once of each, as some that take the
    request ignore it."""
    where = "/".join(address.split("/")[:3])
    if where not in _exclusive:
        fs, at = _beside(address, uuid.uuid4().hex)
        try:
            _exclusive[where] = _made(fs, at, b"first") and not _made(fs, at, b"second")
        except (NotImplementedError, ValueError):  # it has no such mode
            _exclusive[where] = False
        finally:
            if fs.exists(at):
                fs.rm_file(at)
    return _exclusive[where]


def _take_over(lease: Lease, of: dict[str, Any]) -> bool:
    """False if another was quicker. Two who delete the same lock at once find out by looking again after a
    while."""
    log.info("taking over %s from %s, which has stopped", lease.address, of.get("host", "another machine"))
    fs, at = _file(lease.address)
    try:
        if holder(lease.address) == of:
            fs.rm_file(at)
    except FileNotFoundError:
        return False
    if not _create(lease):
        return False
    time.sleep(SETTLE)
    return lease.mine()
