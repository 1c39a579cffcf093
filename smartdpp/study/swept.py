"""What a study sweeps, found from its runs: numbers to draw a curve along, and pairs of choices to draw a map
of.

Nothing is declared: a setting is an axis if runs that are alike in everything else, seeds aside, have
different values of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

from smartdpp.study.settings import of_strategy, plain

if TYPE_CHECKING:
    import pandas as pd


def numbers(table: pd.DataFrame, settings: list[str]) -> list[str]:
    """The columns, budget first, along which something was swept: numbers that differ between runs alike in
    all else."""
    names = ["budget", *settings]
    return [
        name
        for name in names
        if _swept(table, name, ["strategy", *(other for other in names if other != name)])
    ]


def as_number(column: pd.Series) -> pd.Series:
    """float64; nan for what is no number: a run to which the setting does not apply, or a word such as
    ``auto``."""
    import pandas as pd

    return pd.to_numeric(
        column.where(~column.map(lambda value: isinstance(value, (bool, str)))), errors="coerce"
    ).astype("float64")


def _swept(table: pd.DataFrame, name: str, others: list[str]) -> bool:
    value = as_number(table[name])
    return bool((value.groupby(alike(table, others)).nunique() > 1).any())


def alike(table: pd.DataFrame, names: list[str]) -> pd.Series:
    """A str for each line, the same for lines with the same values in all the columns ``names``."""
    import pandas as pd

    return pd.Series(
        [repr([plain(value) for value in values]) for values in table[names].itertuples(index=False)],
        index=table.index,
    )


def choices(table: pd.DataFrame, settings: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of columns that hold ways of choosing, no numbers, and were crossed among runs alike in all
    else."""
    words = [name for name in settings if of_strategy(name) and as_number(table[name]).isna().all()]
    for down, across in combinations(words, 2):
        of_both = table.dropna(subset=[down, across])
        others = ["strategy", "budget", *(name for name in settings if name not in (down, across))]
        for _, group in of_both.groupby(alike(of_both, others)):
            if crossed(group, down, across):
                yield down, across
                break


def crossed(group: pd.DataFrame, down: str, across: str) -> bool:
    """Whether two columns have more pairs of values than changing one at a time would give."""
    seen = group[[down, across]].map(plain).drop_duplicates()
    n_down, n_across = seen[down].nunique(), seen[across].nunique()
    return len(seen) > n_down + n_across - 1 and n_down > 1 and n_across > 1
