"""Which figures a study gets: those that its cells support. A curve needs a swept number, a map two crossed
choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smartdpp.figures.curves import along
from smartdpp.figures.dots import by_strategy
from smartdpp.figures.drawing import Drawing
from smartdpp.figures.maps import pairs, task_shares
from smartdpp.figures.scatter import diversity_performance
from smartdpp.figures.style import looks, style
from smartdpp.study.lines import lines, panel
from smartdpp.study.results import Results, main_metric
from smartdpp.study.settings import labels, plain
from smartdpp.study.swept import alike, choices, crossed, numbers

if TYPE_CHECKING:
    import pandas as pd


def of_study(results: Results) -> list[Drawing]:
    """One figure for each thing that was varied, then diversity against performance and the tasks' shares;
    empty without trained runs."""
    every_run, results = results, results.trainings()
    if results.table.empty or (table := _trained(results)).empty:
        return []
    metric, every = main_metric(table), looks(results.table.loc[results.table["n"] > 0, "label"].unique())
    swept = numbers(table, results.settings)
    with style():
        drawn = [] if table["budget"].nunique() > 1 else [by_strategy(table, metric, every)]
        drawn += [_along(table, results, name, metric) for name in swept]
        drawn += [
            _pairs(table, results, down, across, metric) for down, across in choices(table, results.settings)
        ]
        scatter = _diversity(every_run, metric)
        drawn += [scatter] if scatter else []
        drawn += [task_shares(results.shares)] if len(results.shares) else []
    return drawn


def _trained(results: Results) -> pd.DataFrame:
    """The runs that trained on something, smallest budget first."""
    return results.table[results.table["n"] > 0].sort_values("budget", kind="stable")


def _diversity(results: Results, metric: str) -> Drawing | None:
    """Panels for the context: distances compare within one way of measuring them, scores within one model and
    corpus."""
    table = _trained(results)
    table = table.assign(
        label=labels(table, [name for name in results.settings if name not in results.context])
    )
    return diversity_performance(
        table, metric, looks(table["label"].unique()), results.shares, panel(table, results.context)
    )


def _along(table: pd.DataFrame, results: Results, swept: str, metric: str) -> Drawing:
    shown = lines(table, results, swept)
    return along(shown, swept, metric, looks(shown["label"].unique()))


def _pairs(table: pd.DataFrame, results: Results, down: str, across: str, metric: str) -> Drawing:
    import pandas as pd

    rest = [
        *(["budget"] if table["budget"].nunique() > 1 else []),
        *(s for s in results.settings if s not in (down, across)),
    ]
    shown = table.dropna(subset=[down, across])
    shown = pd.concat(
        [
            group
            for _, group in shown.groupby(alike(shown, ["strategy", *rest]), sort=False)
            if crossed(group, down, across)
        ]
    )
    return pairs(
        shown,
        down,
        across,
        metric,
        panel(shown, [name for name in rest if shown[name].map(plain).nunique() > 1]),
    )
