"""How numbers are written: with their interval where there is one, with the digits that they can carry, ""
where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.evaluation.intervals import plus_minus, t_interval
from smartdpp.metrics import METRICS
from smartdpp.study.results import main_metric
from smartdpp.study.settings import BUDGETS, plain
from smartdpp.study.swept import alike

if TYPE_CHECKING:
    import pandas as pd

    from smartdpp.study.results import Results


def mean(values: pd.Series, digits: int) -> str:
    """Mean ± half width of the 95 % t interval; the mean alone for one value, or where all are the same."""
    values = values.dropna()
    if values.empty:
        return ""
    centre, half = t_interval(values)
    return number(centre, digits) + ("" if values.nunique() == 1 else plus_minus(half, digits))


def number(value: Any, digits: int) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def signed(mean: float, half: float, digits: int = 3) -> str:
    """A difference, ± half the width of its interval where there is one."""
    return f"{mean:+.{digits}f}{plus_minus(half, digits)}"


def p_value(p: float) -> str:
    return "" if np.isnan(p) else f"{p:.2g}"


def heading(name: str) -> str:
    """A setting's column head, with its unit."""
    return BUDGETS.get(name, name.rpartition("@")[2])


def metrics(table: pd.DataFrame) -> list[str]:
    """The metrics shown. Bits per byte say the same as the loss unless models with different tokenizers are
    compared."""
    several = "model" in table and table["model"].nunique() > 1
    ours = [
        metric
        for metric in METRICS
        if metric in table and (several or metric != "bits_per_byte" or "loss" not in table)
    ]
    return ours or [main_metric(table)]


def columns(results: Results) -> list[str]:
    """What a row of a table stands for: a strategy under a budget and settings, where those differ."""
    return ["strategy", *(["budget"] if results.table["budget"].nunique() > 1 else []), *results.settings]


def described(by: list[str], values: tuple[Any, ...]) -> dict[str, str]:
    return {heading(name): plain(value) for name, value in zip(by, values, strict=True)}


def best_first(table: pd.DataFrame, by: list[str], metric: str) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The groups of ``by``: smallest budget first, those without one last; within a budget the best mean
    first."""
    sign = 1 if METRICS[metric].lower else -1
    found = table.groupby(alike(table, by), sort=False)
    groups = [(tuple(group[name].iloc[0] for name in by), group) for _, group in found]
    return sorted(
        groups, key=lambda item: (item[1]["budget"].fillna(np.inf).iloc[0], sign * item[1][metric].mean())
    )
