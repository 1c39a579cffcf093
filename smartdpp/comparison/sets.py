"""Datasets to be compared: read from files or corpora, split by a field, cut to one size by a seeded draw,
and embedded together."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from smartdpp.config.identity import with_content, without_paths
from smartdpp.embedding.shards import embed as embed_rows
from smartdpp.embedding.shards import load
from smartdpp.run.cell import VERSION
from smartdpp.store.artifact import Artifact
from smartdpp.store.disk import digest
from smartdpp.types import Corpus, Embedding, Row

By = Literal["dataset", "task", "source", "template"]


@dataclass(frozen=True)
class Rows:
    """A dataset by name: the rows drawn, sorted by the draw, and how many it had."""

    name: str
    rows: list[Row]
    total: int


def read(named: dict[str, Corpus], by: By | None, most: int | None, seed: int) -> list[Rows]:
    """One set a corpus, or one for each value of the field ``by`` in it, in order of appearance; at most
    ``most`` rows each.

    Rows that lack the field are a set with the corpus's own name. Which rows are kept depends on their ids
    and ``seed`` alone, not on their order: those whose hashes are smallest. InputError for a corpus that
    cannot be read.
    """
    from tqdm import tqdm

    heaps: dict[str, list[tuple[int, int, Row]]] = {}
    totals: dict[str, int] = {}
    for label, corpus in named.items():
        for number, row in enumerate(
            tqdm(corpus.rows(), desc=f"reading {label}", unit="row", delay=2, leave=False)
        ):
            value = None if by is None else row[by]
            name = label if value is None else value if len(named) == 1 else f"{label}/{value}"
            totals[name] = totals.get(name, 0) + 1
            heap = heaps.setdefault(name, [])
            item = (-draw(row["id"], seed), -number, row)  # the largest hash is on top
            if most is None or len(heap) < most:
                heapq.heappush(heap, item)
            else:
                heapq.heappushpop(heap, item)
    return [
        Rows(name, [row for *_, row in sorted(heap, key=lambda item: item[:2], reverse=True)], totals[name])
        for name, heap in heaps.items()
    ]


def draw(identity: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {identity}".encode(), digest_size=8).digest())


def embed(sets: list[Rows], embedding: Embedding, settings: dict[str, Any], root: Path) -> list[np.ndarray]:
    """float32[n, d] for each set. All are embedded together (an embedding may be fitted to its rows), and
    kept in ``root``/store.

    ``settings``, its configuration, and the rows' text make the key, so that a kill costs a shard and a
    second call nothing.
    """
    import pyarrow as pa

    table = pa.Table.from_pylist([row for one in sets for row in one.rows])
    content = digest([[row["prompt"], row["response"]] for one in sets for row in one.rows])
    artifact = Artifact(
        root,
        "embedding",
        VERSION["embedding"],
        without_paths(with_content(settings, embedding)),
        {"rows": content},
    )
    artifact.produce(partial(embed_rows, embedding, table, processes=settings.get("processes", 1)))
    X = np.asarray(load(artifact.here()))
    return np.split(X, np.cumsum([len(one.rows) for one in sets])[:-1])


def mean_words(rows: Iterable[Row], field: str) -> float:
    """Mean number of words (runs of characters without space) in a field."""
    return float(np.mean([len(row[field].split()) for row in rows]))
