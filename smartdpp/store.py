"""Artifacts: directories that are either finished or redone.

``store/<stage>/<key>/`` holds what a stage left. The key hashes everything that decides its content, so cells of a sweep find
each other's work. A build happens in ``<key>.partial/`` under a lock, ``meta.json`` is written last and one rename publishes the
directory: a kill at any moment leaves either nothing or something to resume, and two processes never build the same thing twice.
Under an address (smartdpp/remote.py) the same happens in the working folder, and publishing is sending it there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from smartdpp import disk, lease, remote
from smartdpp.disk import file_hash as file_hash
from smartdpp.energy import gpu_watt_hours
from smartdpp.errors import InputError
from smartdpp.redact import redacted
from smartdpp.remote import META

log = logging.getLogger(__name__)

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def digest(value: Any) -> str:
    """Hash of a JSON value, the same in every process: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Artifact:
    """One stage's output, named before it exists.

    ``version`` is raised by hand when a stage's code changes what it writes; ``inputs`` maps names to other artifacts' keys.
    """

    root: Path
    stage: str
    version: int
    params: dict[str, Any]
    inputs: dict[str, str]

    @property
    def key(self) -> str:
        return digest({"stage": self.stage, "version": self.version, "params": self.params, "inputs": self.inputs})

    @property
    def path(self) -> Path:
        return self.root / "store" / self.stage / self.key

    @property
    def finished(self) -> bool:
        return finished(self.path)

    def here(self) -> Path:
        """The finished directory, to read from: ``path``, with its files fetched first where another machine made them.

        InputError if a file's content is no longer what was written; read once a process for that.
        """
        folder = remote.whole(self.path)
        damage = disk.damage(folder, whole=True) if has_record(folder) else None
        if damage and remote.address(self.path):  # it may be that of the copy here
            shutil.rmtree(folder)
            folder = remote.whole(self.path)
            damage = disk.damage(folder, whole=True)
        self._refuse(damage, folder)
        return folder

    def file(self, name: str) -> Path:
        """One file of the finished directory, to read from, as ``here``."""
        path, record = remote.file(self.path / name), self.meta().get("files") or {}
        if name not in record or not path.is_file():
            return path
        folder = path.parents[name.count("/")]
        damage = next(disk.changed(folder, {name: record[name]}), None)
        if damage and remote.address(self.path):
            path.unlink()
            path = remote.file(self.here() / name)
            damage = None
        self._refuse(damage, folder)
        return path

    def _refuse(self, damage: str | None, folder: Path) -> None:
        if damage:
            raise InputError(
                f"{remote.shown(folder)}: {damage}. Its disk or a copy has damaged it: `python -m smartdpp.store verify "
                f"{remote.shown(self.root)}` removes what is damaged, and the same command then makes it again"
            )

    def meta(self) -> dict[str, Any]:
        return read_json(remote.file(self.path / META))

    def produce(self, build: Callable[[Path], dict[str, Any]]) -> bool:
        """Builds the directory unless it is finished; returns whether it was a hit. ``build`` gets a directory that keeps what an
        interrupted build left there, and returns facts for ``meta.json``."""
        record = {"stage": self.stage, "key": self.key, "version": self.version, "params": self.params, "inputs": self.inputs}
        return publish(self.path, lambda partial: redacted(record | measured(build, partial) | provenance()))


def publish(path: Path, build: Callable[[Path], dict[str, Any]]) -> bool:
    """Makes ``path`` a finished directory, once, whoever asks: True if it already was. A damaged one is told, removed and made again."""
    if finished(path):
        return True
    with disk_errors(path), lock(path) as still_held:
        if finished(path):
            return True
        if remote.address(path) is None or disk.damage(path):  # else it is where a sending was interrupted
            _clear(path)
            _build(path, build)
        if not still_held():
            raise InputError(f"another machine took over {remote.shown(path)}, as nothing was heard of this one; give the command again")
        remote.send(path)
        return False


def finished(path: Path) -> bool:
    """Whether this directory was published and, where it is a folder of this machine, holds files of the sizes recorded."""
    if remote.address(path) is not None:
        return remote.exists(path / META)
    try:
        return (path / META).is_file() and disk.damage(path) is None
    except OSError as error:
        raise InputError(
            f"{error.filename or path} cannot be read ({error.strerror}); nothing was removed: mend the access and give the command again"
        ) from error


def has_record(folder: Path) -> bool:
    """Whether the files' sizes and hashes were recorded when it was made, as they are since there are records."""
    meta = disk.read_object(folder / META)
    return isinstance(meta, str) or "files" in meta


