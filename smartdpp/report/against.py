"""Against a baseline: paired by seed and by document, with intervals, and corrected for how many comparisons
there are.

What is compared are mixtures. Two ways that chose the same ones are one comparison, and a way that chose the
baseline's is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.evaluation.intervals import (
    CLAIM,
    FEWEST_WAYS,
    Difference,
    Spread,
    holm,
    influence,
    moderated,
    paired_difference,
)
from smartdpp.evaluation.scores import RATIOS
from smartdpp.figures.dots import against
from smartdpp.figures.style import Looks, budget_said, style
from smartdpp.metrics import METRICS
from smartdpp.report.content import Picture, Section, Table, Text
from smartdpp.report.numbers import best_first, columns, described, metrics, p_value, signed
from smartdpp.run.folder import artifacts
from smartdpp.store.remote import file
from smartdpp.study.power import would_show
from smartdpp.study.results import SEEDS, Results
from smartdpp.study.settings import labels, of_strategy, plain, short
from smartdpp.study.swept import alike

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 40  # rows of the figure; above, the largest budget's alone


def section(
    results: Results, baselines: tuple[str, ...], looks: Looks, documents: Documents
) -> list[Section]:
    """One section for each baseline, of two baselines in the first's alone; one family of comparisons for the
    correction: all of them, under the main metric."""
    found: dict[str, list[dict[str, Any]] | str] = {}
    for name in baselines:
        found[name] = _compare(
            results,
            name,
            [before for before, compared in found.items() if not isinstance(compared, str)],
            documents,
        )
    lines = [line for compared in found.values() if not isinstance(compared, str) for line in compared]
    adjusted = _corrected(lines)
    sections = []
    for baseline, compared in found.items():
        if isinstance(compared, str):
            sections += [Section(_title(baseline), (Text(compared),))] if compared else []
            continue
        p_holm = np.array(
            [adjusted.get(line["same"], np.nan) if _counts(line) else np.nan for line in compared]
        )
        sections.append(_section(results, compared[0]["baseline"], compared, p_holm, len(adjusted), looks))
    return sections


@dataclass(frozen=True)
class Compared:
    """A way of choosing against the baseline, as the section shows it."""

    values: tuple[Any, ...]  # of ``columns(results)``
    runs: tuple[str, ...]
    difference: Difference  # the way minus the baseline, in the main metric
    p_holm: float  # within its panel; nan for fewer than CLAIM pairs, and for the baseline's own mixtures


def compared(results: Results, baseline: str, documents: Documents) -> list[Compared]:
    """Each way against one baseline, a budget and context at a time a family of comparisons; none without
    finished runs of both."""
    lines = _compare(results, baseline, [], documents)
    if isinstance(lines, str):
        return []
    panels: dict[Any, list[dict[str, Any]]] = {}
    for line in lines:
        panels.setdefault(line["panel"], []).append(line)
    adjusted = {(panel, same): p for panel, own in panels.items() for same, p in _corrected(own).items()}
    return [
        Compared(
            line["by"],
            tuple(line["group"]["run"]),
            line["difference"],
            adjusted.get((line["panel"], line["same"]), np.nan) if _counts(line) else np.nan,
        )
        for line in lines
    ]


def _corrected(lines: Sequence[dict[str, Any]]) -> dict[Any, float]:
    """p after Holm's correction for all the comparisons that there are, by what they are of."""
    family = {line["same"]: line["difference"].p for line in reversed(lines) if _counts(line)}
    family = {same: p for same, p in family.items() if np.isfinite(p)}
    return dict(zip(family, holm(list(family.values())).tolist(), strict=True))


def _counts(line: dict[str, Any]) -> bool:
    return not line["itself"] and line["difference"].seeds >= CLAIM


def _title(baseline: str) -> str:
    return f"Against {baseline}, seed by seed"


