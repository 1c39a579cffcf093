"""The figures of a run and of a study, as PNG.

One figure, one statement. Every axis names its unit and every title its n. Colours are Okabe and Ito's, told apart by colour-blind
readers too, and a marker says again what a colour says. A colour belongs to a strategy in all figures of a study.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.result import METRICS
from smartdpp.store import read_json
from smartdpp.summary import LABELS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
GREY = "#767676"  # what others are compared with: the pool, the base model
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SHOWN_TASKS = 20  # in one figure; the title says of how many

STYLE: dict[Any, Any] = {
    "font.size": 15,
    "axes.titlesize": 16,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.2,
    "lines.linewidth": 2.5,
    "lines.markersize": 10,
    "legend.frameon": False,
    "svg.hashsalt": "smartdpp",  # the same figure is the same file
    "svg.fonttype": "none",
    "text.parse_math": False,  # a task's name is data: its dollar signs stay dollar signs
}


def artifacts(run: Path) -> dict[str, Path]:
    """Where a run's artifacts lie: beside runs/ in store/, also when the whole root was moved or is read from another folder."""
    store = run.absolute().parent.parent / "store"
    listed = read_json(run / "artifacts.json") if (run / "artifacts.json").is_file() else {}
    return {name: store / Path(path).parent.name / Path(path).name for name, path in listed.items()}


def run_figures(run: Path, out: Path | None = None) -> list[Path]:
    """Draws one run into ``out`` (run/figures/): task shares, loss per held-out task, and the diversity curve where one was measured.

    A figure whose artifact is not there is left out; what was drawn is returned.
    """
    import pandas as pd

    at = artifacts(run)
    base, tuned = (at[name] / "scores.json" if name in at else None for name in ("base scores", "scores"))
    out = out or run / "figures"
    drawn = []
    if "mixture" in at and (at["mixture"] / "tasks.csv").is_file():
        tasks = pd.read_csv(at["mixture"] / "tasks.csv", keep_default_na=False)
        if tasks["selected"].sum():
            drawn.append(_save(out / "task_shares.png", _task_shares, tasks))
    if base and tuned and base.is_file() and tuned.is_file():
        drawn.append(_save(out / "heldout.png", _dumbbell, read_json(base), read_json(tuned)))
    if "diversity" in at and (at["diversity"] / "diversity.json").is_file():
        measured = read_json(at["diversity"] / "diversity.json")
        if measured.get("curve"):
            drawn.append(_save(out / "diversity.png", _diversity_curve, measured))
    return drawn


def study_figures(results: pd.DataFrame, out: Path, tasks: pd.DataFrame | None = None) -> list[Path]:
    """Draws a study into ``out``. Returns what was drawn: nothing where there is nothing to draw.

    results: one line per run as in results.csv; needed: strategy, budget, seed and a metric; used where present: ``label`` (what tells
    the curves apart; the strategy if absent), ``ldd`` at ``ldd_n``, ``<metric>_base``.
    tasks: one line per run and task: label, budget, task, pool, selected, share.
    """
    if results.empty:
        return []
    results = results if "label" in results else results.assign(label=results["strategy"])
    looks = dict(zip(results["label"].unique(), itertools.cycle(_looks()), strict=False))
    metric = main_metric(results)
    drawn = []
    measured = results.dropna(subset=["ldd", "budget"]) if "ldd" in results else results.iloc[:0]
    if len(measured):
        drawn.append(_save(out / "diversity_performance.png", _scatter, measured, metric, looks))
    if results["budget"].nunique() > 1:
        drawn.append(_save(out / "budget.png", _budget_curves, results, metric, looks))
    else:
        drawn.append(_save(out / "strategies.png", _dots, results, metric, looks))
    if tasks is not None and len(tasks):
        drawn.append(_save(out / "task_shares.png", _share_map, tasks))
    return drawn


