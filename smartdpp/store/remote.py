"""Roots that are no folder of this machine: any address that fsspec opens, as s3://bucket/study, gs://,
file:/// or memory://.

Stages read and write folders. So such a root has two on this machine, in the user's cache, and a path in them
says which address it is:

    remote/working/s3/bucket/study   what this machine makes, and the whole artifacts that its stages read
    remote/copies/s3/bucket/study single files that a plan, a summary or a report reads; of runs always as
    they are there now

What counts is what lies at the address. An artifact is there once its last file is, which is sent after all
others; an interrupted build goes on where its working folder is, and starts over on another machine. Both
folders can be deleted while nothing runs. Paths outside them are local folders, for which the functions below
do nothing.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from smartdpp.errors import InputError
from smartdpp.store import disk
from smartdpp.store.disk import META
from smartdpp.store.place import cache_dir

log = logging.getLogger(__name__)

# the last file of a run, as META is of an artifact, and what a failed run leaves
RESULT, ERROR = "result.json", "error.txt"
TRACKED = "tracked.json"  # where a finished run was mirrored to
OF_A_RUN = (RESULT, ERROR, TRACKED, "artifacts.json", ".hydra/config.yaml")  # what others read of one
REMOTE = "remote"  # the folder in the user's cache for what belongs to addresses
AT_TOP = "%2F"  # stands for the first slash of file:///data, which has no host


def folder(root: str) -> Path:
    """Where a root's files lie on this machine: the root itself, or the working folder of an address.
    InputError for ``..`` or a password in it."""
    protocol, is_address, rest = root.partition("://")
    if not is_address:
        return Path(os.path.expanduser(root))
    _refuse_password(protocol, rest)
    first, *others = rest.split("/")
    parts = [first, *(part for part in others if part)]
    if {".", ".."} & set(parts):
        raise InputError(f"root={root}: an address has no . or .. in it; write out where it leads")
    return _trees()[0].joinpath(protocol, *(quote(part, safe="") or AT_TOP for part in parts))


def _refuse_password(protocol: str, rest: str) -> None:
    if re.match(r"[^/]*:(?!\d{1,5}/)[^@]*@", rest):
        raise InputError(
            f"root={protocol}://...: the address holds a password, which would stand in every log; give it "
            "to the driver by its "
            "own configuration or environment"
        )


def address(path: Path) -> str | None:
    """What a path in the working or copied folders stands for; None for every other path."""
    here = path.absolute()
    if REMOTE not in here.parts:
        return None
    for tree in _trees():
        if here.is_relative_to(tree) and len(parts := here.relative_to(tree).parts) > 1:
            protocol, *others = parts
            return f"{protocol}://" + "/".join("" if part == AT_TOP else unquote(part) for part in others)
    return None


def shown(path: Path) -> str:
    """The address if the path has one, as it is written for people and into artifacts.json."""
    return address(path) or str(path)


@cache
def problems(root: str) -> tuple[str, ...]:
    """Why an address cannot serve as root, found by writing there; nothing for a folder. Asked once a
    process."""
    protocol, is_address, rest = root.partition("://")
    if not is_address:
        return ()
    if "::" in root:
        return (f"root={root}: chained addresses are not supported; give one, as s3://bucket/study",)
    try:
        _refuse_password(protocol, rest)
        fs, at = opened(root)
        make_parents(fs, [probe := f"{at}/.smartdpp-{uuid.uuid4().hex}"])
        fs.pipe_file(probe, b"can this be written?")
        fs.rm_file(probe)
    except InputError as error:
        return (str(error),)
    except ImportError as error:
        return (f"root={root}: {error} (install its driver with pip), or choose a folder with root=PATH",)
    except Exception as error:  # drivers raise what they like
        return (
            f"root={root}: this cannot be written ({type(error).__name__}: {error}); check the address and "
            "what its driver needs to "
            "log in, or choose another place with root=PATH",
        )
    return ()


def exists(path: Path) -> bool:
    """Whether there is this file: at the address, where the path has one."""
    if (where := address(path)) is None:
        return path.is_file()
    with reached(where):
        fs, at = opened(where)
        return bool(fs.exists(at))


def whole(artifact: Path) -> Path:
    """A finished artifact's folder with all its files here, fetched if they are not; published by one
    rename."""
    where = address(artifact)
    if where is None:
        return artifact
    from filelock import FileLock

    here = folder(where)
    here.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(here.with_name(f".{here.name}.fetch.lock")):
        if (here / META).is_file():
            if (damage := disk.damage(here)) is None:
                return here
            log.warning("%s is damaged (%s): it is fetched again", here, damage)
            shutil.rmtree(here)
        arriving = here.with_name(here.name + ".arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        with reached(where):
            fs, at = opened(where)
            names = _names(fs, at)
            for name in names:
                if not (arriving / name).resolve().is_relative_to(arriving.resolve()):
                    raise InputError(
                        f"{where} holds {name!r}, which would be written outside its folder: it is not to "
                        "be trusted"
                    )
                (arriving / name).parent.mkdir(parents=True, exist_ok=True)
            fs.get([f"{at}/{name}" for name in names], [str(arriving / name) for name in names])
        disk.sync_tree(arriving)
        disk.rename(arriving, here)
    return here


def file(path: Path) -> Path:
    """One file of a finished artifact, fetched if it is not here. Where there is none, the path that is
    returned does not exist."""
    where = address(path)
    if where is None:
        return path
    here = folder(where)
    if (here.parent / META).is_file():
        return here
    copy = _copy(where)
    if not copy.is_file() and exists(path):
        with reached(where):
            fs, at = opened(where)
            copy.parent.mkdir(parents=True, exist_ok=True)
            arriving = copy.with_name(f".{copy.name}.{uuid.uuid4().hex}")
            fs.get_file(at, str(arriving))
        disk.sync(arriving)
        disk.rename(arriving, copy)
    return copy


def runs(path: Path) -> Path:
    """A run's folder, or a folder of runs, as it is now: of an address a copy of what others read of a
    run."""
    where = address(path)
    if where is None:
        return path
    copy = _copy(where)
    with reached(where):
        fs, at = opened(where)
        names = {name for name in _names(fs, at) if _of_a_run(name)}
        found = fs.cat([f"{at}/{name}" for name in sorted(names)], on_error="return") if names else {}
        contents = {
            key.removeprefix(at + "/"): content
            for key, content in found.items()
            if not isinstance(content, FileNotFoundError)
        }
        if refused := [content for content in contents.values() if isinstance(content, Exception)]:
            raise refused[0]
    for old in [*copy.rglob("*")]:
        if old.is_file() and (name := old.relative_to(copy).as_posix()) not in contents and _of_a_run(name):
            old.unlink()
    for name, content in contents.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        arriving = (copy / name).with_name(f".arriving.{uuid.uuid4().hex}")
        arriving.write_bytes(content)
        arriving.replace(copy / name)
    return copy


def each(folder: Path, name: str) -> dict[str, bytes]:
    """This file of every folder in ``folder``, as it is there now, by the name of the folder that holds
    it."""
    where = address(folder)
    if where is None:
        found = {}
        for path in folder.glob(f"*/{name}"):
            with suppress(OSError):  # it has just been renamed, or may not be read: as good as not there
                found[path.parent.name] = path.read_bytes()
        return found
    with reached(where):
        fs, at = opened(where)
        paths = (
            [f"{at}/{path}" for path in _names(fs, at) if path.count("/") == 1 and path.endswith(f"/{name}")]
            if fs.exists(at)
            else []
        )
        found = fs.cat(paths, on_error="omit") if paths else {}
    return {key.rpartition("/")[0].rpartition("/")[2]: content for key, content in found.items()}


def check_out(run: Path) -> None:
    """Brings what others left of a run into its working folder. For the holder of the run's lock."""
    if address(run) is None:
        return
    copy = runs(run)
    for name in OF_A_RUN:
        if (copy / name).is_file():
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(copy / name, run / name)
        else:
            (run / name).unlink(missing_ok=True)


