"""The paper's own numbers beside ours: in a column of their own, and "not available" where the paper gives
none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smartdpp.study.cells import Paper
from smartdpp.study.settings import plain, short

NONE = "not available"


def column(paper: Paper, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The paper's value for each row, the last entry that fits. rows: each one's settings,
    ``strategy.num_tasks`` to 8.

    An entry fits the rows that have all its settings, named in full or by their last part (``num_tasks``).
    """
    return [
        plain(next((entry["value"] for entry in reversed(paper.values) if _fits(entry, row)), NONE))
        for row in rows
    ]


def _fits(entry: dict[str, Any], row: dict[str, Any]) -> bool:
    return all(
        any(plain(row[name]) == plain(value) for name in row if key in (name, short(name)))
        for key, value in entry.items()
        if key != "value"
    )


def said(paper: Paper, rows: Sequence[dict[str, Any]]) -> str:
    """What the column is, that its values do not compare with ours, and how many found no row."""
    placed = sum(any(_fits(entry, row) for row in rows) for entry in paper.values)
    text = (
        f"{paper.measure}: the paper's own numbers, {paper.source}; other models, data and sizes, so "
        "compare the order, not the values."
    )
    if placed < len(paper.values):
        text += (
            f" {len(paper.values) - placed} of its {len(paper.values)} values belong to no row that is "
            "finished here."
        )
    return f"{text} {paper.note}".strip()
