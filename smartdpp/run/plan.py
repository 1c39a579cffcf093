"""The plan: the stages, where each lies or will lie, what it would do, and whether it is cached."""

from __future__ import annotations

import logging
import sys

from smartdpp.run.cell import Run
from smartdpp.run.stage import Stage
from smartdpp.run.stages import stages
from smartdpp.store.remote import shown

log = logging.getLogger(__name__)


def plan(run: Run) -> None:
    """The stages, where each lies or will lie, and whether it is cached."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"plan of {run.slug}", title_justify="left")
    for column in ("stage", "state", "what", "peak above its start", "folder"):
        table.add_column(column, overflow="fold")
    for stage in stages(run):
        if stage.artifact.finished:
            cells = ("cached", stage.describe(stage.artifact.meta()["facts"]), "")
        else:
            cells = ("to do", stage.plan(), str(stage.memory() or ""))
        table.add_row(stage.name, *cells, shown(stage.artifact.path))
    table.add_row("result", "done" if run.done else "to do", "", "", shown(run.path))
    # a pipe has no width of its own
    Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else 160).print(table)
    for stage in stages(run):
        if not stage.artifact.finished:
            warn_of_memory(stage)


def warn_of_memory(stage: Stage) -> None:
    """One sentence where a stage is likely to need more memory than there is. It is not refused: the
    statement is an estimate."""
    peak = stage.memory()
    if peak and (problem := peak.too_large()):
        log.warning("%s: %s", stage.name, problem)
