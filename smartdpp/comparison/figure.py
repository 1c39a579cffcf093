"""One figure of a comparison: the distance by n; and for each dataset what is kept, how long it is and how
each measure ranks it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.comparison.compare import COLUMNS, Comparison
from smartdpp.figures import BLUE, COLORS, GREY, ORANGE, STYLE
from smartdpp.metrics import DIVERSITY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANKED = [name for name in DIVERSITY if name not in ("ldd_untruncated", "kept_share", "duplicate_share")]
NAMED = 6  # curves with a colour of their own: the most and the least diverse


def draw(found: Comparison, path: Path) -> Path:
    """Writes the figure as PNG."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure(found).savefig(path, dpi=120, metadata={"Software": None})
    return path


def figure(found: Comparison) -> Figure:
    """LDD curves on top; below, one line a dataset, most diverse first."""
    from matplotlib.figure import Figure

    table = found.table
    names = [
        f"{name}{' *' if small else ''}" for name, small in zip(table["set"], table["too_small"], strict=True)
    ]
    y = np.arange(len(names))
    whole = Figure(figsize=(19, 9 + 0.42 * len(names)), layout="constrained")
    top, bottom = whole.subfigures(2, 1, squeeze=False, height_ratios=(6.5, 2.5 + 0.42 * len(names)))[:, 0]

    ax = top.subplots()
    full = table.loc[~table["too_small"], "set"]
    ends = list(dict.fromkeys([*full[: NAMED // 2], *full[::-1][: NAMED // 2]]))
    for name, curve in found.curves.items():
        if name not in ends:
            ax.plot(np.arange(1, len(curve) + 1), curve, color="#CCCCCC", linewidth=1.2, zorder=1)
    for name, color in zip([name for name in table["set"] if name in ends], COLORS, strict=False):
        ax.plot(np.arange(1, len(found.curves[name]) + 1), found.curves[name], color=color, label=name)
    ax.axvline(found.n, color=GREY, linestyle="--", linewidth=1.5)
    ax.annotate(
        f"read at n = {found.n}",
        (found.n, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-8, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color=GREY,
    )
    ax.set_xlim(left=1)
    ax.set_ylim(bottom=min(0.0, min(float(curve.min()) for curve in found.curves.values())))
    ax.set_xlabel("n, examples in greedy order")
    ax.set_ylabel("log determinant distance\n(nats per example)")
    ax.set_title(
        f"Lower is more diverse: {len(names)} datasets of {found.rows} examples"
        + (" (* fewer)" if table["too_small"].any() else "")
    )
    ax.legend(
        title="most and least diverse" if len(names) > NAMED else None,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
    )

    kept, words, ranks = bottom.subplots(1, 3, sharey=True, width_ratios=(1, 1, 2.2))
    kept.barh(y, 100 * table["kept_share"], height=0.62, color=BLUE, label="kept")
    kept.plot(
        100 * table["duplicate_share"],
        y,
        linestyle="",
        marker="|",
        markersize=15,
        markeredgewidth=3,
        color=ORANGE,
        label="copies",
    )
    kept.set_yticks(y, names)
    kept.set_ylim(len(names) - 0.4, -0.6)
    kept.set_xlim(0, 100)
    kept.set_xlabel("share of examples (%)")
    kept.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    words.barh(y - 0.2, table["prompt_words"], height=0.36, color=GREY, label="prompt")
    words.barh(y + 0.2, table["response_words"], height=0.36, color=BLUE, label="response")
    words.set_xlabel("mean length (words)")
    words.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    shown = [name for name in RANKED if name in table and table[name].notna().any()]
    rank = np.column_stack(
        [table[name].rank(ascending=DIVERSITY[name].lower, method="min").to_numpy() for name in shown]
    )
    ranks.imshow(rank, cmap="viridis_r", aspect="auto", vmin=1, vmax=max(2, len(names)))
    for (i, j), r in np.ndenumerate(rank):
        if np.isfinite(r):
            ranks.text(
                j,
                i,
                f"{r:.0f}",
                ha="center",
                va="center",
                color="white" if r > 0.45 * len(names) else "black",
            )
    ranks.set_xticks(range(len(shown)), [COLUMNS[name][0] for name in shown], rotation=30, ha="left")
    ranks.xaxis.tick_top()
    ranks.tick_params(length=0)
    ranks.spines[:].set_visible(False)
    ranks.set_xlabel("rank by each measure (1: most diverse)")
    return whole
