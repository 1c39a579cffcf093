"""Every measure of each dataset at one number of rows, as a table.

Fair by construction: a set of more than ``rows`` rows is cut to that many by a seeded draw, and the log
determinant distances are read at one n. A set with fewer rows is measured whole and marked as too small: its
numbers do not compare, and its distance is given only if it reaches n.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.comparison.sets import Rows, mean_words
from smartdpp.diversity.components import AllMeasures
from smartdpp.errors import InputError
from smartdpp.metrics import DIVERSITY
from smartdpp.store.disk import write_text

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {  # column of the table: how it is called, and digits
    "rows": ("rows", 0),
    "total": ("of", 0),
    "ldd": (DIVERSITY["ldd"].label, DIVERSITY["ldd"].digits),
    "ldd_sd": ("± sd", 3),
    **{name: (DIVERSITY[name].heading, DIVERSITY[name].digits) for name in ("kept_share", "duplicate_share")},
    **{
        name: (of.heading, of.digits)
        for name, of in DIVERSITY.items()
        if name not in ("ldd", "kept_share", "duplicate_share")
    },
    "prompt_words": ("prompt (words)", 0),
    "response_words": ("response (words)", 1),
}
PER_CENT = [name for name, of in DIVERSITY.items() if of.unit == "%"]


@dataclass(frozen=True)
class Comparison:
    """``table``: one line a set; ``curves``: each set's LDD by n; ``n``: where the distances were read;
    ``rows``: the common size."""

    table: pd.DataFrame
    curves: dict[str, np.ndarray]
    n: int
    rows: int
    notes: list[str]


def compare(
    sets: list[Rows], vectors: list[np.ndarray], measures: AllMeasures, n: int | None = None
) -> Comparison:
    """Measures every set. n None: the largest that all sets of full size reach; InputError if an n given is
    reached by none."""
    import pandas as pd
    from tqdm import tqdm

    pool = np.concatenate(vectors)
    rows = max(len(one.rows) for one in sets)
    lines: list[dict[str, Any]] = []
    curves: dict[str, np.ndarray] = {}
    spread: dict[str, Any] = {}
    for one, X in zip(tqdm(sets, desc="measuring", unit="set", delay=2, leave=False), vectors, strict=True):
        found = measures.measure(X, pool=pool, task=np.array([row["task"] for row in one.rows]))
        curves[one.name] = np.asarray(found["curve"])
        spread[one.name] = found["curve_sd"]
        numbers = {name: found[name] for name in COLUMNS if name in found and name not in ("ldd", "ldd_sd")}
        words = {f"{part}_words": mean_words(one.rows, part) for part in ("prompt", "response")}
        lines.append(
            {
                "set": one.name,
                "rows": len(one.rows),
                "total": one.total,
                "kept": found["kept"],
                **numbers,
                **words,
            }
        )
    whole = [one.name for one in sets if len(one.rows) == rows]
    at = n or min(len(curves[name]) for name in whole)
    reached = [name for name, curve in curves.items() if len(curve) >= at]
    if not reached:
        raise InputError(
            f"n={at}: no set keeps that many rows; the most is {max(map(len, curves.values()))}."
        )
    table = pd.DataFrame(lines)
    table["ldd"] = [curves[name][at - 1] if name in reached else np.nan for name in table["set"]]
    table["ldd_sd"] = [
        spread[name][at - 1] if name in reached and spread[name] else np.nan for name in table["set"]
    ]
    table["too_small"] = [name not in whole or name not in reached for name in table["set"]]
    first = min(whole, key=lambda name: len(curves[name]))
    notes = [
        f"{rows} rows a set, LDD at n = {at}"
        + (f", the fewest that a full set keeps ({first})" if n is None else "")
        + "; lower LDD is more diverse, everything else: higher."
    ]
    if small := [name for name in table["set"] if name not in whole]:
        notes.append(f"fewer than {rows} rows, so the numbers do not compare (*): {_some(small)}")
    if short := [name for name in whole if name not in reached]:
        notes.append(f"fewer than {at} rows kept, so there is no LDD at that n (*): {_some(short)}")
    notes.append(f"coverage and clusters are of the {len(pool)} rows of all sets together.")
    return Comparison(
        table.sort_values(["too_small", "ldd"], kind="stable", ignore_index=True), curves, at, rows, notes
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def write(found: Comparison, out: Path) -> list[Path]:
    """diversity.csv and diversity.md."""
    write_text(out / "diversity.csv", found.table.to_csv(index=False))
    text = (
        f"# Diversity of {len(found.table)} datasets\n\n{markdown(shown(found))}\n\n"
        + "\n\n".join(found.notes)
        + "\n\n![diversity](diversity.png)\n"
    )
    write_text(out / "diversity.md", text)
    return [out / "diversity.csv", out / "diversity.md"]


def shown(found: Comparison) -> pd.DataFrame:
    """The table as it is printed."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "dataset": [
                f"{s}{' *' if small else ''}"
                for s, small in zip(found.table["set"], found.table["too_small"], strict=True)
            ]
        }
    )
    for name, (title, digits) in COLUMNS.items():
        if name in found.table and found.table[name].notna().any():
            values = found.table[name] * (100 if name in PER_CENT else 1)
            table[title] = ["" if np.isnan(value) else f"{value:.{digits}f}" for value in values]
    return table


def printed(found: Comparison) -> tuple[Any, Any]:
    """Two rich tables, each narrow enough for a terminal: the log determinant distance, and everything beside
    it."""
    table = shown(found)
    after = list(table).index(COLUMNS["vendi"][0])
    return (
        grid(table.iloc[:, :after], "Log determinant distance, most diverse first"),
        grid(
            table.iloc[:, [0, *range(after, table.shape[1])]],
            "Other measures of the same rows, and how long they are",
        ),
    )


def grid(frame: pd.DataFrame, title: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    # a name broken over lines is hard to read
    longest = min(30, max(len(str(cell)) for cell in frame.iloc[:, 0]))
    for i, name in enumerate(frame):
        table.add_column(
            name, justify="right" if i else "left", overflow="fold", min_width=None if i else longest
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(str(cell)) for cell in row))  # a name is data: its brackets are no markup
    return table


def markdown(frame: pd.DataFrame) -> str:
    """The frame as Markdown; what Markdown would interpret in a cell is escaped."""

    def line(cells: Any) -> str:
        return "| " + " | ".join(re.sub(r"([\\`*\[\]<>|!])", r"\\\1", str(cell)) for cell in cells) + " |"

    rule = "|---|" + "---:|" * (frame.shape[1] - 1)
    return "\n".join([line(frame.columns), rule, *(line(row) for row in frame.itertuples(index=False))])