def hover_scatter(results: pd.DataFrame, out: Path, tasks: pd.DataFrame | None = None) -> Path | None:
    """Diversity against performance as SVG: a browser shows a run's name, settings and mixture where the mouse rests on its point.

    Arguments as in ``study_figures``; None where no diversity was measured.
    """
    import io
    from xml.etree import ElementTree

    if results.empty or "ldd" not in results:
        return None
    results = results if "label" in results else results.assign(label=results["strategy"])
    measured = results.dropna(subset=["ldd", "budget"])
    if measured.empty:
        return None
    looks = dict(zip(results["label"].unique(), itertools.cycle(_looks()), strict=False))
    metric, buffer = main_metric(results), io.StringIO()
    with _style():
        _scatter(measured, metric, looks).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    tree = ElementTree.fromstring(buffer.getvalue())
    points = {f"run-{at}": row for at, row in zip(measured.index, measured.to_dict("records"), strict=True)}
    for group in tree.iter(f"{{{SVG}}}g"):
        if row := points.get(group.get("id", "")):
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = _about(row, metric, tasks)
            group.insert(0, title)
    path = out / "diversity_performance.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ElementTree.tostring(tree, encoding="unicode") + "\n", encoding="utf-8")
    return path


SVG = "http://www.w3.org/2000/svg"


def _about(row: dict[str, Any], metric: str, tasks: pd.DataFrame | None) -> str:
    """A run in a few lines: what it is, its numbers, the largest shares of its mixture."""
    lines = [
        str(row.get("run", row["label"])),
        f"{row['label']}, seed {row['seed']}",
        f"LDD {row['ldd']:.3f}, {LABELS[metric]} {row[metric]:.3f}",
    ]
    if tasks is not None and len(tasks) and "run" in tasks:
        mine = tasks[(tasks["run"] == row.get("run")) & (tasks["selected"] > 0)].sort_values("share", ascending=False, kind="stable")
        lines += [f"{share:.0%} {task}" for task, share in zip(mine["task"].head(8), mine["share"].head(8), strict=True)]
        lines += [f"and {len(mine) - 8} more tasks"] if len(mine) > 8 else []
    return "\n".join(lines)


def main_metric(results: pd.DataFrame) -> str:
    """The metric that the figures show: loss, or the first of the others that was scored."""
    return next(metric for metric in METRICS if metric in results)


def t_interval(values: Any) -> tuple[float, float]:
    """Mean of n values and half the width of its 95 % t interval; the latter is nan for n < 2."""
    from scipy.stats import t

    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    return float(values.mean()), float(t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan


def _looks() -> Iterator[dict[str, Any]]:
    """Colours with markers: 6 x 7 distinct pairs."""
    return ({"color": color, "marker": marker} for offset in range(len(MARKERS)) for color, marker in _shifted(offset))


def _shifted(offset: int) -> Iterator[tuple[str, str]]:
    return ((color, MARKERS[(i + offset) % len(MARKERS)]) for i, color in enumerate(COLORS))


@contextmanager
def _style() -> Iterator[None]:
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield


def _save(path: Path, draw: Any, *args: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _style():
        draw(*args).savefig(path, dpi=150, metadata={"Software": None})
    return path


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, sharey=True, squeeze=False)[0])


