"""The query as an artifact, and the last check that nothing of it is scored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.corpus.notes import noted, said
from smartdpp.corpus.overlap import plain
from smartdpp.errors import InputError
from smartdpp.models.turns import alike
from smartdpp.store.disk import write_text
from smartdpp.types import Embedding, Evaluation, Query, Row

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = "query.jsonl"


def build(
    query: Query, evaluation: Evaluation, embedding: Embedding, pool: pa.Table, heldout: pa.Table, out: Path
) -> dict[str, Any]:
    """Writes ``query.jsonl`` and, row for row, ``X.npy`` float32[m, d]: the query in the space of the pool's
    embedding. Returns facts."""
    import pyarrow as pa

    with noted() as notes:
        rows = query.rows(evaluation, heldout)
    write_text(out / ROWS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    X = np.asarray(embedding.prepare(pool)(pa.Table.from_pylist(alike(rows))))
    np.save(out / "X.npy", X, allow_pickle=False)
    return {
        "n": len(rows),
        "d": X.shape[1],
        "tasks": len({row["task"] for row in rows}),
        "reading": notes.facts(),
    }


def unplaced(embedding: Embedding, rows: list[Row], pool: pa.Table) -> list[str]:
    """What is wrong with a query of these rows for an embedding that is fitted on the pool, or that reads
    answers, as those by a causal model do."""
    import pyarrow as pa

    blank = [row["id"] for row in rows if not row["response"] and not row.get("messages")]
    if blank and hasattr(getattr(embedding, "model", None), "tokenizer"):
        return [
            f"strategy.query: {len(blank)} of {len(rows)} rows, first {blank[0]!r}, have no response, which "
            "this embedding reads: give the query its answers, or choose an embedding of prompts "
            "(embedding=minilm)."
        ]
    unknown = embedding.unknown(pool, pa.Table.from_pylist(alike(rows)))
    if not unknown:
        return []
    first = rows[unknown[0]]
    return [
        f"strategy.query: {len(unknown)} of {len(rows)} prompts, first {first['prompt'][:40]!r} of row "
        f"{first['id']!r}, hold no word that the embedding knows from the pool's prompts: leave them out, or "
        "choose an embedding that reads any text (embedding=minilm)."
    ]


def in_pool(rows: list[Row], pool: pa.Table) -> list[str]:
    """What is wrong with a query of which rows are the pool's too, by prompt and response, or by the prompt
    alone where the query has no response."""
    texts = {text: plain(text) for name in ("prompt", "response") for text in pool[name].to_pylist()}
    pairs = zip(pool["prompt"].to_pylist(), pool["response"].to_pylist(), strict=True)
    there = {pair for p, r in pairs for pair in ((texts[p], texts[r]), (texts[p], ""))}
    found = [row["id"] for row in rows if (plain(row["prompt"]), plain(row["response"])) in there]
    if not found:
        return []
    return [
        f"strategy.query: {len(found)} of {len(rows)} rows, first {found[0]!r}, are rows of the pool, where "
        "they would be chosen as nearest to themselves: take them out of the one or the other."
    ]


def rows_of(directory: Path) -> list[Row]:
    """The query that ``build`` left in ``directory``, in the order of its vectors."""
    with (directory / ROWS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def refuse_scored(directory: Path, scored: Iterable[str]) -> None:
    """InputError if a document that was scored (by id) is in the query that ``build`` left in
    ``directory``."""
    leaked = sorted({row["id"] for row in rows_of(directory)} & set(scored))
    if leaked:
        raise InputError(
            f"{len(leaked)} scored documents were in the query, first {leaked[0]!r}: lower the "
            "evaluation's limit or strategy.query.per_task."
        )


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line."""
    return "; ".join(
        [
            f"{facts['n']} rows of {facts['tasks']} tasks",
            *(said(facts["reading"]) if "reading" in facts else []),
        ]
    )
