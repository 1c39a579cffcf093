"""What the memory that stages need is reckoned from: the rows of a corpus that is there, and this machine's
device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from smartdpp.corpus.build import read
from smartdpp.run.cell import Run
from smartdpp.runtime.memory import LIBRARIES, Need
from smartdpp.store.artifact import Artifact
from smartdpp.store.remote import file
from smartdpp.types import Embedding


@dataclass(frozen=True)
class Rows:
    """What a pool's rows take."""

    n: int
    text: float  # bytes
    longest: int  # tokens
    largest: int  # rows of the largest task


def need(
    run: Run, above: Callable[[Rows, int], float | None], *, on_device: bool = True, each: str = ""
) -> Need | None:
    """A stage's, of the bytes ``above`` that it gives for the pool and the bytes of a number. None where the
    corpus is not there to tell, or ``above`` is None: it is not known. ``each`` says of what it is, if not of
    the stage."""
    if not run.corpus.finished:
        return None
    gpu, wide = _device() if on_device else (False, 4)
    stated = above(_pool(run.corpus.path), wide)
    return None if stated is None else Need(LIBRARIES + stated, f"{'GPU memory' if gpu else 'memory'}{each}")


def columns(artifact: Artifact, embedding: Embedding, n: int) -> int | None:
    """Of n rows of an embedding; None where only its model tells, and that is not here."""
    if artifact.finished:
        return int(artifact.meta()["facts"]["d"])
    return embedding.columns(n)


@cache
def _pool(corpus: Path) -> Rows:
    """Of a finished corpus."""
    import pyarrow.parquet as pq

    path = file(corpus / "data.parquet")
    rows = read(path, columns=["task", "n_tokens"])
    with pq.ParquetFile(path) as parquet:
        text = sum(parquet.metadata.row_group(i).total_byte_size for i in range(parquet.num_row_groups))
    largest = max(pair["counts"].as_py() for pair in rows["task"].value_counts())
    return Rows(len(rows), float(text), int(rows["n_tokens"].to_numpy().max()), largest)


@cache
def heldout(corpus: Path) -> tuple[int, int, int] | None:
    """Held-out rows of a finished corpus, tokens of the longest and of the longest response; None where it
    has none."""
    rows = read(file(corpus / "heldout.parquet"), columns=["n_prompt_tokens", "n_tokens"])
    if not len(rows):
        return None
    prompt, whole = (rows[name].to_numpy() for name in rows.column_names)
    return len(rows), int(whole.max()), int((whole - prompt).max())


def _device() -> tuple[bool, int]:
    """Whether there is a GPU, and the bytes of a number that a model computes with."""
    from smartdpp.runtime.device import compute_dtype, device

    return device() == "cuda", compute_dtype().itemsize
