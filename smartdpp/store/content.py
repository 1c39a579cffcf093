"""What lies in files, by hash: what a component reads enters a run's identity by its content, wherever it
lies.

A hash is computed once and remembered by real path, size, times and inode in this process, and of a large
file in ``hashes.json`` in the cache, so that 14 GB of weights cost their reading once. Models by a name on
the hub have the commit in place of their files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from smartdpp.store.disk import file_hash, write_text
from smartdpp.store.place import LAUNCHED_BY, cache_dir

log = logging.getLogger(__name__)

LARGE = 2**20  # bytes: a smaller file is hashed sooner than remembered in a file
SETTLED = 2.0  # seconds: a file that changed less long ago could change again without its times showing it
MOST = 10_000  # files remembered
PATIENCE = 3.0  # seconds to wait for the hub
COMMIT = re.compile(r"[0-9a-f]{40}")
# of a model's folder, what no loader of ours reads: other formats of the weights, what training left, and
# what is for people
UNREAD = re.compile(
    r"(?i)\.(md|rst|png|jpe?g|gif|svg|pdf|html|csv|jsonl|log|lock|gguf|ggml|onnx|h5|msgpack|ot|pth?|ckpt|mlmodel|tflite|orig|bak)$"
    r"|^(licen[cs]e.*|notice.*|use_policy.*|training_args\.bin|trainer_state\.json|all_results\.json|(train|eval)_results\.json"
    r"|events\.out\..*|meta\.json)$"
)
OTHER_WEIGHTS = re.compile(r"(?i)\.bin(\.index\.json)?$")  # language models are loaded from safetensors alone
OTHER_FOLDERS = re.compile(
    r"(?i)^(onnx|openvino|original|coreml|metal|runs|logs|checkpoint-\d+|__pycache__)$"
)

_unreachable: list[bool] = []  # whether the hub was found to be, in this process
_known: dict[str, list[Any]] = {}  # real path -> [size, mtime, ctime, inode, sha256]


def file_hashes(paths: Iterable[Path]) -> list[str]:
    """sha256 of each file's content; a symbolic link's is that of the file it leads to."""
    new: dict[str, list[Any]] = {}
    try:
        return [_hash(path, new) for path in paths]
    finally:
        if new:
            _write(new)


def _hash(path: Path, new: dict[str, list[Any]]) -> str:
    real = os.path.realpath(path)
    stamp, began = _stamp(real), time.time()
    if (known := _known.get(real)) and known[:-1] == stamp:
        return str(known[-1])
    if stamp[0] >= LARGE and (known := _read().get(real)) and known[:-1] == stamp:
        _known[real] = known
        return str(known[-1])
    found = file_hash(path)
    if _stamp(real) == stamp and began - max(stamp[1], stamp[2]) / 1e9 > SETTLED:
        _known[real] = [*stamp, found]
        if stamp[0] >= LARGE:
            new[real] = _known[real]
    return found


def folder_hash(folder: Path, files: Iterable[Path]) -> str:
    """sha256 over the names (relative to ``folder``), sizes and contents of files, in the order of their
    names."""
    inside = sorted(files)
    entries = [
        [path.relative_to(folder).as_posix(), path.stat().st_size, found]
        for path, found in zip(inside, file_hashes(inside), strict=True)
    ]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def files_below(
    folder: Path,
    without: re.Pattern[str] | None = None,
    passed: Callable[[Path], object] = lambda folder: False,
) -> Iterator[Path]:
    """All files, also behind linked folders (each real folder once), but for hidden ones and folders that
    match ``without`` or that are to be ``passed`` over."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not (without and without.match(name))
        )
        folders[:] = [name for name in folders if not passed(Path(here, name))]
        yield from (
            Path(here, name)
            for name in sorted(files)
            if not name.startswith(".") and Path(here, name).is_file()
        )


def model_content(folder: Path, *, encoder: bool = False) -> str:
    """A model's configuration, tokenizer, code and weights. An ``encoder`` may have weights in .bin files,
    and modules in folders."""
    read = [path for path in files_below(folder, OTHER_FOLDERS) if not UNREAD.search(path.name)]
    if not encoder:
        deeper = (".py", ".jinja")
        read = [
            path
            for path in read
            if not OTHER_WEIGHTS.search(path.name) and (path.parent == folder or path.suffix in deeper)
        ]
    return folder_hash(folder, read) + (f" on {base}" if encoder and (base := _base_of(folder)) else "")


