"""A sweep's runs as a law sees them: weights of their mixtures, losses on the held-out tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.metrics import METRICS
from smartdpp.study.results import collect, main_metric


@dataclass(frozen=True)
class Sweep:
    tasks: list[str]  # M of the pool, by name
    W: np.ndarray  # float64[n, M], each run's shares
    targets: list[str]  # J held-out tasks
    L: np.ndarray  # float64[n, J], lower is better
    metric: str
    sizes: np.ndarray  # int64[M], rows in the pool
    budget: int  # rows of a mixture


def read(runs: list[Path]) -> Sweep:
    """InputError for runs that do not compare: other corpora, evaluations, budgets, models; or too few."""
    results = collect(runs)
    table, shares = results.table, results.shares
    if len(results.context):
        raise InputError(
            f"the runs differ in {', '.join(results.context)}: a law is of one corpus, model and evaluation"
        )
    kept = table[table["n"] > 0]
    if kept["n"].nunique() > 1:
        raise InputError(
            f"the runs' mixtures have {kept['n'].min():.0f} to {kept['n'].max():.0f} rows: a law is of one "
            "budget"
        )
    wide = shares.pivot_table(index="run", columns="task", values="share", aggfunc="first").fillna(0.0)
    kept = kept[kept["run"].isin(wide.index)]
    tasks = list(wide.columns)
    if len(kept) < (least := len(tasks) + 2):
        raise InputError(
            f"{len(kept)} finished runs with their mixtures at hand, and {len(tasks)} tasks: a law needs "
            f"{least} runs at least, and several times as many to be of use"
        )
    metric = main_metric(kept)
    columns = [name for name in kept if name.startswith(f"{metric}/")]
    sign = 1 if METRICS[metric].lower else -1
    sizes: Any = shares.groupby("task")["pool"].first().reindex(tasks)
    W = wide.loc[kept["run"]].to_numpy(np.float64)
    if len(np.unique(W.round(6), axis=0)) < 3:
        raise InputError("the runs have hardly any different mixtures: sweep strategy=dirichlet over seeds")
    return Sweep(
        tasks,
        W,
        [name.removeprefix(f"{metric}/") for name in columns],
        sign * kept[columns].to_numpy(np.float64),
        metric,
        sizes.to_numpy(np.int64),
        int(kept["n"].iloc[0]),
    )
