"""Dose and response: whether the main metric rises or falls along each number that a study swept, world by
world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.evaluation.intervals import CLAIM, Difference, holm
from smartdpp.metrics import METRICS
from smartdpp.report.against import Documents, undecided
from smartdpp.report.content import Block, Section, Table, Text
from smartdpp.report.numbers import metrics, p_value, signed
from smartdpp.study.lines import lines, logarithmic
from smartdpp.study.results import SEEDS, Results
from smartdpp.study.settings import plain, short
from smartdpp.study.swept import numbers
from smartdpp.study.trend import slope

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3  # values: a slope of two is a difference, which is compared elsewhere
DIGITS = 4  # of a slope, which is a part of a difference


@dataclass(frozen=True)
class Line:
    """The worlds of one way of choosing that have a run at every value of it."""

    panel: str
    label: str
    values: tuple[float, ...]
    y: Mapping[tuple[Any, ...], np.ndarray]  # seeds to the metric at each value
    runs: Mapping[tuple[Any, ...], list[str]]
    partial: int  # worlds that lack a value

    @property
    def x(self) -> np.ndarray:
        return np.log2(self.values) if logarithmic(self.values) else np.array(self.values)


def section(results: Results, documents: Documents) -> list[Section]:
    """One section for each number that was swept over at least FEWEST values."""
    table = results.table[results.table["n"] > 0]
    if table.empty:
        return []
    metric = metrics(results.table)[0]
    sections = []
    for swept in numbers(table, results.settings):
        if found := list(_lines(lines(table, results, swept), swept, metric)):
            sections.append(_section(found, swept, metric, documents))
    return sections


def _lines(shown: pd.DataFrame, swept: str, metric: str) -> Iterator[Line]:
    numbered = shown.dropna(subset=[swept, metric])
    for (panel, label), runs in numbered.groupby(["panel", "label"], sort=False):
        values = np.sort(runs[swept].unique())
        if len(values) < FEWEST:
            continue
        worlds = {seeds: of_world.sort_values(swept) for seeds, of_world in runs.groupby(SEEDS)}
        whole = {seeds: of_world for seeds, of_world in worlds.items() if len(of_world) == len(values)}
        yield Line(
            str(panel),
            str(label),
            tuple(values),
            {seeds: of_world[metric].to_numpy() for seeds, of_world in whole.items()},
            {seeds: of_world["run"].tolist() for seeds, of_world in whole.items()},
            len(worlds) - len(whole),
        )


def _section(every: list[Line], swept: str, metric: str, documents: Documents) -> Section:
    name, found = short(swept), [line for line in every if line.y]
    left_out = _left_out(every)
    if not found:
        return Section(f"Trend along {name}", (Text(left_out),))
    blocks: list[Block] = [
        _table([(line, _of(line, metric, documents), None) for line in found], name, metric)
    ]
    first = {line.panel: line for line in reversed(found)}
    between = [
        (line, apart, first[line.panel])
        for line in found
        if line is not first[line.panel] and (apart := _apart(line, first[line.panel], metric, documents))
    ]
    if between:
        blocks.append(_table(between, name, metric))
    note = (
        f"Least squares within the runs of one seed, then the mean over seeds: of {METRICS[metric]}, ± the "
        "95 % t interval over seeds and documents together. Spearman's ρ is the mean over seeds. p (Holm): "
        "corrected for all trends of a table; the reading goes by it, at 0.05. "
        f"A claim needs {CLAIM} seeds."
    )
    return Section(f"Trend along {name}", (*blocks, Text(" ".join(filter(None, (note, left_out))))))


def _left_out(found: Sequence[Line]) -> str:
    """How many worlds have no trend, and which lines none at all; "" where all have."""
    partial = sum(line.partial for line in found)
    if not partial:
        return ""
    worlds = partial + sum(len(line.y) for line in found)
    none = [", ".join(filter(None, (line.panel, line.label))) for line in found if not line.y]
    return f"Left out, as a run at one of their values is missing: {partial} of {worlds} worlds" + (
        f", all of {'; '.join(none)}." if none else "."
    )


def _of(line: Line, metric: str, documents: Documents) -> Difference:
    influences = [[documents.of(run, metric) for run in runs] for runs in line.runs.values()]
    return slope(line.x, np.array(list(line.y.values())), influences)


def _apart(line: Line, first: Line, metric: str, documents: Documents) -> Difference | None:
    """The line's slope minus the first's, over the seeds of both; None without any, or along other values."""
    both = [seeds for seeds in line.y if seeds in first.y]
    if not both or line.values != first.values:
        return None
    y = np.array([line.y[seeds] - first.y[seeds] for seeds in both])
    influences = [
        [
            documents.differences(one, other, metric)
            for one, other in zip(line.runs[seeds], first.runs[seeds], strict=True)
        ]
        for seeds in both
    ]
    return slope(line.x, y, influences)


def _table(found: Sequence[tuple[Line, Difference, Line | None]], name: str, metric: str) -> Table:
    """Lines, or lines minus the one beside each; one family of comparisons."""
    import pandas as pd

    p_holm = holm([one.p if one.seeds >= CLAIM else np.nan for _, one, _ in found])
    family, records = int(np.isfinite(p_holm).sum()), []
    for (line, one, other), p in zip(found, p_holm, strict=True):
        span, step = float(np.ptp(line.x)), "doubling" if logarithmic(line.values) else f"1 of {name}"
        ends = f"{plain(line.values[0])} to {plain(line.values[-1])}"
        records.append(
            ({"panel": line.panel} if any(line.panel for line, _, _ in found) else {})
            | {"line": f"{line.label} minus {other.label}" if other else line.label, "seeds": str(one.seeds)}
            | {"values": str(len(line.values)), f"Δ per {step}": signed(one.mean, one.half, DIGITS)}
            | {f"Δ from {ends}": signed(span * one.mean, span * one.half)}
            | ({} if other else {"Spearman ρ": _rho(line)})
            | {"p": p_value(one.p if one.seeds >= CLAIM else np.nan), "p (Holm)": p_value(p)}
            | {"reading": _reading(one, p, metric, name, family, bool(other))}
        )
    return Table(pd.DataFrame(records).fillna(""))


def _rho(line: Line) -> str:
    """The mean over seeds, of those whose values are not all the same."""
    from scipy.stats import spearmanr

    found = [spearmanr(line.x, y)[0] for y in line.y.values() if np.ptp(y) > 0]
    return f"{np.mean(found):+.2f}" if found else ""


def _reading(one: Difference, p_holm: float, metric: str, name: str, family: int, between: bool) -> str:
    if unsure := undecided(one, p_holm, family, "no difference shown" if between else "no trend shown"):
        return unsure
    if between:
        return f"rises {'faster, or falls more slowly' if one.mean > 0 else 'more slowly, or falls faster'}"
    return f"{'better' if (one.mean < 0) == METRICS[metric].lower else 'worse'} as {name} rises"
