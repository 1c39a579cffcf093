"""What all figures share: colours and markers that colour-blind readers tell apart too, sizes for a slide,
and words for axes.

Colours are Okabe and Ito's, and a marker says again what a colour says. A colour belongs to one way of
choosing in all figures of a study.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#000000",
)
GREY = "#767676"  # what others are compared with: the pool, the base model
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SHOWN_TASKS = 20  # in one figure; it says of how many

Looks = dict[str, dict[str, Any]]  # label to colour and marker

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


@contextmanager
def style() -> Iterator[None]:
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield


def panels(
    width: float, height: float, rows: int = 1, columns: int = 1, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def looks(labels: Iterator[str] | Any) -> Looks:
    """A colour and a marker for each label: 7 x 7 distinct pairs, then again from the first."""
    pairs = ((i, color) for _ in MARKERS for i, color in enumerate(COLORS))
    every = [
        {"color": color, "marker": MARKERS[(i + k // len(COLORS)) % len(MARKERS)]}
        for k, (i, color) in enumerate(pairs)
    ]
    return dict(zip(labels, itertools.cycle(every), strict=False))


def axis(metric: str) -> str:
    return f"held-out {METRICS[metric]}, {'lower' if METRICS[metric].lower else 'higher'} is better"


def budget_said(budget: float) -> str:
    return f"budget {budget:.0f} examples"


def base_model(ax: Axes, results: pd.DataFrame, metric: str, *, across: bool = False) -> None:
    """Marks the base model where all runs share one: a line, or a note at the edge where a line would squeeze
    the runs together."""
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
            text,
            (place, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if upper else 6, -2),
            textcoords="offset points",
            ha="right" if upper else "left",
            va="top",
            color=GREY,
        )
    else:
        ax.annotate(
            text,
            (0.99, place),
            xycoords=("axes fraction", "data"),
            xytext=(0, -6 if upper else 6),
            textcoords="offset points",
            ha="right",
            va="top" if upper else "bottom",
            color=GREY,
        )


def legend(figure: Figure, entries: list[tuple[str, dict[str, Any]]], title: str = "n seeds") -> None:
    """Below the figure, which grows by its height: in columns that its width has room for."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=wrapped(label), **look) for label, look in entries]
    lines = [wrapped(label).split("\n") for label, _ in entries]
    widest = max(len(line) for label in lines for line in label) + 6
    columns = max(1, min(len(entries), int(figure.get_figwidth() * 9.2 / widest)))
    high = 0.6 + 0.3 * int(
        np.ceil(sum(len(label) for label in lines) / columns) + max(len(label) for label in lines) - 1
    )
    figure.set_figheight(figure.get_figheight() + high)
    figure.legend(handles=handles, loc="outside lower center", title=title, ncols=columns)


def counted(
    results: pd.DataFrame, styles: Looks, point: list[Any], level: Any = ()
) -> list[tuple[str, dict[str, Any]]]:
    """Legend entries: each label with the number of runs behind a point, runs with the same ``point``
    (columns or Series); those in ``level`` are level lines."""
    entries = []
    for label, runs in results.groupby("label", sort=False):
        sizes = runs.groupby(
            [by if isinstance(by, str) else by.loc[runs.index] for by in point], dropna=False
        ).size()
        n = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
        line = level_line(styles[label]) if label in level else {"linestyle": "", **styles[label]}
        entries.append((with_n(label, n), line))
    return entries


def level_line(look: dict[str, Any]) -> dict[str, Any]:
    """How a label looks that has no points of its own: lines of one colour differ in their dashes."""
    return {"color": look["color"], "linestyle": (":", "--", "-.")[MARKERS.index(look["marker"]) % 3]}


def with_n(label: str, n: Any) -> str:
    """A label and its n, which stay on one line."""
    return f"{label} (n\u00a0=\u00a0{n})"


def wrapped(label: str, width: int = 44) -> str:
    """A long label on several lines, broken between settings where that can be."""
    import textwrap

    # a space that must not break is one to textwrap only while it is looked at
    return textwrap.fill(
        label.replace("\u00a0", "\0"), width, break_long_words=False, break_on_hyphens=False
    ).replace("\0", " ")


def grid(count: int, most: int = 3) -> tuple[int, int]:
    """Rows and columns for so many panels, so many side by side at most."""
    columns = min(most, count)
    return int(np.ceil(count / columns)), columns
