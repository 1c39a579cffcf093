"""The embedding stage: any embedding over any number of rows, one shard at a time, so that a kill costs at most one shard.

Row i of ``X.npy`` belongs to row i of the corpus. Shards have a fixed size, so an interrupted run ends with the same bytes as an
undisturbed one, and several processes, each with its share of the shards, with the same bytes as one.

    manifest.json        rows, shard, a hash of the ids; when all is done also d and dtype. Shards of another manifest are not used
    shard-000000256.npy  [m, d], while the work goes on
    X.npy                [n, d], float16 or float32
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.launch import as_config, launch, rank, refusals
from smartdpp.store import read_json, write_json
from smartdpp.types import Embedding

if TYPE_CHECKING:
    import pyarrow as pa

SHARD = 256  # rows


def embed(embedding: Embedding, rows: pa.Table, out: Path, shard: int = SHARD, processes: int = 1) -> dict[str, Any]:
    """Writes ``X.npy`` ([n, d], float16 where the embedding returns that, else float32) into ``out``.

    Returns facts; ``tokens`` and ``seconds`` are of this call alone, so their ratio is a rate also after an interruption. InputError if a
    vector is not finite.
    """
    manifest = _manifest(rows, out, shard)
    starts = range(0, len(rows), shard)
    missing = [start for start in starts if not _file(out, start).is_file()]
    began = time.perf_counter()
    if missing and processes == 1:
        _encode(embedding, rows, out, shard, missing)
    elif missing:
        _launch(embedding, rows, out, shard, missing, processes)
    seconds = time.perf_counter() - began
    first = np.load(_file(out, 0), mmap_mode="r", allow_pickle=False)
    X = np.lib.format.open_memmap(out / "X.npy", mode="w+", dtype=first.dtype, shape=(len(rows), first.shape[1]))
    for start in starts:
        X[start : start + shard] = np.load(_file(out, start), allow_pickle=False)
    X.flush()
    write_json(out / "manifest.json", manifest | {"d": X.shape[1], "dtype": str(X.dtype)})
    for start in starts:
        _file(out, start).unlink()
    encoded = sum(min(shard, len(rows) - start) for start in missing)
    facts = {"n": len(rows), "d": X.shape[1], "dtype": str(X.dtype), "resumed_rows": len(rows) - encoded}
    return facts | ({"tokens": _tokens(rows, missing, shard), "seconds": round(seconds, 3)} if "n_tokens" in rows.column_names else {})


def load(directory: Path) -> np.ndarray:
    """float32[n, d] or float16[n, d], memory-mapped."""
    return np.load(directory / "X.npy", mmap_mode="r", allow_pickle=False)


def _manifest(rows: pa.Table, out: Path, shard: int) -> dict[str, Any]:
    """What the shards belong to. Shards left by other rows or of another size are removed."""
    ids = hashlib.sha256("\n".join(rows["id"].to_pylist()).encode()).hexdigest()
    manifest = {"rows": len(rows), "shard": shard, "ids": ids}
    path = out / "manifest.json"
    if not path.is_file() or not manifest.items() <= read_json(path).items():
        for stale in out.glob("shard-*"):
            stale.unlink()
        write_json(path, manifest)
    return manifest


def _encode(embedding: Embedding, rows: pa.Table, out: Path, shard: int, starts: Sequence[int], show: bool = True) -> None:
    from tqdm import tqdm

    encode = embedding.prepare(rows)
    counted = "n_tokens" in rows.column_names
    total = _tokens(rows, starts, shard) if counted else sum(min(shard, len(rows) - start) for start in starts)
    with tqdm(total=total, desc="embedding", unit="tok" if counted else "row", unit_scale=counted, disable=not show) as bar:
        for start in starts:
            part = np.asarray(encode(rows.slice(start, shard)))
            part = part if part.dtype == np.float16 else part.astype(np.float32, copy=False)
            _refuse_bad_vectors(part, rows, start)
            _save(_file(out, start), part)
            bar.update(_tokens(rows, [start], shard) if counted else len(part))


def _launch(embedding: Embedding, rows: pa.Table, out: Path, shard: int, missing: list[int], processes: int) -> None:
    import pyarrow.parquet as pq

    pq.write_table(rows, out / "rows.parquet")
    shares = [missing[i::processes] for i in range(processes)]
    write_json(out / "job.json", {"embedding": as_config(embedding), "shard": shard, "shares": shares})
    launch("smartdpp.embedding.shards", out, processes)
    for name in ("rows.parquet", "job.json"):
        (out / name).unlink()


def _worker(out: Path) -> None:
    """What every launched process runs: its share of the missing shards."""
    import pyarrow.parquet as pq
    from hydra.utils import instantiate

    job, i = read_json(out / "job.json"), rank()
    with refusals(out):
        if job["shares"][i]:
            _encode(instantiate(job["embedding"]), pq.read_table(out / "rows.parquet"), out, job["shard"], job["shares"][i], show=i == 0)


def _tokens(rows: pa.Table, starts: Sequence[int], shard: int) -> int:
    n_tokens = rows["n_tokens"].to_numpy()
    return int(sum(n_tokens[start : start + shard].sum() for start in starts))


def _file(out: Path, start: int) -> Path:
    return out / f"shard-{start:09d}.npy"


def _save(path: Path, part: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, part, allow_pickle=False)
    temporary = path.with_suffix(f".writing-{os.getpid()}")
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(path)


def _refuse_bad_vectors(part: np.ndarray, rows: pa.Table, start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
    if len(bad):
        names = [rows["id"][start + int(i)].as_py() for i in bad[:5]]
        raise InputError(
            f"the embedding of {len(bad)} rows is not finite, first {', '.join(names)}: use another embedding or remove these rows"
        )


if __name__ == "__main__":
    _worker(Path(sys.argv[1]))
