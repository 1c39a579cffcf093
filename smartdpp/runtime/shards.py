"""Vectors for the rows of a table, a shard at a time: embeddings, the signals behind quality scores, task
vectors.

A kill costs at most one shard. Shards have a fixed size and are worked on alone, so an interrupted run ends
with the same bytes as an undisturbed one, and several processes or machines, each with its share of the
shards, with the same bytes as one.

    manifest.json rows, shard, a hash of the ids; when all is done also d and dtype. Shards of another
    manifest are not used
    shard-000000256.npy  [m, d], while the work goes on
    rows.arrow the table meanwhile, where other processes have a part in it: they map it, and a machine holds
    it once
    X.npy                [n, d], float16 or float32; row i belongs to row i of the table
"""

from __future__ import annotations

import hashlib
import io
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.storage import reserve
from smartdpp.runtime import current, threads
from smartdpp.runtime.processes import as_config, launch, rank, refusals
from smartdpp.store import disk
from smartdpp.store.disk import read_json, write_json

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
SHARD = 256  # rows
TABLE, DRAFT, JOB = "rows.arrow", ".rows.arrow", "job.json"


class Work(Protocol):
    """A frozen dataclass, so that other processes can make it again from its parameters."""

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        """Loads or fits once on all rows; the function it returns maps a shard of m rows to [m, d]."""
        ...


