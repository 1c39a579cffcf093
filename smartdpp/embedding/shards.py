"""The embedding stage: any embedding over any number of rows, in shards, and a count of what its encoder
could not read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.runtime.shards import SHARD, load, run
from smartdpp.types import Embedding

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["embed", "load"]
log = logging.getLogger(__name__)


def embed(
    embedding: Embedding, rows: pa.Table, out: Path, shard: int = SHARD, processes: int = 1
) -> dict[str, Any]:
    """Writes ``X.npy``, row i of it belonging to row i, and returns facts: see smartdpp.runtime.shards.
    Rows cut short are told and counted."""
    facts = run(embedding, rows, out, "embedding", shard, processes)
    cut_rows, cut_tokens = embedding.cut(rows)
    if cut_rows:
        log.warning(
            "embedding: %d of %d prompts are longer than the encoder reads, %d tokens were cut",
            cut_rows,
            len(rows),
            cut_tokens,
        )
    return facts | {"cut_rows": cut_rows, "cut_tokens": cut_tokens}


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line."""
    return "; ".join([f"{facts['n']} rows x {facts['d']}", *cut(facts)])


def cut(facts: dict[str, Any]) -> list[str]:
    """A sentence on what an embedding did not read, if anything."""
    return (
        [f"{facts['cut_rows']} rows were cut, by {facts['cut_tokens']} tokens in all"]
        if facts.get("cut_rows")
        else []
    )