def _task_shares(tasks: pd.DataFrame) -> Figure:
    """tasks: task, pool, selected, share."""
    tasks = tasks.assign(of_pool=tasks["pool"] / tasks["pool"].sum()).sort_values("share", ascending=False, kind="stable")
    shown, rest = tasks.head(SHOWN_TASKS), tasks.iloc[SHOWN_TASKS:]
    figure, (ax,) = _figure(11, 2.6 + 0.36 * len(shown))
    y = np.arange(len(shown))
    ax.barh(y, 100 * shown["share"], height=0.62, color=BLUE, label="in the mixture")
    ax.plot(100 * shown["of_pool"], y, linestyle="", marker="|", markersize=17, markeredgewidth=3, color=ORANGE, label="in the pool")
    ax.set_yticks(y, shown["task"])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel("share of examples (%)")
    more = f"\nthe {SHOWN_TASKS} largest of {len(tasks)} tasks; the other {len(rest)} hold {rest['share'].sum():.0%}" if len(rest) else ""
    n, chosen = tasks["selected"].sum(), (tasks["selected"] > 0).sum()
    ax.set_title(f"Mixture: n = {n} of {tasks['pool'].sum()} examples, {chosen} of {len(tasks)} tasks{more}")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _dumbbell(base: dict[str, Any], tuned: dict[str, Any]) -> Figure:
    """Two scores.json: what finetuning did to every held-out task."""
    metric = next(name for name in METRICS if name in tuned["mean"])
    tasks = [task for task in tuned["tasks"] if metric in tuned["tasks"][task] and metric in base["tasks"][task]]
    tasks.sort(key=lambda task: base["tasks"][task][metric], reverse=True)
    names = [f"{task} (n = {tuned['tasks'][task]['n']})" for task in tasks] + ["mean over tasks"]
    before = np.array([base["tasks"][task][metric] for task in tasks] + [base["mean"][metric]])
    after = np.array([tuned["tasks"][task][metric] for task in tasks] + [tuned["mean"][metric]])
    figure, (ax,) = _figure(11, 2.6 + 0.5 * len(names))
    y = np.arange(len(names), dtype=float)
    y[-1] += 0.4  # the mean stands apart
    ax.hlines(y, before, after, color="#BBBBBB", linewidth=4, zorder=1)
    ax.plot(
        before, y, linestyle="", marker="o", markersize=12, color="white", markeredgecolor=GREY, markeredgewidth=2.5, label="base model"
    )
    ax.plot(after, y, linestyle="", marker="o", markersize=12, color=BLUE, label="finetuned")
    ax.set_yticks(y, names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.05 * max(before.max(), after.max(), 1e-9))
    ax.set_xlabel(f"{LABELS[metric]}, {'lower' if metric in LOSSES else 'higher'} is better")
    ax.set_title(f"{len(tasks)} held-out tasks, n = {sum(tuned['tasks'][task]['n'] for task in tasks)} documents")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


LOSSES = ("loss", "bits_per_byte")


def _diversity_curve(measured: dict[str, Any]) -> Figure:
    """diversity.json: ``curve`` holds LDD_n for n = 1, 2, ..."""
    curve = np.asarray(measured["curve"], dtype=np.float64)
    figure, (ax,) = _figure(10, 6)
    ax.axhline(0, color=GREY, linewidth=1.5, linestyle="--")
    ax.plot(np.arange(1, len(curve) + 1), curve, color=BLUE)
    n, value = measured["ldd_n"], measured["ldd"]
    ax.plot(n, value, marker="o", color=BLUE, clip_on=False)
    ax.annotate(f"{value:.3f} at n = {n}", (n, value), xytext=(-14, 6), textcoords="offset points", ha="right", va="bottom", color=BLUE)
    ax.annotate("uniform on the sphere", (len(curve), 0), xytext=(0, -8), textcoords="offset points", ha="right", va="top", color=GREY)
    ax.set_xlim(1, len(curve))
    ax.set_xlabel("n, examples in greedy order")
    ax.set_ylabel("log determinant distance\n(nats per example)")
    ax.set_title(f"Diversity: {measured['kept']} of {measured['size']} examples kept; lower is more diverse")
    ax.margins(y=0.18)
    return figure


