"""Diversity against performance: every run a point, every way of choosing a mean with its intervals, a panel
for what compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smartdpp.evaluation.intervals import t_interval
from smartdpp.figures.drawing import Drawing, Hover
from smartdpp.figures.style import Looks, axis, budget_said, counted, grid, legend, panels
from smartdpp.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

SAID_TASKS = 8  # of a run's mixture, under the mouse; the others are counted


def diversity_performance(
    results: pd.DataFrame,
    metric: str,
    styles: Looks,
    tasks: pd.DataFrame | None = None,
    context: pd.Series | None = None,
) -> Drawing | None:
    """results: one line per run with ``ldd`` at ``ldd_n``; a run without a budget has no place, as the
    distance grows with n.

    tasks: one line per run and task: run, task, selected, share. context: a str a run; every budget and
    context has a panel. None where no diversity was measured.
    """
    measured = results.dropna(subset=["ldd", "budget"]) if "ldd" in results else results.iloc[:0]
    if measured.empty:
        return None
    where = measured["budget"].map(lambda _: "") if context is None else context.loc[measured.index]
    groups, hover = list(measured.groupby(["budget", where.rename("context")], sort=False)), Hover()
    rows, columns = grid(len(groups))
    figure, axes = panels(4 + 6 * columns, 1 + 6 * rows, rows, columns, sharey=True)
    for ax, ((budget, of_context), of_panel) in zip(axes, groups, strict=False):
        for label, runs in of_panel.groupby("label", sort=False):
            look = styles[label]
            (x, dx), (y, dy) = t_interval(runs["ldd"]), t_interval(runs[metric])
            if len(runs) > 1:
                ax.errorbar(x, y, xerr=dx, yerr=dy, capsize=5, markersize=13, markeredgecolor="white", **look)
            for row in runs.to_dict("records"):
                gid = hover(*_about(row, metric, tasks))
                ax.plot(
                    row["ldd"],
                    row[metric],
                    linestyle="",
                    markersize=8,
                    alpha=0.45,
                    markeredgewidth=0,
                    gid=gid,
                    **look,
                )
        n = of_panel["ldd_n"].iloc[0]
        ax.locator_params(axis="x", nbins=5)
        ax.set_xlabel(f"log determinant distance at n = {n:.0f}\n(nats per example, lower is more diverse)")
        said = f"{budget_said(budget)}, {len(of_panel)} run{'' if len(of_panel) == 1 else 's'}"
        ax.set_title(f"{said}\n{of_context}" if of_context else said)
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    for ax in axes[::columns]:
        ax.set_ylabel(axis(metric))
    legend(figure, counted(measured, styles, ["budget", where]))
    alt = (
        f"Scatter plot of {len(measured)} runs: {METRICS[metric]} against the log determinant distance, "
        "with a mean and its 95 % t "
    )
    alt += f"intervals for each of {measured['label'].nunique()} ways of choosing"
    alt += f"; {len(groups)} panel{'' if len(groups) == 1 else 's'}, each of runs that compare."
    return Drawing("diversity_performance", alt, figure, hover.texts)


def _about(row: dict[str, Any], metric: str, tasks: pd.DataFrame | None) -> list[str]:
    """A run in a few lines: what it is, its numbers, the largest shares of its mixture."""
    lines = [
        str(row.get("run", row["label"])),
        f"{row['label']}, seed {row['seed']}",
        f"LDD {row['ldd']:.3f}, {METRICS[metric]} {row[metric]:.3f}",
    ]
    if tasks is not None and len(tasks) and "run" in tasks:
        mine = tasks[(tasks["run"] == row.get("run")) & (tasks["selected"] > 0)].sort_values(
            "share", ascending=False, kind="stable"
        )
        shown = mine.head(SAID_TASKS)
        lines += [f"{share:.0%} {task}" for task, share in zip(shown["task"], shown["share"], strict=True)]
        lines += [f"and {len(mine) - SAID_TASKS} more tasks"] if len(mine) > SAID_TASKS else []
    return lines
