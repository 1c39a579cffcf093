"""``python -m smartdpp.store verify [ROOT...]``: are the finished artifacts below a root still what was
written?

Every file is read and compared with the size and hash that meta.json records. What is damaged is removed, so
that the command that needs it makes it again. Of artifacts made before hashes were recorded it is only seen
whether their files are cut.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smartdpp.errors import InputError
from smartdpp.run.sound import of_run
from smartdpp.store import disk, remote
from smartdpp.store.artifact import has_record, remove
from smartdpp.store.disk import META
from smartdpp.store.locks import Busy, lock
from smartdpp.store.place import cache_dir

# folders that we have named: of artifacts, and of models in the cache
OURS = r"^[0-9a-f]{16}$|-[0-9a-f]{8}$|^tiny-\d+x\d+-\d+$"


@dataclass(frozen=True)
class Found:
    """One finished folder, or result.json of a run."""

    path: Path
    shown: str
    recorded: bool
    damage: str | None
    remove: Callable[[], None] | None  # None: it is not ours to remove, or cannot be read, which is no damage


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 if nothing is damaged, else 1."""
    parser = argparse.ArgumentParser(prog="python -m smartdpp.store", description="What lies in the store.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = (
        "reads every file of every finished artifact, compares it with its recorded hash, and removes "
        "what is damaged"
    )
    verify = commands.add_parser(
        "verify", help=about, description=f"{about[0].upper()}{about[1:]}, so that it is made again."
    )
    verify.add_argument(
        "root",
        nargs="*",
        default=["."],
        help="folders or addresses that runs were given as root (default: this folder)",
    )
    verify.add_argument("--keep", action="store_true", help="only say what is damaged; remove nothing")
    args = parser.parse_args(argv)
    try:
        damaged = sum(_verified(root, args.keep) for root in args.root)
        damaged += _told("the model cache", _models(cache_dir() / "models"), args.keep)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return int(damaged > 0)


def _verified(root: str, keep: bool) -> int:
    if "://" in root:
        return _told(root, _at_address(root), keep)
    here = Path(root).expanduser()
    if not (here / "store").is_dir() and not (here / "runs").is_dir():
        raise InputError(
            f"{root}: there is no store/ and no runs/ in this folder; give the folder that runs were given "
            "as root=PATH"
        )
    return _told(root, _in_folder(here), keep)


def _told(where: str, found: Iterator[Found], keep: bool) -> int:
    """Says what is damaged and removes it; returns how many."""
    seen: Counter[str] = Counter()
    for one in found:
        seen["all"] += 1
        seen["unrecorded"] += not one.recorded
        if one.damage is None:
            continue
        seen["damaged"] += 1
        done = "damaged" if one.remove else "kept"
        if one.remove and not keep:
            try:
                with lock(one.path, wait=False):
                    one.remove()
                done = "removed"
            except Busy:
                done = "damaged, and left as a process is working on it"
            except OSError as error:
                done = f"damaged, and cannot be removed ({error.strerror})"
        print(f"{done}: {one.shown}: {one.damage}")
    old = (
        f"; {seen['unrecorded']} were made before hashes were recorded: seen only whether they are cut"
        if seen["unrecorded"]
        else ""
    )
    again = "; the commands that need them make them again" if seen["damaged"] and not keep else ""
    print(f"{where}: {seen['all']} finished, {seen['damaged']} damaged{again}{old}")
    return seen["damaged"]


def _in_folder(root: Path) -> Iterator[Found]:
    for path in sorted((root / "store").glob("*/[!.]*")):
        if path.is_dir() and path.suffix not in (".partial", ".aside"):
            yield _folder(path)
    for run in sorted((root / "runs").glob("[!.]*")):
        if (result := run / remote.RESULT).is_file():
            # the run then concludes anew, from its finished artifacts
            yield Found(run, str(run), True, _of_run(run), result.unlink)


def _of_run(run: Path) -> str | None:
    try:
        return of_run(run)
    except OSError as error:
        return disk.unreadable(error, run)


def _folder(path: Path) -> Found:
    try:
        damage = disk.damage(path, whole=True)
        unmarked = not (path / META).exists() and not re.search(OURS, path.name)
        return Found(path, str(path), has_record(path), damage, None if unmarked else lambda: remove(path))
    except OSError as error:
        return Found(path, str(path), True, disk.unreadable(error, path), None)


def _models(folder: Path) -> Iterator[Found]:
    for path in sorted(folder.glob("[!.]*")):
        if path.is_dir() and path.suffix not in (".partial", ".aside"):
            yield _folder(path)


def _at_address(root: str) -> Iterator[Found]:
    """Reads everything from there; copies on this machine are looked after when they are used."""
    store = remote.folder(root) / "store"
    with remote.reached(root):
        fs, at = remote.opened(f"{root.rstrip('/')}/store")
        names = fs.find(at)
        for meta in sorted(
            name
            for name in names
            if name.endswith(f"/{META}") and name.removeprefix(f"{at}/").count("/") == 2
        ):
            folder = meta.removesuffix(f"/{META}")
            path = store / folder.removeprefix(f"{at}/")
            try:
                record = json.loads(fs.cat_file(meta))
                files = record.get("files")
                damage = None
            except (ValueError, AttributeError):
                files, damage = {}, f"{META} is no JSON object: it was cut or overwritten"
            for name, expected in (files or {}).items():
                if damage is None:
                    damage = _there(fs, f"{folder}/{name}", name, expected)

            def gone(folder: str = folder, path: Path = path) -> None:
                fs.rm(folder, recursive=True)
                if path.is_dir():
                    remove(path)

            yield Found(path, remote.shown(path), files is not None, damage, gone)


def _there(fs: object, at: str, name: str, expected: dict[str, object]) -> str | None:
    try:
        with fs.open(at, "rb") as file:  # type: ignore[attr-defined]
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{name} is missing"
    return None if found == expected["sha256"] else f"{name} has another content than was written"
