"""Trackers mirror a finished run elsewhere. The run's own files are the truth: a tracker that fails loses nothing and says so."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from smartdpp.store import read_json

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wandb:
    """One log at the end of a run: configuration, scores, diversity, the task table and the figures; offline unless asked.

    With the runs finished before it in the same folder it also logs diversity against performance: the runs as a table with their
    mixtures, which wandb plots with a tooltip, and each measure's correlations.
    """

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "smartdpp"
    group: str | None = None

    def log(self, run: Path) -> None:
        import pandas as pd
        import wandb
        import yaml

        from smartdpp.figures import artifacts, run_figures

        config = yaml.safe_load((run / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
        settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
        try:
            session = wandb.init(
                project=self.project,
                group=self.group,
                name=run.name,
                id=run.name,
                resume="allow",
                dir=str(run),
                mode=self.mode,
                config=config,
                settings=settings,
            )
        except (wandb.errors.Error, OSError) as error:
            log.warning("wandb could not start (%s): the results are in %s", error, run)
            return
        try:
            tasks = pd.read_csv(artifacts(run)["mixture"] / "tasks.csv")
            figures = {path.stem: wandb.Image(str(path)) for path in run_figures(run)}
            session.log({**read_json(run / "result.json"), "mixture": wandb.Table(dataframe=tasks), **figures})
            runs, correlations = diversity_performance(run)
            if len(runs):
                table, metric = wandb.Table(dataframe=runs), runs.columns[-1]
                session.log({"diversity/runs": wandb.plot.scatter(table, "ldd", metric, title="diversity against performance")})
            if len(correlations):
                session.log({"diversity/correlations": wandb.Table(dataframe=correlations)})
        finally:
            session.finish()


def diversity_performance(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The finished runs comparable with this one, one line each, their metric last; and each diversity measure's correlations with it.

    Both are empty where the run has no diversity or stands alone.
    """
    import pandas as pd

    from smartdpp.correlate import MEASURES, within_budgets
    from smartdpp.figures import main_metric
    from smartdpp.gather import collect

    results = collect(sorted(path.parent for path in run.parent.glob("*/result.json")))
    metric = main_metric(results.table)
    for group in within_budgets(results, metric):
        if run.name not in set(group.runs["run"]) or len(group.runs) == 1:
            continue
        shares = results.shares[results.shares["selected"] > 0].sort_values("share", ascending=False, kind="stable")
        mixtures = {
            name: ", ".join(f"{task} {share:.0%}" for task, share in zip(of["task"], of["share"], strict=True))
            for name, of in shares.groupby("run")
        }
        measures = [name for name in MEASURES if name in group.runs]
        runs = group.runs[["run", "label", "seed", "budget", *measures, metric]].copy()
        runs.insert(4, "mixture", runs["run"].map(mixtures).fillna(""))
        ranking = group.ranking.assign(warning=group.warning) if len(group.ranking) else group.ranking
        for name in ranking.columns:
            if name not in ("measure", "n", "warning"):
                ranking[name] = [str(value) for value in ranking[name]]
        return runs, ranking
    return pd.DataFrame(), pd.DataFrame()


@dataclass(frozen=True)
class NoTracker:
    """Nothing is mirrored."""

    def log(self, run: Path) -> None:
        return
