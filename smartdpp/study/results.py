"""Finished runs gathered into one table, with what tells them apart.

The table holds what the runs' result.json hold (``mixture_content`` always), and three things that need more
than one run: the settings in which the runs differ, seeds aside; a label made of them; and the log
determinant distance read at one n, without which it does not compare.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.metrics import METRICS, TOWARDS
from smartdpp.run.folder import artifacts
from smartdpp.run.result import scored
from smartdpp.run.sound import configuration
from smartdpp.store import remote
from smartdpp.store.disk import read_json
from smartdpp.strategies.mixture import read_tasks
from smartdpp.study.settings import labels, of_measure, of_strategy, plain, settings
from smartdpp.study.swept import alike

if TYPE_CHECKING:
    import pandas as pd

SEEDS = ["seed", "select_seed", "train_seed"]


SHARES = ["run", "label", "budget", "task", "pool", "selected", "share"]


@dataclass(frozen=True)
class Results:
    """Finished runs as one table, with what tells them apart."""

    table: pd.DataFrame  # one line per run: result.json, then the settings that differ, label, ldd and ldd_n
    settings: list[str]  # columns, other than strategy, budget and seeds, in which runs differ
    shares: pd.DataFrame  # one line per run and task: run, label, budget, task, pool, selected, share
    # the base model's main metric on each held-out task, where all runs share it
    base_tasks: dict[str, float]
    documents: int | None  # held-out documents, where all runs share them
    folders: list[Path]  # one per line of the table
    configs: list[dict[str, Any]]  # flat: ``strategy.tasks.lam`` to 0.4; empty where the file is gone
    evaluation: str = ""  # whose scores these are, where it is not a run's main one: see ``others``

    @property
    def context(self) -> list[str]:
        """The settings that all ways of choosing are compared under: model, corpus, ..."""
        return [name for name in self.settings if not of_strategy(name)]

    def trainings(self) -> Results:
        """Each training once: of runs that differ in nothing but how diversity was measured, the first. Their
        scores are the same."""
        names = [name for name in self.settings if not of_measure(name)]
        if len(names) == len(self.settings):
            return self
        apart = [name for name in ("strategy", "budget", *SEEDS, *names) if name in self.table]
        at = self.table.index[~self.table[apart].map(plain).duplicated()]
        table = self.table.loc[at].assign(label=labels(self.table.loc[at], names))
        shares = self.shares[self.shares["run"].isin(table["run"])]
        shares = shares.assign(label=shares["run"].map(table.set_index("run")["label"]))
        folders, configs = [self.folders[i] for i in at], [self.configs[i] for i in at]
        return replace(
            self,
            table=table.reset_index(drop=True),
            settings=names,
            shares=shares,
            folders=folders,
            configs=configs,
        )

    def others(self) -> list[Results]:
        """For each evaluation that runs have beside their main one, what it alone tells: its columns under
        the usual names."""
        if "evaluations" not in self.table:
            return []
        listed = self.table["evaluations"].fillna("").map(lambda names: names.split(","))
        return [
            self._other(name, listed.map(lambda names, name=name: name in names))
            for name in dict.fromkeys(listed.explode())
            if name
        ]

    def _other(self, name: str, has: pd.Series) -> Results:
        at = self.table.index[has]
        main = (
            {*METRICS, *self.table["score_metric"].dropna()} if "score_metric" in self.table else set(METRICS)
        )
        scores = tuple(
            f"{metric}{after}" for metric in main for after in ("_base", "_low", "_high", "_change", "/")
        )
        kept = [column for column in self.table if column not in main and not column.startswith(scores)]
        its = {
            column: column.removeprefix(f"{name}/") for column in self.table if column.startswith(f"{name}/")
        }
        kept = [column for column in kept if column not in its and column not in its.values()]
        table = (
            self.table.loc[at, [*kept, *its]]
            .rename(columns=its)
            .dropna(axis="columns", how="all")
            .reset_index(drop=True)
        )
        shares = self.shares[self.shares["run"].isin(table["run"])]
        folders = [self.folders[i] for i in at]
        base = _base_tasks(folders, main_metric(table), name)
        settings = [setting for setting in self.settings if setting in table]
        return Results(table, settings, shares, *base, folders, [self.configs[i] for i in at], name)


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """Each path if it is a run, or the runs in it. Raises InputError for a path that does not exist or holds
    no run."""
    found: list[Path] = []
    for path in map(remote.runs, paths):
        if not path.is_dir():
            raise InputError(
                f"{path} is a file: give run folders, or a study's YAML"
                if path.exists()
                else f"{remote.shown(path)}: there is no such file or folder"
            )
        runs = (
            [path]
            if _is_run(path)
            else sorted(child for child in path.iterdir() if child.is_dir() and _is_run(child))
        )
        if not runs:
            raise InputError(
                f"{remote.shown(path)}: no run in this folder; a run is a folder runs/<name> that run.py made"
            )
        found += runs
    return list(dict.fromkeys(found))


def _is_run(folder: Path) -> bool:
    try:
        return any(
            (folder / name).exists()
            for name in ("result.json", "artifacts.json", "error.txt", ".hydra/config.yaml")
        )
    except PermissionError:
        return True  # told as damaged


def collect(runs: list[Path]) -> Results:
    """Reads finished runs, but for those that were not evaluated. What lies in the store and is gone is left
    out; result.json alone is enough for the tables."""
    import pandas as pd

    read = {run: row for run in runs if scored(row := read_json(run / "result.json"))}
    runs, rows = list(read), list(read.values())
    table = _numbers(pd.DataFrame(rows))
    if table.empty:
        return Results(table, [], pd.DataFrame(), {}, None, [], [])
    configs = [_config(run) for run in runs]
    table["mixture_content"] = [_mixture(run, row) for run, row in zip(runs, rows, strict=True)]
    differing = settings(configs, rows)
    table = pd.concat([table, differing[[name for name in differing if name not in table]]], axis=1)
    names = [name for name in differing if name not in ("strategy", "budget")]
    table["budget"] = table["budget"].astype("float64")
    table["label"] = labels(table, names)
    table["total_s"] = table[[name for name in table if name.startswith("made_in/")]].sum(axis=1, min_count=1)
    table = _common_ldd(table, [name for name in names if not of_strategy(name)], runs)
    per_run = [
        share
        for run, row in zip(runs, table.to_dict("records"), strict=True)
        if len(share := _shares(run, row))
    ]
    shares = pd.concat(per_run, ignore_index=True) if per_run else pd.DataFrame(columns=SHARES)
    return Results(table, names, shares, *_base_tasks(runs, main_metric(table)), runs, configs)


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its measures as numbers, nan where a run does not know one: a column of nulls would be
    no numbers at all."""
    return table.assign(
        **{
            name: table[name].astype("float64")
            for name in table
            if name.startswith("diversity_") or name in TOWARDS
        }
    )


