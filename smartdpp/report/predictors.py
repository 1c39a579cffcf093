"""Diversity against performance, within a budget: every measure by how well it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.evaluation.intervals import CLAIM
from smartdpp.metrics import METRICS
from smartdpp.report.content import Block, Section, Table, Text
from smartdpp.report.numbers import heading
from smartdpp.study.correlations import LENGTH, MEASURES, RESAMPLES, deciding, reading, within_budgets
from smartdpp.study.results import Results, main_metric
from smartdpp.study.settings import plain

if TYPE_CHECKING:
    import pandas as pd


def section(results: Results, given: Sequence[str], outcome: str = "") -> list[Section]:
    """Against the main metric, or ``outcome``. Raises InputError where ``given`` names a column that no run
    logged."""
    import pandas as pd

    metric = outcome or main_metric(results.table)
    if missing := [name for name in given if name not in results.table]:
        raise InputError(
            f"report.given names {', '.join(missing)}, which no run logged; results.csv has "
            f"{', '.join(results.table)}"
        )
    controls = [(LENGTH,), *((name,) for name in given)]
    records, warnings = [], []
    for group in sorted(
        within_budgets(results, metric, controls),
        key=lambda group: np.nan_to_num(group.where["budget"], nan=np.inf),
    ):
        where = {heading(name): plain(value) for name, value in group.where.items()}
        if group.warning:
            named = (
                ", ".join(f"{name} {value}" for name, value in where.items() if value != "")
                or "without a budget"
            )
            warnings.append(f"{named}: {group.warning}")
        records += [
            where | _predictor(line, group.runs, metric, controls, _probes(results, group.runs))
            for line in group.ranking.to_dict("records")
        ]
    if not records and not warnings:
        return []
    intro = (
        f"Every measure against {METRICS[metric]}, one point a mixture, within a budget; the best "
        "predictor first."
    )
    blocks: list[Block] = [Text(intro)]
    if records:
        blocks += [
            Table(pd.DataFrame(records).fillna("")),
            Text(
                "LDD and copies: lower is more diverse; the other measures: higher. The last column reads "
                "the sign of r: whether more diverse mixtures have the better "
                f"{metric.replace('_', ' ')}, where the interval of r is clear of zero; of r within seeds, "
                f"where {CLAIM} seeds or more have it. Runs that trained on one mixture are one point, the "
                "mean of their scores. Brackets: 95 % intervals over mixtures, on each side the wider of "
                f"Fisher's z and the percentiles of {RESAMPLES} resamples. Mixtures of one strategy, or of "
                "one seed's pool, are not independent of each other, which makes them narrower than they "
                "should be; and of many measures the best one looks better than it is. Left out: the range "
                "of r when any one mixture, or any one strategy with all its mixtures, is. Within "
                "strategies: r of the mixtures' distances to their strategy's mean, which no unusual "
                "strategy makes. Within seeds: r among the mixtures of one seed, averaged over seeds, with "
                "a t interval over them."
            ),
        ]
    title = f"Diversity against {METRICS[outcome]}" if outcome else "Diversity against performance"
    return [Section(title, (*blocks, *(Text(warning) for warning in warnings)))]


def _predictor(
    line: dict[str, Any],
    runs: pd.DataFrame,
    metric: str,
    controls: Sequence[Sequence[str]],
    probes: set[str],
) -> dict[str, str]:
    names = {LENGTH: "mean response length"}
    return {
        "measure": _called(line["measure"], probes),
        "n mixtures": str(line["n"]),
        "n runs": str(line["runs"]),
        "n strategies": str(runs.loc[runs[line["measure"]].notna(), "label"].nunique()),
        "Pearson r": str(line["pearson"]),
        "Spearman ρ": str(line["spearman"]),
        "Kendall τ": str(line["kendall"]),
        **{
            f"Pearson r given {', '.join(names.get(c, c) for c in columns)}": str(
                line[f"given {', '.join(columns)}"]
            )
            for columns in controls
        },
        "r, one mixture left out": _range(*line["leave_one_out"]),
        "r, one strategy left out": _range(*line["leave_one_strategy_out"]),
        "r within strategies": str(line["within"]),
        "r within seeds": str(line["within_seeds"]),
        "more diverse is": reading(line["measure"], deciding(line), METRICS[metric].lower),
    }


def _probes(results: Results, runs: pd.DataFrame) -> set[str]:
    """The classes of the embeddings that diversity was measured in."""
    return {str(results.configs[at].get("probe._target_")).rpartition(".")[2] for at in runs.index}


def _called(measure: str, probes: set[str]) -> str:
    """The Vendi score of gradients is known as G-Vendi (arXiv 2505.20161)."""
    name = MEASURES[measure][0]
    return (
        f"{name} of gradients (G-Vendi)" if measure == "diversity_vendi" and probes == {"Gradient"} else name
    )


def _range(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{low:+.2f} to {high:+.2f}"