def _scatter(results: pd.DataFrame, metric: str, looks: dict[str, Any]) -> Figure:
    """One panel per budget, as the distance grows with n: a run without a budget has no place here. Means carry 95 % t intervals."""
    groups = list(results.groupby("budget"))
    figure, panels = _figure(4 + 6 * len(groups), 7, len(groups))
    for ax, (budget, of_budget) in zip(panels, groups, strict=True):
        for label, runs in of_budget.groupby("label", sort=False):
            look = looks[label]
            for at, x, y in zip(runs.index, runs["ldd"], runs[metric], strict=True):
                ax.plot(x, y, linestyle="", markersize=8, alpha=0.45, markeredgewidth=0, gid=f"run-{at}", **look)
            (x, dx), (y, dy) = t_interval(runs["ldd"]), t_interval(runs[metric])
            if len(runs) > 1:
                ax.errorbar(x, y, xerr=dx, yerr=dy, capsize=5, markersize=13, markeredgecolor="white", **look)
        n = of_budget["ldd_n"].iloc[0]
        ax.locator_params(axis="x", nbins=5)
        ax.set_xlabel(f"log determinant distance at n = {n:.0f}\n(nats per example, lower is more diverse)")
        ax.set_title(f"{_budget(budget)}, {len(of_budget)} run{'' if len(of_budget) == 1 else 's'}")
    panels[0].set_ylabel(_axis(metric))
    _legend(figure, results, looks)
    return figure


def _budget_curves(results: pd.DataFrame, metric: str, looks: dict[str, Any]) -> Figure:
    """Mean and 95 % t interval over seeds against the budget, side by side; strategies without a budget are level lines."""
    figure, (ax,) = _figure(12, 7)
    budgets = np.sort(results["budget"].dropna().unique())
    groups = list(results.groupby("label", sort=False))
    apart = (budgets[-1] / budgets[0]) ** 0.008  # so that intervals of one budget do not hide each other
    for i, (label, runs) in enumerate(groups):
        if runs["budget"].isna().all():
            ax.axhline(runs[metric].mean(), color=looks[label]["color"], linestyle=":")
            continue
        points = [(budget, *t_interval(of_budget[metric])) for budget, of_budget in runs.groupby("budget")]
        x, y, half = np.array(points).T
        ax.errorbar(x * apart ** (i - (len(groups) - 1) / 2), y, yerr=half, capsize=5, **looks[label])
    ax.set_xscale("log")
    ax.set_xticks(budgets, [f"{budget:.0f}" for budget in budgets])
    ax.minorticks_off()
    _base_model(ax, results, metric)
    ax.set_xlabel("budget (examples, log scale)")
    ax.set_ylabel(_axis(metric))
    ax.set_title(f"Mean and 95 % t interval over n seeds, {len(results)} runs")
    _legend(figure, results, looks)
    return figure


def _dots(results: pd.DataFrame, metric: str, looks: dict[str, Any]) -> Figure:
    """One budget: every run, the mean over seeds and its 95 % t interval, best strategy on top."""
    order = results.groupby("label")[metric].mean().sort_values(ascending=metric in LOSSES)
    figure, (ax,) = _figure(11, 2.8 + 0.8 * len(order))
    names = []
    for y, label in enumerate(order.index):
        runs, look = results[results["label"] == label], looks[label]
        mean, half = t_interval(runs[metric])
        ax.plot(runs[metric], np.full(len(runs), y + 0.22), linestyle="", markersize=8, alpha=0.45, markeredgewidth=0, **look)
        ax.errorbar(mean, y, xerr=None if np.isnan(half) else half, capsize=6, markersize=13, **look)
        names.append(f"{label} (n = {len(runs)})")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    _base_model(ax, results, metric, across=True)
    ax.set_xlabel(_axis(metric))
    budgets = results["budget"].dropna()
    budget = f"{_budget(budgets.iloc[0])}, " if len(budgets) else ""
    ax.set_title(f"{budget}{len(results)} runs\nlarge: mean over n seeds, 95 % t interval; small: each run")
    return figure


