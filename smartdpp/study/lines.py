"""The lines that a swept number makes of a study's runs: what is alike but for it. Figures draw along them,
reports tell their trends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.study.results import Results
from smartdpp.study.settings import labels, plain, short
from smartdpp.study.swept import alike, as_number

if TYPE_CHECKING:
    import pandas as pd

LOG_FROM = 8  # times the smallest value: from this span on a swept number counts by its logarithm


def lines(table: pd.DataFrame, results: Results, swept: str) -> pd.DataFrame:
    """The runs of ``table`` that are part of a line along the column ``swept``, which is float64 there: nan
    for a run without a number (the full pool has no budget), which is a level line.

    ``label`` tells the lines apart, by all that differs but the swept number and the context, and ``panel``
    the context.
    """
    names = [name for name in results.settings if name != swept and name not in results.context]
    table = table[_several(table, swept, names) | as_number(table[swept]).isna()]
    names = [name for name in names if _varies(table, name)]
    number, found = as_number(table[swept]), labels(table, names)
    if swept != "budget" and table["budget"].nunique() > 1:
        found = [
            f"{line}, budget {plain(budget)}".removesuffix(", budget ")
            for line, budget in zip(found, table["budget"], strict=True)
        ]
    # a word among the numbers, such as auto, is a level line of its own
    words = table[swept].map(plain).where(number.isna(), "")
    found = [
        f"{line}, {short(swept)}={word}" if word else line for line, word in zip(found, words, strict=True)
    ]
    context = [name for name in results.context if name != swept]
    return table.assign(label=found, panel=panel(table, context), **{swept: number})


def panel(table: pd.DataFrame, names: list[str]) -> pd.Series:
    """What a panel is called: the values of the settings that make it one."""
    if not names:
        return table["run"].map(lambda _: "")
    return table[names].apply(
        lambda row: ", ".join(f"{short(name)} {plain(row[name])}" for name in names if plain(row[name])),
        axis=1,
    )


def logarithmic(values: Sequence[float] | np.ndarray) -> bool:
    """Whether a step of a swept number is a factor: the values, in rising order, span LOG_FROM or more, and
    their logarithms are as evenly apart (10, 40, 160) as they are themselves (1, 2, 3, ..., 10), or more."""
    if len(values) < 2 or values[0] <= 0 or values[-1] / values[0] < LOG_FROM:
        return False
    steps, factors = np.diff(values), np.diff(np.log(values))
    return bool(factors.std() / factors.mean() <= steps.std() / steps.mean())


def _several(table: pd.DataFrame, swept: str, names: list[str]) -> pd.Series:
    """bool for each line: part of a line of at least two points, where all but the swept number (and the
    context) agrees."""
    others = ["strategy", *(["budget"] if swept != "budget" else []), *names]
    return as_number(table[swept]).groupby(alike(table, others)).transform("nunique") > 1


def _varies(table: pd.DataFrame, name: str) -> bool:
    """Whether a setting tells runs of one strategy apart."""
    return bool((table[name].map(plain).groupby(table["strategy"]).nunique() > 1).any())
