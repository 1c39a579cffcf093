"""Trackers mirror a finished run elsewhere. The run's own files are the truth: a tracker that fails loses nothing and says so."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smartdpp.store import read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wandb:
    """One log at the end of a run: configuration, scores, diversity, the task table and the figures; offline unless asked."""

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
        finally:
            session.finish()


@dataclass(frozen=True)
class NoTracker:
    """Nothing is mirrored."""

    def log(self, run: Path) -> None:
        return
