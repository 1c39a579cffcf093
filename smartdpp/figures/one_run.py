"""One run's figures: what its mixture is made of, what finetuning did to every held-out task, how diverse the
mixture is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.evaluation.scores import main_metric
from smartdpp.figures.drawing import Drawing, Hover
from smartdpp.figures.style import BLUE, GREY, ORANGE, SHOWN_TASKS, panels, style
from smartdpp.logs.visible import one_line
from smartdpp.metrics import METRICS
from smartdpp.run.folder import artifacts
from smartdpp.store.disk import read_json
from smartdpp.store.remote import file
from smartdpp.strategies.mixture import read_tasks

if TYPE_CHECKING:
    import pandas as pd


def of_run(run: Path) -> list[Drawing]:
    """A figure whose artifact is not there is left out."""
    at = artifacts(run)
    base, tuned = (
        file(at[name] / "scores.json") if name in at else None for name in ("base scores", "scores")
    )
    drawn = []
    with style():
        if "mixture" in at and (listed := file(at["mixture"] / "tasks.csv")).is_file():
            tasks = read_tasks(listed)
            if tasks["selected"].sum():
                drawn.append(_task_shares(tasks))
        if base and tuned and base.is_file() and tuned.is_file():
            before, after = read_json(base), read_json(tuned)
            drawn.append(_dumbbell(before, after))
            drawn += [
                _dumbbell(before["others"][name], its, name) for name, its in after.get("others", {}).items()
            ]
        if "diversity" in at and (written := file(at["diversity"] / "diversity.json")).is_file():
            measured = read_json(written)
            if measured.get("curve"):
                drawn.append(_diversity_curve(measured))
    return drawn


def _task_shares(tasks: pd.DataFrame) -> Drawing:
    """tasks: task, pool, selected, share."""
    tasks = tasks.assign(of_pool=tasks["pool"] / tasks["pool"].sum()).sort_values(
        "share", ascending=False, kind="stable"
    )
    shown, rest = tasks.head(SHOWN_TASKS), tasks.iloc[SHOWN_TASKS:]
    figure, (ax,) = panels(11, 2.6 + 0.36 * len(shown))
    hover, y = Hover(), np.arange(len(shown))
    bars = ax.barh(y, 100 * shown["share"], height=0.62, color=BLUE, label="in the mixture")
    for bar, row in zip(bars, shown.to_dict("records"), strict=True):
        taken = f"{row['selected']} of its {row['pool']} examples"
        bar.set_gid(
            hover(row["task"], taken, f"{row['share']:.1%} of the mixture, {row['of_pool']:.1%} of the pool")
        )
    ax.plot(
        100 * shown["of_pool"],
        y,
        linestyle="",
        marker="|",
        markersize=17,
        markeredgewidth=3,
        color=ORANGE,
        label="in the pool",
    )
    ax.set_yticks(y, [one_line(task) for task in shown["task"]])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel("share of examples (%)")
    more = (
        f"\nthe {SHOWN_TASKS} largest of {len(tasks)} tasks; the other {len(rest)} hold "
        f"{rest['share'].sum():.0%}"
        if len(rest)
        else ""
    )
    n, chosen = tasks["selected"].sum(), (tasks["selected"] > 0).sum()
    title = f"Mixture: n = {n} of {tasks['pool'].sum()} examples, {chosen} of {len(tasks)} tasks{more}"
    ax.set_title(title)
    figure.legend(loc="outside lower center", ncols=2)
    largest = ", ".join(
        f"{task} {share:.0%}"
        for task, share in zip(shown["task"].head(3), shown["share"].head(3), strict=True)
    )
    return Drawing(
        "task_shares", f"{title}. Bars of each task's share; the largest: {largest}.", figure, hover.texts
    )


def _dumbbell(base: dict[str, Any], tuned: dict[str, Any], evaluation: str = "") -> Drawing:
    """Two scores.json: what finetuning did to every held-out task; of the main evaluation, or of one beside
    it."""
    metric = main_metric(tuned["mean"])
    tasks = [
        task for task in tuned["tasks"] if metric in tuned["tasks"][task] and metric in base["tasks"][task]
    ]
    tasks.sort(key=lambda task: base["tasks"][task][metric], reverse=True)
    names = [f"{one_line(task)} (n = {tuned['tasks'][task]['n']})" for task in tasks] + ["mean over tasks"]
    before = np.array([base["tasks"][task][metric] for task in tasks] + [base["mean"][metric]])
    after = np.array([tuned["tasks"][task][metric] for task in tasks] + [tuned["mean"][metric]])
    figure, (ax,) = panels(11, 2.6 + 0.5 * len(names))
    hover, y = Hover(), np.arange(len(names), dtype=float)
    y[-1] += 0.4  # the mean stands apart
    ax.hlines(y, before, after, color="#BBBBBB", linewidth=4, zorder=1)
    hollow: dict[str, Any] = {"color": "white", "markeredgecolor": GREY, "markeredgewidth": 2.5}
    ax.plot(before, y, linestyle="", marker="o", markersize=12, label="base model", **hollow)
    ax.plot(after, y, linestyle="", marker="o", markersize=12, color=BLUE, label="finetuned")
    # an invisible point of its own, for the mouse
    for name, b, a, at in zip(names, before, after, y, strict=True):
        ax.plot(
            a,
            at,
            "o",
            markersize=16,
            alpha=0,
            gid=hover(name, f"{METRICS[metric]}: {b:.3f} before, {a:.3f} after", f"{a - b:+.3f}"),
        )
    ax.set_yticks(y, names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.05 * max(before.max(), after.max(), 1e-9))
    ax.set_xlabel(f"{METRICS[metric]}, {'lower' if METRICS[metric].lower else 'higher'} is better")
    n = sum(tuned["tasks"][task]["n"] for task in tasks)
    title = f"{evaluation}{': ' if evaluation else ''}{len(tasks)} tasks, n = {n} held-out documents"
    ax.set_title(title)
    figure.legend(loc="outside lower center", ncols=2)
    alt = (
        f"{title}: {METRICS[metric]} of the base model and after finetuning. Mean {before[-1]:.3f} before, "
        f"{after[-1]:.3f} after."
    )
    return Drawing(f"heldout_{evaluation}" if evaluation else "heldout", alt, figure, hover.texts)


def _diversity_curve(measured: dict[str, Any]) -> Drawing:
    """diversity.json: ``curve`` holds LDD_n for n = 1, 2, ..."""
    curve = np.asarray(measured["curve"], dtype=np.float64)
    figure, (ax,) = panels(10, 6)
    ax.axhline(0, color=GREY, linewidth=1.5, linestyle="--")
    ax.plot(np.arange(1, len(curve) + 1), curve, color=BLUE)
    n, value = measured["ldd_n"], measured["ldd"]
    ax.plot(n, value, marker="o", color=BLUE, clip_on=False)
    ax.annotate(
        f"{value:.3f} at n = {n}",
        (n, value),
        xytext=(-14, 6),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=BLUE,
    )
    ax.annotate(
        "uniform on the sphere",
        (len(curve), 0),
        xytext=(0, -8),
        textcoords="offset points",
        ha="right",
        va="top",
        color=GREY,
    )
    ax.set_xlim(1, max(2, len(curve)))
    ax.set_xlabel("n, examples in greedy order")
    ax.set_ylabel("log determinant distance\n(nats per example)")
    kept = f"at least {n}" if measured["kept"] is None else measured["kept"]  # greedy stopped at n
    title = f"Diversity: {kept} of {measured['size']} examples kept; lower is more diverse"
    ax.set_title(title)
    ax.margins(y=0.18)
    return Drawing(
        "diversity",
        f"{title}. The log determinant distance is {value:.3f} nats per example at n = {n}.",
        figure,
    )