def run(
    work: Work, rows: pa.Table, out: Path, name: str, shard: int = SHARD, processes: int = 1
) -> dict[str, Any]:
    """Writes ``X.npy`` ([n, d], float16 where the work returns that, else float32) into ``out``; ``name`` is
    for progress and errors.

    Returns facts; ``tokens`` and ``seconds`` are of this call alone, so their ratio is a rate also after an
    interruption. InputError if a number is not finite.
    """
    manifest = _manifest(rows, out, shard)
    starts = range(0, len(rows), shard)
    missing = [start for start in starts if not _whole(_file(out, start), min(shard, len(rows) - start))]
    began = time.perf_counter()
    if missing and (rows_per_task := current().rows_per_task):
        _send(work, rows, out.absolute(), name, shard, missing, max(1, rows_per_task // shard))
    elif missing and processes == 1:
        _make(work, rows, out, name, shard, missing)
    elif missing:
        _launch(work, rows, out, name, shard, missing, processes)
    seconds = time.perf_counter() - began
    first = np.load(_file(out, 0), mmap_mode="r", allow_pickle=False)
    X = new_map(out / "X.npy", first.dtype, (len(rows), first.shape[1]))
    for start in starts:
        X[start : start + shard] = np.load(_file(out, start), allow_pickle=False)
    X.flush()
    write_json(out / "manifest.json", manifest | {"d": X.shape[1], "dtype": str(X.dtype)})
    # also what an interrupted run left
    for left in (*out.glob("shard-*"), *out.glob(".shard-*"), out / TABLE, out / DRAFT, out / JOB):
        left.unlink(missing_ok=True)
    made = sum(min(shard, len(rows) - start) for start in missing)
    facts = {"n": len(rows), "d": X.shape[1], "dtype": str(X.dtype), "resumed_rows": len(rows) - made}
    return facts | (
        {"tokens": _tokens(rows, missing, shard), "seconds": round(seconds, 3)}
        if "n_tokens" in rows.column_names
        else {}
    )


def load(directory: Path) -> np.ndarray:
    """float32[n, d] or float16[n, d], memory-mapped."""
    return np.load(directory / "X.npy", mmap_mode="r", allow_pickle=False)


def _manifest(rows: pa.Table, out: Path, shard: int) -> dict[str, Any]:
    """What the shards belong to. Shards left by other rows or of another size are removed."""
    ids = hashlib.sha256("\n".join(rows["id"].to_pylist()).encode()).hexdigest()
    manifest = {"rows": len(rows), "shard": shard, "ids": ids}
    path = out / "manifest.json"
    found = disk.read_object(path)
    if isinstance(found, str) or not manifest.items() <= found.items():
        stale = list(out.glob("shard-*"))
        if stale and isinstance(found, str):
            log.warning("%s: %s, so the %d shards beside it are made again", out, found, len(stale))
        for shard_file in stale:
            shard_file.unlink()
        write_json(path, manifest)
    return manifest


def _whole(path: Path, rows: int) -> bool:
    """Whether an earlier process left this shard. One that is cut is told and removed."""
    if not path.is_file():
        return False
    try:
        if len(np.load(path, mmap_mode="r", allow_pickle=False)) == rows:
            return True
    except (ValueError, OSError, EOFError, TypeError):
        pass
    log.warning("%s is cut or overwritten: its %d rows are made again", path, rows)
    path.unlink()
    return False


def new_map(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A new ``.npy`` file to be written through memory. OSError where the disk has no room for all of it."""
    X = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        reserve(file.fileno(), path.stat().st_size)
    return X


def _make(
    work: Work, rows: pa.Table, out: Path, name: str, shard: int, starts: Sequence[int], show: bool = True
) -> None:
    from tqdm import tqdm

    vectors = work.prepare(rows)
    counted = "n_tokens" in rows.column_names
    total = (
        _tokens(rows, starts, shard) if counted else sum(min(shard, len(rows) - start) for start in starts)
    )
    with tqdm(
        total=total, desc=name, unit="tok" if counted else "row", unit_scale=counted, disable=not show
    ) as bar:
        for start in starts:
            threads.settle()
            part = np.asarray(vectors(rows.slice(start, shard)))
            part = part if part.dtype == np.float16 else part.astype(np.float32, copy=False)
            _refuse_bad_numbers(part, rows, start, name)
            _save(_file(out, start), part)
            bar.update(_tokens(rows, [start], shard) if counted else len(part))


def _launch(
    work: Work, rows: pa.Table, out: Path, name: str, shard: int, missing: list[int], processes: int
) -> None:
    _share(rows, out)
    shares = [missing[i::processes] for i in range(processes)]
    write_json(out / JOB, {"work": as_config(work), "name": name, "shard": shard, "shares": shares})
    launch("smartdpp.runtime.shards", out, processes)


def _send(
    work: Work, rows: pa.Table, out: Path, name: str, shard: int, missing: list[int], at_once: int
) -> None:
    """The missing shards as tasks of the runtime in use, so many shards each; ``out`` is a folder that all
    its machines see."""
    _share(rows, out)
    shares = [missing[a : a + at_once] for a in range(0, len(missing), at_once)]
    sizes = [sum(min(shard, len(rows) - start) for start in share) for share in shares]
    current().map(_task, lambda i: (work, out, name, shard, shares[i]), sizes, name)


def _task(work: Work, out: Path, name: str, shard: int, starts: list[int]) -> None:
    """One task's shards, without those it left before its worker died."""
    if missing := [start for start in starts if not _file(out, start).is_file()]:
        _make(work, _shared(out), out, name, shard, missing, show=False)


def _worker(out: Path) -> None:
    """What every launched process runs: its share of the missing shards."""
    from hydra.utils import instantiate

    job, i = read_json(out / JOB), rank()
    starts = job["shares"][i]
    with refusals(out):
        if starts:
            _make(instantiate(job["work"]), _shared(out), out, job["name"], job["shard"], starts, show=i == 0)


def _share(rows: pa.Table, out: Path) -> None:
    import pyarrow as pa

    draft = out / DRAFT  # never written over: a process that outlived its run may have it mapped
    with pa.OSFile(str(draft), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    draft.replace(out / TABLE)  # of no use after this run: not synced


def _shared(out: Path) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(out / TABLE))).read_all()


def _tokens(rows: pa.Table, starts: Sequence[int], shard: int) -> int:
    n_tokens = rows["n_tokens"].to_numpy()
    return int(sum(n_tokens[start : start + shard].sum() for start in starts))


def _file(out: Path, start: int) -> Path:
    return out / f"shard-{start:09d}.npy"


def _save(path: Path, part: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, part, allow_pickle=False)
    disk.write_bytes(path, buffer.getvalue())


def _refuse_bad_numbers(part: np.ndarray, rows: pa.Table, start: int, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
    if len(bad):
        first = ", ".join(rows["id"][start + int(i)].as_py() for i in bad[:5])
        raise InputError(
            f"{name}: the numbers of {len(bad)} rows are not finite, first {first}: use another model or "
            "remove these rows"
        )


if __name__ == "__main__":
    _worker(Path(sys.argv[1]))
