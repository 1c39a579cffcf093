"""One budget: every run, the mean over seeds and its interval; and what is left of it against a baseline."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.evaluation.intervals import plus_minus, t_interval
from smartdpp.figures.drawing import Drawing, Hover
from smartdpp.figures.style import GREY, Looks, axis, base_model, budget_said, panels, with_n, wrapped
from smartdpp.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd


def by_strategy(results: pd.DataFrame, metric: str, styles: Looks) -> Drawing:
    """Best way of choosing on top."""
    order = results.groupby("label")[metric].mean().sort_values(ascending=METRICS[metric].lower)
    figure, (ax,) = panels(11, 2.8 + 0.8 * len(order))
    names, hover = [], Hover()
    for y, label in enumerate(order.index):
        runs, look = results[results["label"] == label], styles[label]
        mean, half = t_interval(runs[metric])
        for row in runs.to_dict("records"):
            gid = hover(
                str(row.get("run", label)), f"seed {row['seed']}: {METRICS[metric]} {row[metric]:.3f}"
            )
            ax.plot(
                row[metric],
                y + 0.22,
                linestyle="",
                markersize=8,
                alpha=0.45,
                markeredgewidth=0,
                gid=gid,
                **look,
            )
        bar = ax.errorbar(mean, y, xerr=None if np.isnan(half) else half, capsize=6, markersize=13, **look)
        seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
        bar.lines[0].set_gid(hover(label, f"mean of {seeds}: {mean:.3f}{plus_minus(half)}"))
        names.append(wrapped(with_n(label, len(runs))))
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    base_model(ax, results, metric, across=True)
    ax.set_xlabel(axis(metric))
    budgets = results["budget"].dropna()
    budget = f"{budget_said(budgets.iloc[0])}, " if len(budgets) else ""
    ax.set_title(f"{budget}{len(results)} runs\nlarge: mean over n seeds, 95 % t interval; small: each run")
    ranked = ", ".join(f"{label} {mean:.3f}" for label, mean in order.items())
    return Drawing(
        "strategies",
        f"Dot plot of {METRICS[metric]} for {len(order)} ways of choosing, best first: {ranked}.",
        figure,
        hover.texts,
    )


def against(differences: pd.DataFrame, baseline: str, metric: str, styles: Looks) -> Drawing:
    """Paired differences to a baseline with their intervals, panel by panel.

    differences: one line per setting and budget: panel, label, mean, half, p_holm, seeds, documents.
    """
    groups, hover = list(differences.groupby("panel", sort=False)), Hover()
    sizes = [len(group) for _, group in groups]
    figure, axes = panels(
        11,
        1.8 + 0.55 * sum(sizes) + 1.1 * len(groups),
        len(groups),
        1,
        sharex=True,
        height_ratios=[n + 1 for n in sizes],
    )
    for ax, (title, group) in zip(axes, groups, strict=True):
        ax.axvline(0, color=GREY, linestyle="--", linewidth=2)
        for y, row in enumerate(group.to_dict("records")):
            look, known = styles[row["label"]], not np.isnan(row["half"])
            holds = known and row["p_holm"] < 0.05
            face = look["color"] if holds else "white"
            bar = ax.errorbar(
                row["mean"],
                y,
                xerr=row["half"] if known else None,
                capsize=6,
                markersize=13,
                markerfacecolor=face,
                markeredgewidth=2.5,
                **look,
            )
            corrected = (
                f"p = {row['p_holm']:.2g} after Holm"
                if not np.isnan(row["p_holm"])
                else "too few seeds for a claim"
            )
            n = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
            n += f", {row['documents']} documents" if row["documents"] else ""
            bar.lines[0].set_gid(
                hover(
                    f"{row['label']} minus {baseline}",
                    f"{row['mean']:+.3f}{plus_minus(row['half'])}",
                    corrected,
                    f"n = {n}",
                )
            )
        ax.set_yticks(
            range(len(group)),
            [wrapped(with_n(label, n)) for label, n in zip(group["label"], group["seeds"], strict=True)],
        )
        ax.set_ylim(len(group) - 0.4, -0.6)
        ax.set_title(title)
    better = "to the left is better" if METRICS[metric].lower else "to the right is better"
    said = wrapped(f"difference in {METRICS[metric]} to {baseline}, {better}", 68)
    figure.supxlabel(f"{said}\nfilled: still shown after Holm's correction; n: pairs of seeds")
    shown = int((differences["p_holm"] < 0.05).sum())
    alt = (
        f"Paired differences in {METRICS[metric]} to {baseline} with 95 % intervals: {len(differences)} "
        "comparisons, "
    )
    return Drawing(
        re.sub(r"\W+", "_", f"against_{baseline}").strip("_"),
        f"{alt}{shown} of which still differ after Holm's correction.",
        figure,
        hover.texts,
    )