def _compare(
    results: Results, baseline: str, before: Sequence[str], documents: Documents
) -> list[dict[str, Any]] | str:
    """One line a setting: ``by`` values, the Difference in the main metric, those in the others; or why there
    is none. Strategies that were compared with all others ``before`` are not compared again.

    Where all runs are of the baseline's strategy, its first setting is the baseline; where it was run in
    several settings, the others are paired with the one that is like them (the same number of tasks).
    """
    import pandas as pd

    table, own = (
        results.table[results.table["n"] > 0],
        [name for name in results.settings if of_strategy(name)],
    )
    base, others = table[table["strategy"] == baseline], table[table["strategy"] != baseline]
    if base.empty:
        return f"There is no finished run of {baseline} to compare with." if len(others) else ""
    if len(others) and (others := others[~others["strategy"].isin(before)]).empty:
        return ""
    shared, against = results.context, baseline
    if others.empty:
        setting = alike(table, own)
        base, others = table[setting == setting.iloc[0]], table[setting != setting.iloc[0]]
        against = labels(base, own)[0]
        if others.empty:
            return ""
    if base.duplicated(["budget", *shared, *SEEDS]).any():
        both = [name for name in own if base[name].notna().all() and others[name].notna().any()]
        shared, others = [*shared, *both], others.dropna(subset=both)
    if base.duplicated(["budget", *shared, *SEEDS]).any():
        return f"{baseline} was run in several settings of its own, so there is no one run to pair with."
    shown = metrics(table)
    # a strategy without a budget (the full pool) is compared at every budget of the baseline
    keys = ["budget", *shared, *SEEDS]
    for name in [one for one in ("budget", "budget_tokens") if one in keys]:
        without = others[name].isna()
        free = others[without].drop(columns=name).merge(base[[name]].drop_duplicates(), how="cross")
        others = pd.concat([others[~without], free])
        if base[name].isna().all():  # and a baseline without one with every budget
            keys.remove(name)
    pairs = others.merge(
        base[[*keys, "run", "mixture_content", *shown]], on=keys, suffixes=("", "_of_baseline")
    )
    if pairs.empty:
        return f"No finished run shares its seed with one of {baseline} yet."
    pairs = pairs.dropna(subset=[shown[0], f"{shown[0]}_of_baseline"])  # of evaluations without it
    if pairs.empty:
        return f"No run that shares its seed with one of {baseline} has {METRICS[shown[0]]}."
    by = columns(results)
    lines = [
        {
            "baseline": against,
            "by": values,
            "group": group,
            "same": _same(group, results.context),
            "itself": _itself(group),
        }
        | {"panel": tuple(plain(group[name].iloc[0]) for name in ("budget", *shared))}
        for values, group in best_first(pairs, by, shown[0])
    ]
    spreads = _spreads(lines, shown[0])
    return [
        line
        | {
            "difference": _difference(
                line["group"], shown[0], documents, spreads.get((line["panel"], line["same"]))
            )
        }
        | {metric: _difference(line["group"], metric, None) for metric in shown[1:]}
        for line in lines
    ]


def _same(group: pd.DataFrame, context: list[str]) -> tuple[Any, ...]:
    """What a comparison is of: the seeds, and the mixtures of both sides under them. Equal for two ways that
    chose the same ones."""
    pairs = group[[*SEEDS, "mixture_content", "mixture_content_of_baseline"]].itertuples(
        index=False, name=None
    )
    return (*(plain(group[name].iloc[0]) for name in context), tuple(sorted(pairs)))


def _itself(group: pd.DataFrame) -> bool:
    return bool((group["mixture_content"] == group["mixture_content_of_baseline"]).all())


def _spreads(lines: list[dict[str, Any]], metric: str) -> dict[Any, Spread | None]:
    """How each comparison varies over seeds, steadied by the others with the same runs of the baseline
    (``moderated``)."""
    panels: dict[Any, dict[Any, dict[Any, float]]] = {}
    for line in lines:
        if not line["itself"]:
            differences = (line["group"][metric] - line["group"][f"{metric}_of_baseline"]).dropna()
            seeds = line["group"].loc[differences.index, SEEDS].itertuples(index=False, name=None)
            panels.setdefault(line["panel"], {}).setdefault(
                line["same"], dict(zip(seeds, differences.tolist(), strict=True))
            )
    return {
        (panel, same): spread
        for panel, ways in panels.items()
        for same, spread in zip(ways, moderated(list(ways.values())), strict=True)
    }


