"""Maps: the score of every pair of two choices, such as f1 by f2; and the share of every task in every
mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smartdpp.evaluation.intervals import plus_minus, t_interval
from smartdpp.figures.drawing import Drawing, Hover
from smartdpp.figures.style import SHOWN_TASKS, budget_said, grid, panels, wrapped
from smartdpp.logs.visible import one_line
from smartdpp.metrics import METRICS
from smartdpp.study.settings import plain, short

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def pairs(results: pd.DataFrame, down: str, across: str, metric: str, panel: pd.Series) -> Drawing:
    """Mean score by two choices, the columns ``down`` and ``across``; panel: str for each line, the panel
    that it belongs to."""
    groups, hover = list(results.groupby(panel, sort=False)), Hover()
    row_names, column_names = (sorted(results[name].map(plain).unique()) for name in (down, across))
    rows, columns = grid(len(groups), 2)
    width, height = 2.4 + 1.5 * len(column_names), 1.7 + 1.1 * len(row_names)
    figure, axes = panels(max(7, width * columns), 0.6 + height * rows, rows, columns)
    for ax, (title, of_panel) in zip(axes, groups, strict=False):
        cells = of_panel.groupby([of_panel[down].map(plain), of_panel[across].map(plain)])[metric]
        means = {key: t_interval(values.dropna()) for key, values in cells}
        value = np.array(
            [[means[r, c][0] if (r, c) in means else np.nan for c in column_names] for r in row_names]
        )
        best = np.nanmin(value) if METRICS[metric].lower else np.nanmax(value)
        low, span = np.nanmin(value), max(np.ptp(value[~np.isnan(value)]), 1e-12)
        for (i, j), mean in np.ndenumerate(value):
            if np.isnan(mean):
                ax.text(j, i, "not run", ha="center", va="center", color="#767676")
                continue
            n, half = cells.size()[row_names[i], column_names[j]], means[row_names[i], column_names[j]][1]
            interval = plus_minus(half)
            said = hover(
                f"{short(down)} {row_names[i]}, {short(across)} {column_names[j]}",
                f"{METRICS[metric]} {mean:.3f}{interval}",
                f"n = {n} seeds",
            )
            goodness = 1 - (mean - low) / span if METRICS[metric].lower else (mean - low) / span
            _cell(
                ax,
                i,
                j,
                goodness,
                f"{mean:.3f}\n{interval.strip()}\nn = {n}" if interval else f"{mean:.3f}\nn = {n}",
                said,
                framed=mean == best,
            )
        _frame(
            ax,
            [name.replace("_", "\n") for name in row_names],
            [name.replace("_", "\n") for name in column_names],
        )
        ax.set_ylabel(short(down))
        ax.set_xlabel(short(across))
        ax.set_title(title)
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    better = "lower" if METRICS[metric].lower else "higher"
    figure.supxlabel(
        f"held-out {METRICS[metric]}, mean over n seeds, ± 95 % t interval; {better} is better; yellow, "
        "framed: best",
        fontsize=14,
    )
    alt = (
        f"Heat map of {METRICS[metric]} by {short(down)} ({', '.join(row_names)}) and {short(across)} "
        f"({', '.join(column_names)}), "
    )
    return Drawing(
        f"map_{short(down)}_{short(across)}",
        f"{alt}{len(results)} runs in {len(groups)} panels.",
        figure,
        hover.texts,
    )


def _cell(ax: Axes, i: int, j: int, at: float, text: str, gid: str, *, framed: bool = False) -> None:
    """A square in cividis, whose lightness says what its colour says."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    color = colormaps["cividis"](0.15 + 0.85 * at)
    ax.add_patch(
        Rectangle(
            (j - 0.48, i - 0.48),
            0.96,
            0.96,
            facecolor=color,
            edgecolor="black" if framed else color,
            linewidth=3,
            gid=gid,
        )
    )
    ax.text(j, i, text, ha="center", va="center", color="black" if at > 0.45 else "white", fontsize=14)


def _frame(ax: Axes, rows: list[str], columns: list[str]) -> None:
    ax.set_xlim(-0.55, len(columns) - 0.45)
    ax.set_ylim(len(rows) - 0.45, -0.55)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def task_shares(tasks: pd.DataFrame) -> Drawing:
    """Tasks by ways of choosing: the share of the mixture in per cent, mean over seeds, at the largest
    budget; the pool's beside it, mean over the same runs.

    tasks: one line per run and task: run, label, budget, task, pool, selected, share.
    """
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    budget = tasks["budget"].max()
    shown = tasks[(tasks["budget"] == budget) | tasks["budget"].isna()]
    of_runs = shown.pivot_table(
        index="task", columns=["label", "run"], values=["share", "pool"], fill_value=0.0, sort=False
    )
    shares = 100 * of_runs["share"].T.groupby(level="label", sort=False).mean().T
    # every run's own: where seeds are worlds, each has a pool of its own
    shares.insert(0, "pool", 100 * (of_runs["pool"] / of_runs["pool"].sum()).mean(axis=1))
    total, hover = len(shares), Hover()
    spread = (shares.max(axis=1) - shares.min(axis=1)).sort_values(ascending=False, kind="stable")
    shares = shares.loc[spread.head(SHOWN_TASKS).index]
    excess = shares.sub(shares["pool"], axis=0).to_numpy()
    names = [wrapped(label, 28) for label in shares.columns]
    lines = max(name.count("\n") + 1 for name in names)
    figure, (ax,) = panels(6 + max(1.3, 0.5 * lines) * shares.shape[1], 3.4 + 0.42 * len(shares))
    limit = max(float(np.abs(excess).max()), 1e-9)
    for (i, j), share in np.ndenumerate(shares.to_numpy()):
        said = hover(
            f"{shares.index[i]}: {share:.1f} % of {shares.columns[j]}",
            f"{excess[i, j]:+z.1f} points against the pool" if j else "",
        )
        color = colormaps["PuOr_r"](0.5 + 0.5 * excess[i, j] / limit)
        ax.add_patch(
            Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, edgecolor=color, linewidth=0.5, gid=said)
        )
        ax.text(
            j,
            i,
            f"{share:.1f}",
            ha="center",
            va="center",
            color="white" if abs(excess[i, j]) > 0.7 * limit else "black",
        )
    _frame(ax, [one_line(task) for task in shares.index], names)
    ax.xaxis.tick_top()  # before the labels are turned: those at the top are others than those at the bottom
    for text in ax.get_xticklabels():
        text.set(rotation=30, rotation_mode="anchor", horizontalalignment="left")
    which = (
        f"the {len(shares)} of {total} tasks whose shares differ most"
        if total > len(shares)
        else f"{total} tasks"
    )
    at = f" at {budget_said(budget)}" if np.isfinite(budget) else ""
    note = (
        f"share of the mixture (%), mean over seeds{at}\n{which}\norange: more than in the pool, purple: less"
    )
    figure.supxlabel(note, fontsize=15)
    alt = (
        f"Map of {which} by {shares.shape[1] - 1} ways of choosing: each task's share of the mixture{at}, "
        "in per cent, "
    )
    return Drawing("task_shares", f"{alt}beside its share of the pool.", figure, hover.texts)