def _base_of(folder: Path) -> str:
    """The content of the model that an adapter's folder builds on; empty for a whole model."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base, revision = str(config["base_model_name_or_path"]), config.get("revision")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    there = Path(base).expanduser()
    return model_content(there, encoder=True) if there.is_dir() else commit(base, revision) or base


@cache
def commit(name: str, revision: str | None = None, dataset: bool = False) -> str | None:
    """Which commit of a model (or dataset) on the hub ``revision`` (None: its main branch) is: by the hub,
    else by the copy in its cache.

    None, and a warning, where neither knows.
    """
    if revision and COMMIT.fullmatch(revision):
        return revision
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return None
    asked = f"{'datasets' if dataset else 'models'}/{name}@{revision or 'main'}"
    before = _commits().get(asked)
    # a process of a run works with the commit that its launcher found
    if before and LAUNCHED_BY in os.environ:
        return before
    found = _by_hub(name, revision, dataset)
    if found:
        _remember(asked, found)
    elif before and _cached(name, before, dataset):
        found = before
    else:
        found = _cached(name, revision, dataset) or before
    if found is None:
        log.warning(
            "%s: which commit %s is cannot be told, as the hub does not answer and its cache has no copy: "
            "runs are named without it; "
            "pin one (revision=COMMIT) or give a folder",
            name,
            revision or "main",
        )
    return found


def _by_hub(name: str, revision: str | None, dataset: bool) -> str | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if _unreachable:
        return None
    try:
        api = HfApi()
        found = (api.dataset_info if dataset else api.model_info)(
            name, revision=revision, timeout=PATIENCE
        ).sha
        return None if found is None else str(found)
    except HfHubHTTPError:  # no such name, or no leave to read it: loading says which
        return None
    except Exception:  # no network: it is not waited for again
        _unreachable.append(True)
        return None


def _cached(name: str, revision: str | None, dataset: bool) -> str | None:
    """The commit of the copy in the hub's cache. What was loaded by its commit is not there under its branch:
    see ``_remember``."""
    from huggingface_hub import try_to_load_from_cache

    for file in (
        ("README.md", ".gitattributes")
        if dataset
        else ("config.json", "modules.json", "tokenizer_config.json")
    ):
        with contextlib.suppress(ValueError):  # not a name that the hub could have
            cached = try_to_load_from_cache(
                name, file, revision=revision, repo_type="dataset" if dataset else "model"
            )
            if isinstance(cached, str) and COMMIT.fullmatch(Path(cached).parent.name):
                return Path(cached).parent.name
    return None


def _commits() -> dict[str, str]:
    """Which commits the hub has named on this machine, by kind, name and revision."""
    try:
        found = json.loads((cache_dir() / "commits.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = found.items() if isinstance(found, dict) else ()
    return {asked: commit for asked, commit in found if isinstance(commit, str) and COMMIT.fullmatch(commit)}


def _remember(asked: str, commit: str) -> None:
    """For the time when the hub does not answer: loading by a commit leaves no branch in the hub's own cache
    to find it by."""
    if (known := _commits()).get(asked) == commit:
        return
    with contextlib.suppress(OSError):
        cache_dir().mkdir(parents=True, exist_ok=True)
        write_text(
            cache_dir() / "commits.json", json.dumps(known | {asked: commit}, indent=0, sort_keys=True) + "\n"
        )


def _stamp(real: str) -> list[int]:
    stat = os.stat(real)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _file() -> Path:
    return cache_dir() / "hashes.json"


def _read() -> dict[str, list[Any]]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, not readable, or damaged: all is hashed again
        return {}
    return {name: entry for name, entry in found.items() if _whole(entry)} if isinstance(found, dict) else {}


def _whole(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 5
        and re.fullmatch(r"[0-9a-f]{64}", str(entry[-1])) is not None
    )


def _write(new: dict[str, list[Any]]) -> None:
    """Beside what other processes remembered meanwhile; a cache that cannot be written remembers nothing."""
    kept = list((_read() | new).items())[-MOST:]
    with contextlib.suppress(OSError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_text(_file(), json.dumps(dict(kept), indent=0) + "\n")
