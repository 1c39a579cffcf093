"""What a pilot has found: a paragraph, a table, a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.evaluation.intervals import Difference, paired_difference
from smartdpp.figures.style import BLUE, GREY, panels, style
from smartdpp.metrics import METRICS
from smartdpp.pilot.cells import BOUND, RANDOM, Asked
from smartdpp.pilot.sequential import ALPHA, LOOKS, as_good, level, verdict
from smartdpp.report.against import Documents
from smartdpp.report.content import Table
from smartdpp.report.markdown import table as markdown
from smartdpp.report.numbers import p_value, signed
from smartdpp.study.power import would_show
from smartdpp.study.results import collect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHOICE = ("embedding", "probe", "query", "signals", "mixture")  # stages that a choice costs


@dataclass(frozen=True)
class Found:
    asked: Asked
    metric: str
    base: float  # the metric of the model untouched
    random: float  # and after training on a random mixture, the mean over seeds
    gains: dict[str, Difference]  # of each other way over random; positive is better
    seconds: dict[str, float]  # what choosing costs, of the whole pool
    pool: int
    matters: float
    dear: bool  # the price was reached
    minutes: float
    bound: Difference | None = None  # the nearest rows' gain over random, no way that is judged
    training: float = 0.0  # seconds for one row of a mixture, with all its epochs
    full: int | None = None  # rows of the mixture that is meant to be trained on
    left_out: tuple[str, ...] = ()  # ways whose training diverged

    @classmethod
    def of(
        cls,
        asked: Asked,
        folders: Mapping[str, list[Path]],
        matters: float,
        dear: bool,
        minutes: float,
        full: int | None = None,
        left_out: tuple[str, ...] = (),
    ) -> Found:
        results = {way: collect(list(dict.fromkeys(runs))) for way, runs in folders.items()}
        table = results[RANDOM].table
        metric = str(table["score_metric"].iloc[0])
        sign = -1.0 if METRICS[metric].lower else 1.0
        documents = Documents(
            {
                run: folder
                for one in results.values()
                for run, folder in zip(one.table["run"], one.folders, strict=True)
            },
            "",
        )
        gains = {}
        for way, one in results.items():
            if way != RANDOM:
                pairs = one.table.merge(table, on="seed", suffixes=("", "_of_random"))
                by_seed = (sign * (pairs[metric] - pairs[f"{metric}_of_random"])).tolist()
                adds = [
                    {key: sign * value for key, value in documents.differences(a, b, metric).items()}
                    for a, b in zip(pairs["run"], pairs["run_of_random"], strict=True)
                ]
                gains[way] = paired_difference(by_seed, adds if all(adds) else [])
        bound = gains.pop(BOUND, None)
        cost = {
            way: float(
                sum(
                    one.table[f"made_in/{stage}"].max() for stage in CHOICE if f"made_in/{stage}" in one.table
                )
            )
            for way, one in results.items()
        }
        return cls(
            asked,
            metric,
            float(table[f"{metric}_base"].mean()),
            float(table[metric].mean()),
            gains,
            cost,
            int(table["n_pool"].iloc[0]),
            matters,
            dear,
            minutes,
            bound,
            float((table["made_in/adapter"] / table["n"]).mean()) if "made_in/adapter" in table else 0.0,
            full,
            left_out,
        )


def told(found: Found) -> tuple[str, Figure]:
    """The page, and its figure."""
    return (
        f"# Would selection pay here?\n\n{answer(found)}\n\n{markdown(_table(found))}\n\n{_notes(found)}\n",
        _figure(found),
    )


def answer(found: Found) -> str:
    """The paragraph."""
    said, unit = (
        verdict(found.gains, found.matters),
        METRICS[found.metric].unit or METRICS[found.metric].label,
    )
    seeds = next(iter(found.gains.values())).seeds
    several = f"{seeds} seed{'s' if seeds > 1 else ''}"
    tried = f"{found.asked.budget} of {found.pool} rows, {several}, {found.minutes:.0f} minutes"
    if said.state == "select" and seeds in LOOKS:
        way = as_good(found.gains, said.better, found.seconds)
        gain = found.gains[way]
        return (
            f"**Yes: {way}.** It gains {signed(gain.mean, gain.half)} {unit} over random rows, which gain "
            f"{abs(found.random - found.base):.3f} over no training ({tried}). Choosing from the whole pool "
            f"took {found.seconds[way]:.0f} s.{_price(found)}"
        )
    most = max(gain.mean + gain.half for gain in found.gains.values())
    if said.state == "random" and seeds in LOOKS:
        return (
            f"**Take random rows.** No way that was tried gains as much as {found.matters:g} {unit}: the "
            f"largest gain that the results leave room for is {most:.3f} ({tried}).{_price(found)}"
        )
    why = "the price is reached" if found.dear else f"{LOOKS[-1]} seeds are the most"
    take = f"**Not decided, and {why}: take random rows until more is known.**"
    if not np.isfinite(most):
        return f"{take} Give it more minutes ({tried})."
    possible = f"{take} Gains up to {most:.3f} {unit} are possible"
    if seeds not in LOOKS:
        return f"{possible}; nothing is called between two looks ({tried})."
    comparisons = ALPHA / (2 * level(seeds) / len(found.gains))  # as many share a two-sided 0.05
    shown = max(would_show(gain.half, gain.seeds, comparisons) for gain in found.gains.values())
    return f"{possible}; at this look one of {shown:.3f} would have shown in 8 of 10 such pilots ({tried})."


def _price(found: Found) -> str:
    """What the mixture that is meant costs, where its size is told: the training, in proportion to its
    rows."""
    if found.full is None:
        return ""
    hours = found.full * found.training / 3600
    return f" Training on {found.full} rows would take {hours:.1f} hours on this machine, however chosen."


def _table(found: Found) -> Table:
    import pandas as pd

    unit = METRICS[found.metric].heading
    rows = [
        {
            "way": way,
            f"gain over random, {unit}": signed(gain.mean, gain.half),
            "p": p_value(gain.p),
            "seconds to choose": f"{found.seconds[way]:.0f}",
        }
        for way, gain in sorted(found.gains.items(), key=lambda item: -item[1].mean)
    ]
    if found.bound:
        rows.append(
            {
                "way": f"{BOUND} alone, as a bound",
                f"gain over random, {unit}": signed(found.bound.mean, found.bound.half),
                "p": "not judged",
                "seconds to choose": f"{found.seconds[BOUND]:.0f}",
            }
        )
    return Table(pd.DataFrame(rows))


def _notes(found: Found) -> str:
    documents = next(iter(found.gains.values())).documents
    heading = METRICS[found.metric].heading
    return (
        f"{heading[:1].upper()}{heading[1:]}: {found.base:.3f} before any training, {found.random:.3f} after "
        f"{found.asked.budget} random rows, on {documents} rows of the target that no way of choosing saw. ± "
        f"is the 95 % interval over seeds and documents. Called better at {ALPHA}, one-sided, shared out "
        f"among {len(LOOKS)} looks and {len(found.gains)} ways. It holds for this pool, budget and recipe; "
        "a larger budget usually leaves less to gain."
        + (f" Left out, as training diverged: {', '.join(found.left_out)}." if found.left_out else "")
    )


def _figure(found: Found) -> Figure:
    ways = sorted(found.gains, key=lambda way: found.gains[way].mean)
    shown = ([(f"{BOUND} (bound)", found.bound)] if found.bound else []) + [
        (way, found.gains[way]) for way in ways
    ]
    with style():
        figure, (ax,) = panels(10, 2.5 + 0.7 * len(shown))
        for y, (_, gain) in enumerate(shown):
            color, marker = (GREY, "s") if gain is found.bound else (BLUE, "o")
            ax.errorbar(gain.mean, y, xerr=gain.half, fmt=marker, color=color, capsize=5, markersize=11)
        ax.axvline(0, color=GREY, linewidth=1.5)
        ax.axvline(found.matters, color=GREY, linewidth=1.5, linestyle="--")
        ax.set_yticks(range(len(shown)), [name for name, _ in shown])
        ax.set_ylim(-0.6, len(shown) - 0.4)
        ax.set_xlabel(f"gain over random ({METRICS[found.metric].heading}); dashed: what would matter")
    return figure
