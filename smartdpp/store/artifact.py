"""Artifacts: directories that are either finished or redone.

``store/<stage>/<key>/`` holds what a stage left. The key hashes everything that decides its content, so cells
of a sweep find each other's work. A build happens in ``<key>.partial/`` under a lock, ``meta.json`` is
written last and one rename publishes the directory: a kill at any moment leaves either nothing or something
to resume, and two processes never build the same thing twice. Under an address (smartdpp/store/remote.py) the
same happens in the working folder, and publishing is sending it there.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from smartdpp.errors import InputError
from smartdpp.logs.redact import redacted
from smartdpp.store import disk, remote
from smartdpp.store.disk import digest, disk_errors, read_json
from smartdpp.store.locks import Busy, lock
from smartdpp.store.record import measured, provenance
from smartdpp.store.remote import META

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """One stage's output, named before it exists.

    ``version`` is raised by hand when a stage's code changes what it writes; ``inputs`` maps names to other
    artifacts' keys.
    """

    root: Path
    stage: str
    version: int
    params: dict[str, Any]
    inputs: dict[str, str]

    @cached_property
    def key(self) -> str:
        return digest(
            {"stage": self.stage, "version": self.version, "params": self.params, "inputs": self.inputs}
        )

    @property
    def path(self) -> Path:
        return self.root / "store" / self.stage / self.key

    @property
    def finished(self) -> bool:
        return finished(self.path)

    def here(self) -> Path:
        """The finished directory, to read from: ``path``, with its files fetched first where another machine
        made them.

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
                f"{remote.shown(folder)}: {damage}. Its disk or a copy has damaged it: `python -m "
                "smartdpp.store verify "
                f"{remote.shown(self.root)}` removes what is damaged, and the same command then makes it "
                "again"
            )

    def meta(self) -> dict[str, Any]:
        return read_json(remote.file(self.path / META))

    def produce(self, build: Callable[[Path], dict[str, Any]]) -> bool:
        """Builds the directory unless it is finished; returns whether it was a hit. ``build`` gets a
        directory that keeps what an interrupted build left there, and returns facts for ``meta.json``."""
        record = {
            "stage": self.stage,
            "key": self.key,
            "version": self.version,
            "params": self.params,
            "inputs": self.inputs,
        }
        return publish(self.path, lambda partial: redacted(record | measured(build, partial) | provenance()))


def publish(path: Path, build: Callable[[Path], dict[str, Any]]) -> bool:
    """Makes ``path`` a finished directory, once, whoever asks: True if it already was. A damaged one is told,
    removed and made again."""
    if finished(path):
        return True
    with disk_errors(path), lock(path) as still_held:
        if finished(path):
            return True
        if remote.address(path) is None or disk.damage(path):  # else it is where a sending was interrupted
            _clear(path)
            _build(path, build)
        if not still_held():
            raise InputError(
                f"another machine took over {remote.shown(path)}, as nothing was heard of this one; give "
                "the command again"
            )
        remote.send(path)
        return False


def finished(path: Path) -> bool:
    """Whether this directory was published and, where it is a folder of this machine, holds files of the
    sizes recorded."""
    if remote.address(path) is not None:
        return remote.exists(path / META)
    try:
        return (path / META).is_file() and disk.damage(path) is None
    except OSError as error:
        raise InputError(
            f"{disk.unreadable(error, path)}; nothing was removed: mend the access and give the command again"
        ) from error


def has_record(folder: Path) -> bool:
    """Whether the files' sizes and hashes were recorded when it was made, as they are since there are
    records."""
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
    """The build's record. What an interrupted build has left may be damaged, or of another version, in ways
    that no check knows: if the build fails on it before it has written anything, it is tried once more
    without; and if it fails then too, all is as it was."""
    left = _state(partial)
    try:
        return build(partial)
    except Exception as error:
        if not left or _state(partial) != left or not _of_damage(error, partial):
            raise
        said = f"{type(error).__name__}: {error}"
        log.warning(
            "what an interrupted build left in %s cannot be gone on from (%s): starting afresh",
            remote.shown(partial),
            said,
        )
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
    """Whether an error can come of what was left in ``partial``. A full device or a lost connection passes,
    and costs nothing done."""
    if isinstance(error, (InputError, Busy)):
        return False
    if isinstance(error, FileNotFoundError):
        return str(error.filename).startswith(str(partial))
    # torch's own readers raise it, and so does all that goes wrong on a device
    if isinstance(error, RuntimeError):
        return (
            re.search(r"PytorchStreamReader|zip archive|corrupt|size mismatch|loading state_dict", str(error))
            is not None
        )
    of_content = (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError)
    return isinstance(error, of_content) or type(error).__name__ in (
        "SafetensorError",
        "UnpicklingError",
        "BadZipFile",
    )


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (stat.st_size, stat.st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and (stat := path.stat())
    }


def _clear(path: Path) -> None:
    """Removes what lies where a finished directory belongs and is none."""
    if not path.exists():
        return
    log.warning("%s is damaged (%s): it is made again", remote.shown(path), disk.damage(path) or "no folder")
    remove(path)


def remove(path: Path) -> None:
    """A finished directory, or what lies in its place; its name is free at once, whatever a kill leaves of
    it."""
    gone = path.with_name(f".{path.name}.removed-{os.getpid()}")
    path.rename(gone)
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
