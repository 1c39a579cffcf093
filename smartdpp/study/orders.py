"""Do two scores prefer the same ways of choosing? And does a judge prefer the answer that its task's own
rules score higher?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.evaluation.scores import read_samples
from smartdpp.metrics import METRICS
from smartdpp.run.folder import artifacts
from smartdpp.store.remote import file
from smartdpp.study.correlations import Statistic, kendall, spearman
from smartdpp.study.results import SEEDS, Results
from smartdpp.study.swept import alike

if TYPE_CHECKING:
    import pandas as pd

COMPARED = ("loss", "task_score", "exact_match", "win_rate", "lc_win_rate")
FEWEST = 3  # ways that make an order


@dataclass(frozen=True)
class Pair:
    """Two scores under one budget and context; each correlation is over the ways, once for each seed."""

    where: dict[str, Any]
    scores: tuple[str, str]  # columns
    ways: int
    spearman: list[float]
    kendall: list[float]
    of_means: float  # Kendall's τ between the means over seeds; nan where one is the same for all ways


def columns(table: pd.DataFrame) -> dict[str, str]:
    """The column of each compared metric: a run's main evaluation's, or the first beside it that has one."""
    found = {}
    for metric in COMPARED:
        named = [name for name in table if name == metric or name.endswith(f"/{metric}")]
        beside = set(table["evaluations"].dropna().str.split(",").explode()) if "evaluations" in table else {}
        named = [name for name in named if name == metric or name.partition("/")[0] in beside]
        known = [name for name in named if name.count("/") <= 1 and table[name].notna().any()]
        if known:
            found[metric] = min(known, key=lambda name: name != metric)
    return found


def pairs(results: Results) -> Iterator[Pair]:
    """Every two scores, where runs were judged. Only seeds under which all ways were scored count."""
    table = results.table[results.table["n"] > 0]
    found = columns(table)
    if "win_rate" not in found:
        return
    keys = ["budget", *results.context]
    for _, group in table.groupby(alike(table, keys), sort=False):
        for one, other in combinations(found, 2):
            both = [
                _oriented(group, found[metric], METRICS[metric].lower).dropna() for metric in (one, other)
            ]
            shared = both[0].index.intersection(both[1].index)
            a, b = (score.loc[shared].to_numpy(float) for score in both)
            if len(shared) and a.shape[1] >= FEWEST:
                yield Pair(
                    {key: group[key].iloc[0] for key in keys},
                    (found[one], found[other]),
                    a.shape[1],
                    _each(spearman, a, b),
                    _each(kendall, a, b),
                    float(kendall(np.stack([a.mean(0), b.mean(0)])[None])[0]),
                )


def _oriented(group: pd.DataFrame, column: str, lower: bool) -> pd.DataFrame:
    """Seeds x ways, more being better."""
    seeds = [name for name in SEEDS if name in group]
    found = group.pivot_table(index=seeds, columns="label", values=column)
    return found.reindex(columns=sorted(group["label"].unique())) * (-1 if lower else 1)


def _each(statistic: Statistic, a: np.ndarray, b: np.ndarray) -> list[float]:
    """Over the ways float64[seeds, ways] of each seed, where neither score is the same for all."""
    found = statistic(np.stack([a, b], axis=1))
    return found[~np.isnan(found)].tolist()


@dataclass(frozen=True)
class Scored:
    """One run's judged answers whose score by the task's own rules is known."""

    answers: int
    rho: float  # Spearman's, of preference and score, over answers; nan where either is the same for all
    worse: int  # answers that score below a reference that is right
    seen: float  # the share of those where the judge prefers the reference, a tie being half; nan for none


def judged_and_scored(run: Path, evaluation: str) -> Scored | None:
    """Joins a judge's samples with another evaluation's scores of the very same answers; None where there are
    none."""
    folder = artifacts(run).get("scores", run)
    judged = file(folder / evaluation / "samples.jsonl")
    others = [file(path) for path in (folder / "samples.jsonl", *sorted(folder.glob("*/samples.jsonl")))]
    scores = {
        (one["task"], one["id"], one["generation"]): one["task_score"]
        for path in others
        if path.is_file()
        for one in read_samples(path)
        if one.get("task_score") is not None
    }
    found = [
        (one["win_rate"], score, one["reference"] == one["target"])
        for one in (read_samples(judged) if judged.is_file() else [])
        if one.get("win_rate") is not None
        and (score := scores.get((one["task"], one["id"], one["generation"]))) is not None
    ]
    if not found:
        return None
    preference, score, right = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    rho = float(spearman(np.stack([preference, score])[None])[0])
    worse = (right == 1) & (score < 1)
    seen = np.sign(0.5 - preference[worse]) / 2 + 0.5
    return Scored(len(found), rho, int(worse.sum()), float(seen.mean()) if worse.any() else nan)