class Documents:
    """Each run's documents under a metric, read once: what each adds to the run's macro-average. Empty where
    the samples are gone."""

    def __init__(self, folders: dict[str, Path], evaluation: str) -> None:
        self.folders, self.evaluation = folders, evaluation
        self.kept: dict[tuple[str, str], dict[tuple[str, str], float]] = {}

    @classmethod
    def of_all(cls, results: Results) -> Documents:
        return cls(dict(zip(results.table["run"], results.folders, strict=True)), results.evaluation)

    def of(self, run: str, metric: str) -> dict[tuple[str, str], float]:
        if (run, metric) not in self.kept:
            samples = file(
                artifacts(self.folders[run]).get("scores", self.folders[run])
                / self.evaluation
                / "samples.jsonl"
            )
            self.kept[run, metric] = read_influence(samples, metric) if samples.is_file() else {}
        return self.kept[run, metric]

    def differences(self, run: str, baseline: str, metric: str) -> dict[tuple[str, str], float]:
        mine, its = self.of(run, metric), self.of(baseline, metric)
        return {key: value - its[key] for key, value in mine.items()} if mine.keys() == its.keys() else {}


def read_influence(file: Path, metric: str) -> dict[tuple[str, str], float]:
    """What each document of samples.jsonl adds to the macro-average of a metric. Only the fields needed are
    parsed."""
    import pyarrow as pa
    from pyarrow import json

    numerator, denominator, scale = RATIOS.get(metric, (metric, metric, 1.0))
    fields = {"task": pa.string(), "id": pa.string(), numerator: pa.float64(), denominator: pa.float64()}
    options = json.ParseOptions(
        explicit_schema=pa.schema(list(fields.items())), unexpected_field_behavior="ignore"
    )
    table = json.read_json(file, read_options=json.ReadOptions(block_size=2**24), parse_options=options)
    value, size = (
        np.nan_to_num(table[name].to_numpy().astype(np.float64), nan=-1.0)
        for name in (numerator, denominator)
    )
    has = (table[numerator].is_valid().to_numpy()) & (table[denominator].is_valid().to_numpy())
    if metric not in RATIOS:
        size = np.ones(len(value))
    keys = list(zip(table["task"].to_pylist(), table["id"].to_pylist(), strict=True))
    return influence(keys, scale * np.where(has, value, 0.0), np.where(has, size, 0.0))


def _difference(
    group: pd.DataFrame, metric: str, documents: Documents | None, spread: Spread | None = None
) -> Difference | None:
    both = group[group[metric].notna() & group[f"{metric}_of_baseline"].notna()]
    if both.empty:
        return None
    by_document = (
        [
            documents.differences(a, b, metric)
            for a, b in zip(both["run"], both["run_of_baseline"], strict=True)
        ]
        if documents
        else []
    )
    complete = by_document if all(by_document) else []
    return paired_difference((both[metric] - both[f"{metric}_of_baseline"]).tolist(), complete, spread)


def _section(
    results: Results,
    baseline: str,
    compared: list[dict[str, Any]],
    p_holm: np.ndarray,
    family: int,
    looks: Looks,
) -> Section:
    import pandas as pd

    shown, by = metrics(results.table), columns(results)
    records = []
    for line, adjusted in zip(compared, p_holm, strict=True):
        found: Difference = line["difference"]
        record = described(by, line["by"]) | {"pairs": str(found.seeds)}
        if line["itself"]:
            records.append(record | {"reading": f"the same mixtures as {baseline}, no comparison"})
            continue
        record |= {f"Δ {METRICS[shown[0]]}": signed(found.mean, found.half)}
        record |= {"± over seeds": _half(found.half_seeds), "± over documents": _half(found.half_documents)}
        record |= {
            "p": p_value(found.p if found.seeds >= CLAIM else np.nan),
            "p (Holm)": p_value(adjusted),
            "reading": _reading(found, adjusted, shown[0], family),
        }
        others = {f"Δ {METRICS[metric]}": line[metric] for metric in shown[1:]}
        records.append(record | {name: signed(d.mean, d.half) for name, d in others.items() if d})
    frame = pd.DataFrame(records).fillna("")
    frame = frame[[name for name in frame if name != "reading"] + ["reading"]]
    texts = [Text(note)] if (note := _note(compared, baseline, family, shown)) else []
    if not (apart := [(line, p) for line, p in zip(compared, p_holm, strict=True) if not line["itself"]]):
        return Section(_title(baseline), (Table(frame), *texts))
    picture = _picture(results, baseline, [line for line, _ in apart], [p for _, p in apart], shown[0], looks)
    return Section(_title(baseline), (picture, Table(frame), *texts))


