"""Performance along a swept number: the budget, the number of tasks, γ, θ, a temperature. Whatever else
differs is a line of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smartdpp.evaluation.intervals import plus_minus, t_interval
from smartdpp.figures.drawing import Drawing, Hover
from smartdpp.figures.style import Looks, axis, base_model, counted, grid, legend, level_line, panels
from smartdpp.metrics import METRICS
from smartdpp.study.lines import logarithmic
from smartdpp.study.settings import BUDGETS, plain, short

if TYPE_CHECKING:
    import pandas as pd


def along(results: pd.DataFrame, swept: str, metric: str, styles: Looks) -> Drawing:
    """Mean and 95 % t interval over seeds along the column ``swept``, side by side.

    results: one line per run, with the columns of ``smartdpp.study.lines``: a run without a number is part of
    a level line.
    """
    groups, hover = list(results.groupby("panel", sort=False)), Hover()
    rows, columns = grid(len(groups))
    figure, axes = panels(12 if columns == 1 else 3 + 6 * columns, 7 * rows, rows, columns, sharey=True)
    level = [label for label, runs in results.groupby("label", sort=False) if runs[swept].isna().all()]
    name = BUDGETS.get(swept, short(swept))
    for ax, (title, of_panel) in zip(axes, groups, strict=False):
        values = np.sort(of_panel[swept].dropna().unique())
        by_factors = logarithmic(values)
        lines = [label for label in styles if label in set(of_panel["label"]) and label not in level]
        for i, label in enumerate(lines):
            runs = of_panel[of_panel["label"] == label]
            shift = i - (len(lines) - 1) / 2  # so that intervals at one value do not hide each other
            points = [
                (value, *t_interval(of_value[metric]), len(of_value))
                for value, of_value in runs.groupby(swept)
            ]
            x, y, half, n = np.array(points).T
            at = (
                x * (values[-1] / values[0]) ** (0.006 * shift)
                if by_factors
                else x + 0.006 * shift * np.ptp(values)
            )
            ax.errorbar(at, y, yerr=half, capsize=5, **styles[label])
            for a, v, mean, h, count in zip(at, x, y, half, n, strict=True):
                said = hover(
                    f"{label}, {name} {v:g}",
                    f"{METRICS[metric]} {mean:.3f}{plus_minus(h)}",
                    f"n = {count:.0f} seeds",
                )
                ax.plot(a, mean, "o", markersize=16, alpha=0, gid=said)
        for label in level:
            runs = of_panel[of_panel["label"] == label]
            if len(runs):
                ax.axhline(runs[metric].mean(), **level_line(styles[label]))
        if by_factors:
            ax.set_xscale("log")
        if len(values) <= 10:
            ax.set_xticks(values, [plain(float(value)) for value in values])
            ax.minorticks_off()
        ax.set_xlabel(name + (", log scale" if by_factors else ""))
        base_model(ax, of_panel, metric)
        ax.set_title(title or f"Mean and 95 % t interval over n seeds, {len(of_panel)} runs")
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    for ax in axes[::columns]:
        ax.set_ylabel(axis(metric))
    legend(figure, counted(results, styles, [swept, "panel"], level))
    alt = (
        f"Curves of {METRICS[metric]} along {name}, {len(results) - results[swept].isna().sum()} runs: "
        "means with 95 % t intervals, "
    )
    alt += f"one line for each of {results['label'].nunique() - len(level)} settings"
    alt += f"; level lines: {', '.join(level)}." if level else "."
    return Drawing("budget" if swept == "budget" else f"along_{short(swept)}", alt, figure, hover.texts)
