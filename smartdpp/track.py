"""Trackers mirror a finished run, and a study's report, elsewhere.

The files are the truth: a tracker that fails loses nothing and says so. Runs of a study share a group, named after its YAML, and the report
is a run of that group too, with the tables and figures of report.html.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smartdpp import remote
from smartdpp.report.content import Fold, Picture, Table
from smartdpp.store import read_json

if TYPE_CHECKING:
    import pandas as pd

    from smartdpp.report.content import Block, Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wandb:
    """One log at the end of a run: configuration, scores, diversity, the task table and the figures; offline unless asked.

    group: the study's name where none is given.

    With the runs finished before it in the same folder it also logs diversity against performance: the runs as a table with their
    mixtures, which wandb plots with a tooltip, and each measure's correlations.
    """

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "smartdpp"
    group: str | None = None

    def log(self, run: Path) -> None:
        import wandb
        import yaml

        from smartdpp.figures import run_figures
        from smartdpp.gather import artifacts
        from smartdpp.mixture import read_tasks

        config = yaml.safe_load((run / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
        with self._session(run.name, run, config=config) as session:
            if session is None:
                return
            tasks = read_tasks(remote.file(artifacts(run)["mixture"] / "tasks.csv"))
            figures = {path.stem: wandb.Image(str(path)) for path in run_figures(run)}
            session.log({**read_json(run / "result.json"), "mixture": wandb.Table(dataframe=tasks), **figures})
            runs, correlations = diversity_performance(run)
            if len(runs):
                table, metric = wandb.Table(dataframe=runs), runs.columns[-1]
                session.log({"diversity/runs": wandb.plot.scatter(table, "ldd", metric, title="diversity against performance")})
            if len(correlations):
                session.log({"diversity/correlations": wandb.Table(dataframe=correlations)})

    def log_report(self, name: str, report: Report, out: Path) -> None:
        """The report of the study ``name``, written into ``out``: the page, and its tables and figures under their sections' titles."""
        import wandb

        with self._session(f"report-{name}", out, job_type="report", notes=report.title) as session:
            if session is None:
                return
            logged: dict[str, Any] = {"report": wandb.Html((out / "report.html").read_text(encoding="utf-8"), inject=False)}
            logged |= {f"cells/{state}": count for state, count in report.states.items()}
            for section in report.sections:
                for key, block in _named(section.title, section.blocks):
                    logged[key] = (
                        wandb.Table(dataframe=block.frame.astype(str))
                        if isinstance(block, Table)
                        else wandb.Image(str(out / f"{block.drawing.name}.png"), caption=block.drawing.alt)
                    )
            session.log(logged)

    @contextmanager
    def _session(self, name: str, folder: Path, **more: Any) -> Iterator[Any]:
        """A wandb run that is always finished; None, with a warning, where wandb could not start."""
        import wandb

        settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
        try:
            session = wandb.init(
                project=self.project,
                group=self.group or study_name(),
                name=name,
                id=re.sub(r"[^\w-]", "_", name),
                resume="allow",
                dir=str(folder),
                mode=self.mode,
                settings=settings,
                **more,
            )
        except (wandb.errors.Error, OSError) as error:
            log.warning("wandb could not start (%s): the results are in %s", error, folder)
            yield None
            return
        try:
            yield session
        finally:
            session.finish()


def study_name() -> str | None:
    """The study that this run is a cell of, if it is one: the primary configuration that Hydra was started with."""
    from hydra.core.hydra_config import HydraConfig

    name = HydraConfig.get().job.config_name if HydraConfig.initialized() else None
    return None if name == "config" else name


def _named(title: str, blocks: tuple[Block, ...]) -> Iterator[tuple[str, Table | Picture]]:
    """Each table and figure with the name it gets: the titles above it; a number where several tables share them."""
    tables = 0
    for block in blocks:
        if isinstance(block, Fold):
            yield from _named(f"{title}/{block.title}", block.blocks)
        elif isinstance(block, Picture):
            yield f"{title}/{block.drawing.name}", block
        elif isinstance(block, Table) and len(block.frame):
            tables += 1
            yield f"{title}/table" + (f" {tables}" if tables > 1 else ""), block


def diversity_performance(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The finished runs comparable with this one, one line each, their metric last; and each diversity measure's correlations with it.

    Both are empty where the run has no diversity or stands alone.
    """
    import pandas as pd

    from smartdpp.correlate import MEASURES, within_budgets
    from smartdpp.gather import collect, main_metric

    results = collect(sorted(path.parent for path in remote.runs(run.parent).glob("*/result.json")))
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