def _note(compared: list[dict[str, Any]], baseline: str, family: int, shown: list[str]) -> str:
    """What the columns are and what the readings follow from."""
    apart = [line for line in compared if not line["itself"]]
    if not apart:
        return ""
    documents, fewest = (
        max(line["difference"].documents for line in apart),
        min(line["difference"].seeds for line in apart),
    )
    note = (
        f"Mean over pairs of runs with the same seed, minus {baseline}. Δ {METRICS[shown[0]]}: ± is the 95 "
        "% t interval over seeds"
    )
    note += (
        f" and the {documents} documents together, both paired; beside it each alone. "
        if documents
        else "; no samples were found. "
    )
    ways: dict[Any, set[Any]] = {}
    for line in apart:
        ways.setdefault(line["panel"], set()).add(line["same"])
    if max(map(len, ways.values())) >= FEWEST_WAYS:
        note += (
            "How much a way varies over seeds is estimated from all ways that are compared with the same "
            "runs, never below its own. "
        )
    if repeated := len(apart) - sum(map(len, ways.values())):
        note += f"{repeated} of these ways chose the same mixtures as another one here, and count once. "
    note += (
        f"p (Holm): corrected for all {family} comparisons with baselines here; the reading goes by it, at "
        "0.05, and what would show is meant after it. "
        if family
        else ""
    )
    note += "The other differences: over seeds alone, not corrected. " if len(shown) > 1 else ""
    note += (
        f"A claim needs {CLAIM} seeds: from fewer, differences and their intervals are shown and nothing is "
        "claimed."
        if fewest < CLAIM
        else ""
    )
    return note.strip()


def _picture(
    results: Results,
    baseline: str,
    compared: list[dict[str, Any]],
    p_holm: Sequence[float],
    metric: str,
    looks: Looks,
) -> Picture:
    import pandas as pd

    several = results.table["budget"].nunique() > 1
    lines = []
    for line, adjusted in zip(compared, p_holm, strict=True):
        row, found = line["group"].iloc[0], line["difference"]
        where = [budget_said(row["budget"])] if several and row["budget"] == row["budget"] else []
        where += [f"{short(name)} {plain(row[name])}" for name in results.context]
        lines.append(
            {
                "panel": ", ".join(where),
                "label": row["label"],
                "budget": row["budget"],
                "mean": found.mean,
                "half": found.half,
            }
            | {
                "p_holm": adjusted if found.seeds >= CLAIM else np.nan,
                "seeds": found.seeds,
                "documents": found.documents,
            }
        )
    frame = pd.DataFrame(lines)
    caption = ""
    if len(frame) > SHOWN and several:
        caption = (
            f"The largest budget's {int((frame['budget'] == frame['budget'].max()).sum())} of {len(frame)} "
            "comparisons; the table has all."
        )
        frame = frame[frame["budget"] == frame["budget"].max()]
    with style():
        return Picture(against(frame, baseline, metric, looks), caption)


def _half(half: float) -> str:
    return "" if np.isnan(half) else f"{half:.3f}"


def _reading(found: Difference, p_holm: float, metric: str, family: int) -> str:
    return undecided(found, p_holm, family, "no difference shown") or (
        "better" if (found.mean < 0) == METRICS[metric].lower else "worse"
    )


def undecided(found: Difference, p_holm: float, family: int, nothing: str) -> str:
    """What is read where nothing may be claimed: too few seeds, or ``nothing`` and what would have shown
    after the correction for a ``family`` of comparisons; "" where it may."""
    if found.seeds < CLAIM:
        return f"no claim from {found.seeds} seed{'s' if found.seeds > 1 else ''}: it needs {CLAIM}"
    if p_holm < 0.05 and found.mean != 0:
        return ""
    shows = would_show(found.half, found.seeds, family)
    return nothing + ("" if np.isnan(shows) else f"; {shows:.2g} would show in 8 of 10 such studies")