@contextmanager
def sent_back(run: Path, held: Callable[[], bool]) -> Iterator[None]:
    """Sends a run's working folder to its address at the end of the work on it, however that ends, if its
    lock is still ``held``.

    Its run.log is that of the machine which worked on it last.
    """
    try:
        yield
    finally:
        if not held():
            log.warning("%s: another machine has taken over; nothing is sent from here", shown(run))
        else:
            _send_back(run)


def _send_back(run: Path) -> None:
    send(run, RESULT)
    if (where := address(run / ERROR)) and not (run / ERROR).is_file():
        with reached(where):
            fs, at = opened(where)
            if fs.exists(at):
                fs.rm_file(at)


def send(directory: Path, last: str = META) -> None:
    """All files of a folder to its address, ``last`` after the others: whoever sees it sees them all. Nothing
    for a local folder."""
    if (where := address(directory)) is None:
        return
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    others = [name for name in names if name != last]
    with reached(where):
        fs, at = opened(where)
        make_parents(fs, [f"{at}/{name}" for name in names])
        if others:
            fs.put([str(directory / name) for name in others], [f"{at}/{name}" for name in others])
        if last not in names:
            return
        if fs.async_impl:  # an object store: what is put appears whole
            fs.put_file(str(directory / last), f"{at}/{last}")
        else:
            fs.put_file(str(directory / last), arriving := f"{at}/.{last}.{uuid.uuid4().hex}")
            fs.mv(arriving, f"{at}/{last}")


def opened(where: str) -> tuple[Any, str]:
    """An address's filesystem, and the address in its terms. What the filesystem remembers of earlier
    listings is dropped."""
    from fsspec.core import url_to_fs

    fs, at = url_to_fs(where)
    fs.invalidate_cache()
    return fs, at.rstrip("/")


@contextmanager
def reached(where: str) -> Iterator[None]:
    """A place that does not answer is the user's to mend, so it gets one sentence. Drivers raise what they
    like, hence the wide net."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(
            f"cannot read or write {where} ({said}): is it in reach? The same command goes on from here"
        ) from error


def make_parents(fs: Any, files: list[str]) -> None:
    """Object stores have no folders, and some drivers would make a missing bucket in their place."""
    if not fs.async_impl:
        for parent in sorted({name.rpartition("/")[0] for name in files}):
            fs.makedirs(parent, exist_ok=True)


def _trees() -> tuple[Path, Path]:
    base = state_dir()
    return base / "working", base / "copies"


def state_dir() -> Path:
    """Where this machine keeps what belongs to addresses: ``remote/`` in the user's cache."""
    return cache_dir().absolute() / REMOTE


def _copy(where: str) -> Path:
    working, copies = _trees()
    return copies / folder(where).relative_to(working)


def _names(fs: Any, at: str) -> list[str]:
    """The files below an address, relative to it."""
    return [name.removeprefix(at + "/") for name in fs.find(at)]


def _of_a_run(name: str) -> bool:
    return name in OF_A_RUN or name.partition("/")[2] in OF_A_RUN
