"""The embedding stage: any embedding over any number of rows, one shard at a time, so that a kill costs at most one shard.

Row i of ``X.npy`` belongs to row i of the corpus. Shards have a fixed size, so an interrupted run ends with the same bytes as an
undisturbed one.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.types import Embedding

if TYPE_CHECKING:
    import pyarrow as pa

SHARD = 1024  # rows


def embed(embedding: Embedding, rows: pa.Table, out: Path, shard: int = SHARD) -> dict[str, Any]:
    """Writes ``X.npy`` (float32[n, d]) into ``out``; raises InputError if a vector is not finite."""
    from tqdm import tqdm

    starts = range(0, len(rows), shard)
    missing = [start for start in starts if not _file(out, start).is_file()]
    if missing:
        encode = embedding.prepare(rows)
        done = len(rows) - sum(min(shard, len(rows) - start) for start in missing)
        with tqdm(total=len(rows), initial=done, desc="embedding", unit="row") as bar:
            for start in missing:
                part = np.asarray(encode(rows.slice(start, shard)), dtype=np.float32)
                _refuse_bad_vectors(part, rows, start)
                _save(_file(out, start), part)
                bar.update(len(part))
    d = np.load(_file(out, 0), mmap_mode="r", allow_pickle=False).shape[1]
    X = np.lib.format.open_memmap(out / "X.npy", mode="w+", dtype=np.float32, shape=(len(rows), d))
    for start in starts:
        X[start : start + shard] = np.load(_file(out, start), allow_pickle=False)
    X.flush()
    for start in starts:
        _file(out, start).unlink()
    return {"n": len(rows), "d": d, "resumed_rows": len(rows) - sum(min(shard, len(rows) - start) for start in missing)}


def load(directory: Path) -> np.ndarray:
    """float32[n, d], memory-mapped."""
    return np.load(directory / "X.npy", mmap_mode="r", allow_pickle=False)


def _file(out: Path, start: int) -> Path:
    return out / f"shard-{start:09d}.npy"


def _save(path: Path, part: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, part, allow_pickle=False)
    temporary = path.with_suffix(".writing")
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(path)


def _refuse_bad_vectors(part: np.ndarray, rows: pa.Table, start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
    if len(bad):
        names = [rows["id"][start + int(i)].as_py() for i in bad[:5]]
        raise InputError(
            f"the embedding of {len(bad)} rows is not finite, first {', '.join(names)}: use another embedding or remove these rows"
        )