def _mixture(run: Path, row: dict[str, Any]) -> str:
    """The same for runs that trained on the same rows. Older runs do not say: of theirs, those with one
    artifact for their mixture."""
    return row.get("mixture_content") or artifacts(run).get("mixture", run).name


def main_metric(results: pd.DataFrame) -> str:
    """The metric that the figures show: loss, or the first of the others that was scored."""
    return next((metric for metric in METRICS if metric in results), None) or str(
        results["score_metric"].iloc[0]
    )


def _config(run: Path) -> dict[str, Any]:
    """The run's configuration, flat: ``strategy.tasks.lam`` to 0.4; lists stay values."""
    file = run / ".hydra" / "config.yaml"

    def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        pairs = ((f"{prefix}{key}", value) for key, value in node.items())
        return {
            k: v
            for key, value in pairs
            for k, v in (flat(value, f"{key}.") if isinstance(value, dict) else {key: value}).items()
        }

    return flat(configuration(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _common_ldd(table: pd.DataFrame, context: list[str], runs: list[Path]) -> pd.DataFrame:
    """Adds ``ldd``, the log determinant distance read at one ``ldd_n`` for all runs of a budget: it grows
    with n, so only then it compares.

    Where a curve is gone from the store, result.json's value serves if it was read at that n.
    """
    if "diversity_ldd" not in table:
        return table
    table = table.assign(ldd=np.nan, ldd_n=np.nan)
    curves = [_curve(run) for run in runs]
    measured = table[table["diversity_ldd"].notna()]
    for _, group in measured.groupby(alike(measured, ["budget", *context])):
        n = int(group["diversity_ldd_n"].min())
        table.loc[group.index, "ldd_n"] = n
        for i in group.index:
            if len(curves[i]) >= n:
                table.loc[i, "ldd"] = curves[i][n - 1]
            elif table.loc[i, "diversity_ldd_n"] == n:
                table.loc[i, "ldd"] = table.loc[i, "diversity_ldd"]
    return table


def _curve(run: Path) -> list[float]:
    file = remote.file(artifacts(run).get("diversity", run) / "diversity.json")
    return read_json(file).get("curve", []) if file.is_file() else []


def _shares(run: Path, row: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    file = remote.file(artifacts(run).get("mixture", run) / "tasks.csv")
    if not row["n"] or not file.is_file():
        return pd.DataFrame(columns=SHARES)
    return read_tasks(file).assign(run=row["run"], label=row["label"], budget=row["budget"])[SHARES]


def _base_tasks(runs: list[Path], metric: str, evaluation: str = "") -> tuple[dict[str, float], int | None]:
    """The base model's scores, if all runs were compared with the same; by the main evaluation, or one beside
    it."""
    files = {artifacts(run).get("base scores", run) / "scores.json" for run in runs}
    if len(files) > 1 or not (file := remote.file(next(iter(files)))).is_file():
        return {}, None
    found = read_json(file)
    tasks = (found["others"][evaluation] if evaluation else found)["tasks"]
    return {task: scores[metric] for task, scores in tasks.items() if metric in scores}, sum(
        scores["n"] for scores in tasks.values()
    )
