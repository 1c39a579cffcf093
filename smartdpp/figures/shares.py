"""Ways of choosing by settings: the share of the oracle's gain that each reaches, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.evaluation.intervals import CLAIM
from smartdpp.figures.drawing import Drawing
from smartdpp.figures.style import BLUE, GREY, VERMILION, panels, wrapped

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LOW, HIGH = -1.0, 2.0  # beyond it an interval ends in an arrow


def leaderboard(frame: pd.DataFrame, settings: Mapping[str, str]) -> Drawing:
    """One panel a setting, one line a way, best on top: at 0 chance, at 100 % choosing by the truth.

    frame: way, setting, share, share_low, share_high, p_holm; rows in the order of the lines; those without a
    share, as the oracle's, are left out. settings, each with a share: name to what is said beneath it.
    """
    told = frame[frame["share"].notna()]
    ways = list(told["way"].unique())
    low = max(LOW, min(-0.2, told["share_low"].min() - 0.1))
    high = min(HIGH, max(1.15, told["share_high"].max() + 0.1))
    # wide enough for each panel's title
    width = max(11, 2.6 + 2.1 * len(settings))
    figure, axes = panels(width, 2.9 + 0.62 * len(ways), 1, len(settings), sharey=True)
    for ax, (name, said) in zip(axes, settings.items(), strict=True):
        ax.set_title(f"{wrapped(name, 21)}\n{said}", fontsize=13)
        ax.axvline(0, color=GREY, linewidth=1.5)
        ax.axvline(1, color=GREY, linewidth=1.5, linestyle="--")
        ax.set_xlim(low, high)
        step = 0.5 if high - low < 1.8 else 1.0
        ticks = [tick for tick in np.arange(LOW, HIGH + step, step) if low <= tick <= high]
        ax.set_xticks(ticks, [f"{100 * tick:.0f}" for tick in ticks], fontsize=13)
        own = told[told["setting"] == name]
        for row in own.to_dict("records"):
            _point(ax, ways.index(row["way"]), row, (low, high))
        for y in (y for y, way in enumerate(ways) if way not in set(own["way"])):
            ax.plot(0.5, y, marker="_", color="#bbbbbb", markersize=12)
    axes[0].set_yticks(range(len(ways)), [way.replace("_", " ") for way in ways])
    axes[0].set_ylim(len(ways) - 0.5, -0.7)
    figure.supxlabel(
        "share of the oracle's gain (%), 95 % interval; 0: chance, dashed: the oracle\n"
        f"filled: differs from chance after Holm's correction (from {CLAIM} worlds on); –: not run there",
        fontsize=13,
    )
    best = [
        f"in {name}: "
        + ", ".join(f"{row['way']} {100 * row['share']:.0f} %" for row in of.to_dict("records"))
        for name, of in told.groupby("setting", sort=False)
    ]
    alt = (
        f"Share of the oracle's gain over chance that {len(ways)} ways of choosing reach; {'; '.join(best)}."
    )
    return Drawing("leaderboard", alt, figure)


def _point(ax: Axes, y: int, row: Mapping[str, Any], ends: tuple[float, float]) -> None:
    shown = row["p_holm"] < 0.05
    color = VERMILION if row["share"] < 0 else BLUE
    value = float(np.clip(row["share"], *ends))
    left, right = (float(np.clip(row[end], *ends)) for end in ("share_low", "share_high"))
    ax.plot([left, right], [y, y], color=color, solid_capstyle="butt")
    for end, at, marker in ((left, "share_low", 8), (right, "share_high", 9)):  # carets, at a cut
        if not ends[0] <= row[at] <= ends[1]:
            ax.plot(end, y, marker=marker, color=color, markersize=9, clip_on=False)
    ax.plot(
        value,
        y,
        marker="o" if value >= 0 else "s",
        markersize=12,
        color=color,
        markerfacecolor=color if shown else "white",
        markeredgewidth=2.5,
    )
    ax.annotate(
        f"{100 * row['share']:.0f}",
        (value, y),
        xytext=(0, 10),
        textcoords="offset points",
        ha="center",
        fontsize=13,
        color=color,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )
