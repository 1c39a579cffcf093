"""What a mixture starts from (``start=``): rows that count as chosen before anything is.

A run, a mixture or any file that ``corpus=jsonl`` reads: its rows are those of the pool with the same prompt
and response, every copy of them; or ids of the pool, as a list or in a .txt of one a line. Rows outside the
pool are embedded as the pool is, for strategies that honour ``outside``: they count as chosen too. For others
they cannot count: they are counted and told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.corpus.build import Limits, of_turns
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.corpus.rows import content_hash
from smartdpp.errors import InputError
from smartdpp.models.turns import alike
from smartdpp.store.disk import digest, read_object
from smartdpp.types import Embedding, Row, Strategy

if TYPE_CHECKING:
    import pyarrow as pa

Start = str | list[str] | None


@dataclass(frozen=True)
class Found:
    """``index`` int64[s], rows of the pool, ascending; of the ``given`` rows or ids ``missing`` are not in it
    and do not count, ``outside`` (distinct) are not in it and do."""

    index: np.ndarray
    given: int
    missing: int
    outside: tuple[Row, ...] = ()


def check(start: Start) -> list[str]:
    """What is wrong with it, before any pool is there."""
    if start is None or isinstance(start, list):
        return [] if start is None or start else ["start=[]: give ids, or leave it out"]
    try:
        path = _file(start)
    except InputError as error:
        return [str(error)]
    if not path.exists():
        return [
            f"start={start}: there is no such file or folder; give a run, a mixture, a file of rows, or ids "
            "as [a,b]"
        ]
    return (
        []
        if path.suffix == ".txt"
        else [one.replace("corpus.path", "start") for one in Jsonl(str(path)).check()]
    )


def fingerprint(start: Start, strategy: Strategy) -> str:
    """Its content, wherever it lies, and whether rows outside the pool count; empty where there is none, or
    it cannot be read, which ``check`` says."""
    if not start or check(start):
        return ""
    if isinstance(start, list):
        return digest(sorted(start))
    path = _file(start)
    if path.suffix == ".txt":
        return content_hash(path.parent, [path])
    content = Jsonl(str(path)).fingerprint()
    return digest([content, "outside"]) if "outside" in strategy.honours else content


def find(start: Start, rows: pa.Table, outside: bool) -> Found | None:
    """Where it is in a pool's table, of which id, prompt and response are read, and whether its rows
    ``outside`` the pool count; None without a start. InputError where nothing of it counts."""
    if start is None:
        return None
    ids = start if isinstance(start, list) else _ids(_file(start))
    read = _rows(str(_file(str(start)))) if ids is None else []
    given = [name for name, _ in read] if ids is None else ids
    if ids is None:
        pairs = zip(rows["prompt"].to_pylist(), rows["response"].to_pylist(), strict=True)
        own = [_content(prompt, response) for prompt, response in pairs]
    else:
        own = rows["id"].to_pylist()
    wanted = set(given)
    index = np.array([i for i, name in enumerate(own) if name in wanted], dtype=np.int64)
    there = wanted.intersection(own)
    others = {name: row for name, row in read if name not in there} if outside else {}
    if not there and not others:
        what = "rows has the prompt and response of one" if ids is None else "ids is one"
        raise InputError(
            f"start={start}: none of its {len(given)} {what} in the pool, so there is nothing to add to"
        )
    missing = 0 if others else sum(name not in there for name in given)
    return Found(index, len(given), missing, tuple(others.values()))


def placed(found: Found, embedding: Embedding, pool: pa.Table) -> tuple[Found, np.ndarray]:
    """The rows outside the pool, whose table this is, in its space: float32[m, d]. Those that hold no word
    that the embedding knows have no place there: they are missing."""
    import pyarrow as pa

    rows = pa.Table.from_pylist(alike(found.outside))
    unknown = set(embedding.unknown(pool, rows))
    known = [i for i in range(len(rows)) if i not in unknown]
    outside = tuple(found.outside[i] for i in known)
    found = replace(found, outside=outside, missing=found.missing + len(unknown))
    if not known:
        return found, np.zeros((0, 0), dtype=np.float32)
    return found, np.asarray(embedding.prepare(pool)(rows.take(known)), dtype=np.float32)


def _file(start: str) -> Path:
    """The file to read: a run's or a mixture's own, or as given. InputError for a run whose list of artifacts
    is damaged."""
    path = Path(start).expanduser()
    if (path / "artifacts.json").is_file():
        listed = read_object(path / "artifacts.json")
        if isinstance(listed, str):
            raise InputError(f"start={start}: {listed}; the run's own command writes it again")
        mixture = Path(listed.get("mixture", path))
        path = path.absolute().parent.parent / "store" / mixture.parent.name / mixture.name
    return path / "mixture.jsonl" if (path / "mixture.jsonl").is_file() else path


def _ids(path: Path) -> list[str] | None:
    if path.suffix != ".txt":
        return None
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


@cache
def _read(path: str, changed: int) -> list[tuple[bytes, Row]]:
    rows = (of_turns(row, Limits()) for row in Jsonl(path).rows())
    return [(_content(row["prompt"], row["response"]), row) for row in rows]


def _rows(path: str) -> list[tuple[bytes, Row]]:
    return _read(path, Path(path).stat().st_mtime_ns)


def _content(prompt: str, response: str) -> bytes:
    from hashlib import blake2b

    return blake2b(json.dumps([prompt, response]).encode(), digest_size=16).digest()