def _build(path: Path, build: Callable[[Path], dict[str, Any]]) -> None:
    partial, aside = path.with_name(path.name + ".partial"), path.with_name(path.name + ".aside")
    if partial.exists() and not partial.is_dir():
        partial.unlink()
    disk.make_folder(partial)
    record = _built(build, partial, aside)
    disk.close_folder(partial, record)
    disk.rename(partial, path)
    shutil.rmtree(aside, ignore_errors=True)


def _built(build: Callable[[Path], dict[str, Any]], partial: Path, aside: Path) -> dict[str, Any]:
    """The build's record. What an interrupted build has left may be damaged, or of another version, in ways that no check knows: if the
    build fails on it before it has written anything, it is tried once more without; and if it fails then too, all is as it was."""
    left = _state(partial)
    try:
        return build(partial)
    except Exception as error:
        if not left or _state(partial) != left or not _of_damage(error, partial):
            raise
        said = f"{type(error).__name__}: {error}"
        log.warning("what an interrupted build left in %s cannot be gone on from (%s): starting afresh", remote.shown(partial), said)
    shutil.rmtree(aside, ignore_errors=True)
    partial.rename(aside)
    partial.mkdir()
    try:
        return build(partial)
    except Exception:
        if not _state(partial):  # else what the second attempt has done is gone on from
            shutil.rmtree(partial)
            aside.rename(partial)
        raise


def _of_damage(error: Exception, partial: Path) -> bool:
    """Whether an error can come of what was left in ``partial``. A full device or a lost connection passes, and costs nothing done."""
    if isinstance(error, (InputError, Busy)):
        return False
    if isinstance(error, FileNotFoundError):
        return str(error.filename).startswith(str(partial))
    if isinstance(error, RuntimeError):  # torch's own readers raise it, and so does all that goes wrong on a device
        return re.search(r"PytorchStreamReader|zip archive|corrupt|size mismatch|loading state_dict", str(error)) is not None
    of_content = (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError)
    return isinstance(error, of_content) or type(error).__name__ in ("SafetensorError", "UnpicklingError", "BadZipFile")


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path in folder.rglob("*") if path.is_file() and (stat := path.stat())}


def _clear(path: Path) -> None:
    """Removes what lies where a finished directory belongs and is none."""
    if not path.exists():
        return
    log.warning("%s is damaged (%s): it is made again", remote.shown(path), disk.damage(path) or "no folder")
    remove(path)


def remove(path: Path) -> None:
    """A finished directory, or what lies in its place; its name is free at once, whatever a kill leaves of it."""
    gone = path.with_name(f".{path.name}.removed-{os.getpid()}")
    path.rename(gone)
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()


@contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[Callable[[], bool]]:
    """Holds ``path`` for this process; the operating system lets go when the process dies. Raises Busy if another has it and not wait.

    Under an address other machines are kept out too, by a lease; the function it yields tells whether that still holds.
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
            at.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}), encoding="utf-8")
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
        log.info("waiting: %s is working on %s; this goes on when it has finished or is stopped", who, remote.shown(path))
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
            "the filesystem of %s has no locks (%s): files that are renewed every %.0f s stand for them", folder, error.strerror, lease.BEAT
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


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A disk that cannot be written is the user's to mend, so it gets one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = error.filename or path
        raise InputError(f"cannot write {where}: {error.strerror}. Free space there or choose another folder with root=PATH") from error


def measured(build: Callable[[Path], dict[str, Any]], partial: Path) -> dict[str, Any]:
    """The build's facts with its wall-clock seconds, the resident memory of this process at its start and peak, and what GPUs drew.

    A build that takes over what another has made (smartdpp.same) says among its facts what that one has ``spent``: it stands for its own.
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
    """Peak resident bytes by sampling: the system's own high-water mark cannot be reset between stages everywhere."""
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
    """What made it: package versions, the machine, and the code's commit with a hash of uncommitted changes."""
    packages = ("smartdpp", "torch", "transformers", "peft", "trl", "datasets", "lm_eval", "sentence-transformers", "numpy")
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
            done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = git("rev-parse", "HEAD"), git("diff", "HEAD")
    return {"commit": commit, "uncommitted": digest(changes) if changes else None}


def write_json(path: Path, value: Any) -> None:
    """All or nothing: a reader never sees half a file, also after a power cut."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    disk.write_bytes(path, text.encode("utf-8"))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    from smartdpp.verify import main

    sys.exit(main())