def _share_map(tasks: pd.DataFrame) -> Figure:
    """Tasks by strategies: the share of the mixture in per cent, mean over seeds, at the largest budget; the pool's beside it."""
    budget = tasks["budget"].max()
    shown = tasks[(tasks["budget"] == budget) | tasks["budget"].isna()]
    shares = 100 * shown.pivot_table(index="task", columns="label", values="share", aggfunc="mean", fill_value=0.0, sort=False)
    in_pool = shown.groupby("task")["pool"].first()
    shares.insert(0, "pool", 100 * in_pool / in_pool.sum())
    total = len(shares)
    spread = (shares.max(axis=1) - shares.min(axis=1)).sort_values(ascending=False, kind="stable")
    shares = shares.loc[spread.head(SHOWN_TASKS).index]
    excess = shares.sub(shares["pool"], axis=0).to_numpy()
    figure, (ax,) = _figure(6 + 1.5 * shares.shape[1], 3 + 0.42 * len(shares))
    limit = max(float(np.abs(excess).max()), 1e-9)
    ax.imshow(excess, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), share in np.ndenumerate(shares.to_numpy()):
        ax.text(j, i, f"{share:.1f}", ha="center", va="center", color="white" if abs(excess[i, j]) > 0.7 * limit else "black")
    ax.set_xticks(range(shares.shape[1]), shares.columns, rotation=20, ha="left")
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(shares)), shares.index)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    which = f"the {len(shares)} of {total} tasks whose shares differ most" if total > len(shares) else f"{total} tasks"
    at = f" at {_budget(budget)}" if np.isfinite(budget) else ""
    figure.supxlabel(f"share of the mixture (%), mean over seeds{at}\n{which}\norange: more than in the pool, purple: less", fontsize=15)
    return figure


def _budget(budget: float) -> str:
    return f"budget {budget:.0f} examples"


def _axis(metric: str) -> str:
    return f"held-out {LABELS[metric]}, {'lower' if metric in LOSSES else 'higher'} is better"


def _base_model(ax: Axes, results: pd.DataFrame, metric: str, *, across: bool = False) -> None:
    """Marks the base model where all runs share one: a line, or a note at the edge where a line would squeeze the runs together."""
    base = results.get(f"{metric}_base")
    if base is None or base.nunique() != 1:
        return
    value = base.dropna().iloc[0]
    low, high = ax.get_xlim() if across else ax.get_ylim()
    far = 0.5 * (high - low)
    if low - far < value < high + far:
        (ax.axvline if across else ax.axhline)(value, color=GREY, linestyle="--", linewidth=2)
        text, place = f"base model {value:.3f}", value
    else:
        text, place = f"base model {value:.3f}, beyond this axis", high if value > high else low
        (ax.set_xlim if across else ax.set_ylim)(low, high)
    upper = place > (low + high) / 2
    if across:
        ax.annotate(
            text, (place, 1), xycoords=("data", "axes fraction"), xytext=(-6 if upper else 6, -2), textcoords="offset points",
            ha="right" if upper else "left", va="top", color=GREY,
        )  # fmt: skip
    else:
        ax.annotate(
            text, (0.99, place), xycoords=("axes fraction", "data"), xytext=(0, -6 if upper else 6), textcoords="offset points",
            ha="right", va="top" if upper else "bottom", color=GREY,
        )  # fmt: skip


def _legend(figure: Figure, results: pd.DataFrame, looks: dict[str, Any]) -> None:
    """Labels with the number of seeds behind them."""
    from matplotlib.lines import Line2D

    handles = []
    for label, runs in results.groupby("label", sort=False):
        level = runs["budget"].isna().all() and results["budget"].nunique() > 1
        seeds = runs.groupby("budget", dropna=False).size()
        n = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
        line = {"linestyle": ":", "color": looks[label]["color"]} if level else {"linestyle": "", **looks[label]}
        handles.append(Line2D([], [], label=f"{label} (n = {n})", **line))
    figure.legend(handles=handles, loc="outside right upper", title="n seeds", alignment="left")
