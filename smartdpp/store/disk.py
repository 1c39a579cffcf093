"""Bytes that are on the disk, and room that is there: what a power cut, a damaged disk and a full one would
otherwise take by surprise.

A rename can be on the disk before the content of what was renamed. So everything is synced first: files, then
their folders, then the rename, then the folder that it happened in. What a finished folder holds is recorded
with sizes and hashes, so that later damage is seen.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smartdpp.errors import InputError

# filesystems that have no folders to sync, or do not let us open them
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
META = "meta.json"  # the last file of a finished folder; holds the record of the others

Record = dict[str, dict[str, Any]]  # {"X.npy": {"bytes": 128, "sha256": "..."}}


def sync(path: Path) -> None:
    """What was written to this file, or the names in this folder, is on the disk when this returns."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if path.is_dir() and error.errno in NO_SYNC:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in NO_SYNC):
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """All files below, then the folders from the deepest to ``folder`` itself."""
    below = sorted(folder.rglob("*"), reverse=True)
    for path in below:
        if path.is_file():
            sync(path)
    for path in [path for path in below if path.is_dir()]:
        sync(path)
    sync(folder)


def make_folder(folder: Path) -> None:
    """With its parents; those that are new are on the disk."""
    new = [at for at in (folder, *folder.parents) if not at.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for at in new:
        sync(at.parent)


def rename(old: Path, new: Path) -> None:
    """Of what has been synced; on the disk when this returns."""
    os.replace(old, new)
    sync(new.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """All or nothing: a reader never sees half a file, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    rename(temporary, path)


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def close_folder(folder: Path, record: dict[str, Any] | None = None, *, hashes: bool = True) -> None:
    """Puts all of a folder on the disk, then meta.json with what each file is: whoever finds that finds
    all."""
    sync_tree(folder)
    content = {**(record or {}), "files": recorded(folder, hashes=hashes)}
    write_bytes(
        folder / META, (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    )


def recorded(folder: Path, *, hashes: bool = True) -> Record:
    """Size and sha256 of each file below, but for meta.json: by path in the folder."""

    def of(path: Path) -> dict[str, Any]:
        return {"bytes": path.stat().st_size} | ({"sha256": file_hash(path)} if hashes else {})

    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / META)
    return {path.relative_to(folder).as_posix(): of(path) for path in files}


def damage(folder: Path, *, whole: bool = False) -> str | None:
    """Why this is not the finished folder that was published: by its record and the files' sizes, or,
    ``whole``, their hashes too.

    Of a folder made before there were records it is only asked whether meta.json can be read; ``whole``: and
    whether its files seem cut. OSError for what is there and cannot be read.
    """
    meta = read_object(folder / META)
    if isinstance(meta, str):
        return meta
    files = meta.get("files")
    if files is None:
        return next(seems_cut(folder), None) if whole else None
    if not (
        isinstance(files, dict)
        and all(isinstance(entry, dict) and "bytes" in entry for entry in files.values())
    ):
        return f"{META} holds no record of files"
    for name, expected in files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            return f"{name} {_gone(error)}"
        if size != expected["bytes"]:
            return f"{name} has {size} bytes, and {expected['bytes']} were written"
    return next(changed(folder, files), None) if whole else None


def _gone(error: OSError) -> str:
    """That a file is not there, in words. Any other error is raised: who may not read, or whose disk is
    silent, knows of no damage."""
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        raise error
    return f"cannot be read ({error.strerror})"


def unreadable(error: OSError, path: Path) -> str:
    """That a file at or below ``path`` is there and cannot be read, in words."""
    return f"{error.filename or path} cannot be read ({error.strerror})"


def read_object(path: Path) -> dict[str, Any] | str:
    """A JSON object, or why there is none, in words."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} {_gone(error)}"
    except (ValueError, RecursionError):
        return f"{path.name} is {'no JSON' if path.stat().st_size else 'empty'}: it was cut or overwritten"
    return (
        found
        if isinstance(found, dict)
        else f"{path.name} holds a JSON {type(found).__name__} where an object belongs"
    )


# files whose hash this process has found right, as they were then
_intact: set[tuple[str, int, int, int]] = set()


def changed(folder: Path, files: Record) -> Iterator[str]:
    """Files of the recorded size whose content is another, read once a process as long as they are not
    touched."""
    for name, expected in files.items():
        path = folder / name
        try:
            stat = path.stat()
        except OSError as error:
            yield f"{name} {_gone(error)}"
            continue
        known = (str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ino)
        if known in _intact:
            continue
        try:
            found = file_hash(path)
        except OSError as error:
            yield f"{name} {_gone(error)}"
            continue
        if found != expected["sha256"]:
            yield (
                f"{name} has another content than was written (sha256 {found[:12]}, and "
                f"{expected['sha256'][:12]} was recorded)"
            )
        else:
            _intact.add(known)


def seems_cut(folder: Path) -> Iterator[str]:
    """Files of a folder without a record that their own format shows to be cut: empty ones, and by the ends
    of the formats we write."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _CHECKS):
        try:
            with path.open("rb") as file:
                sound = _CHECKS[path.suffix](file, path.stat().st_size)
        except (OSError, ValueError, RecursionError, KeyError, AttributeError, TypeError):
            sound = False
        if not sound:
            yield f"{path.relative_to(folder).as_posix()} is cut or overwritten"


def _npy(file: Any, size: int) -> bool:
    import numpy as np

    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
        np.lib.format.read_magic(file)
    ]
    shape, _, dtype = read(file)
    return size == file.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _safetensors(file: Any, size: int) -> bool:
    header = int.from_bytes(file.read(8), "little")
    if header > size:
        return False
    tensors = json.loads(file.read(header))
    ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
    return size == 8 + header + max(ends, default=0)


def _parquet(file: Any, size: int) -> bool:
    begin = file.read(4)
    file.seek(max(0, size - 4))
    return size >= 12 and begin == file.read(4) == b"PAR1"


def _json(file: Any, size: int) -> bool:
    json.loads(file.read())
    return True


def _jsonl(file: Any, size: int) -> bool:
    return all(isinstance(json.loads(line), dict) for line in file)


_CHECKS = {".npy": _npy, ".safetensors": _safetensors, ".parquet": _parquet, ".json": _json, ".jsonl": _jsonl}


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def digest(value: Any) -> str:
    """Hash of a JSON value, the same in every process: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:16]


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A disk that cannot be written is the user's to mend, so it gets one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = error.filename or path
        raise InputError(
            f"cannot write {where}: {error.strerror}. Free space there or choose another folder with "
            "root=PATH"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """All or nothing: a reader never sees half a file, also after a power cut."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
