"""The plan: the stages, where each lies or will lie, what it would do, and whether it is cached.

Of a sweep one table, with a line for each cell.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smartdpp.run.cell import Run
from smartdpp.run.price import Training, total, training
from smartdpp.run.stage import Stage
from smartdpp.run.stages import stages
from smartdpp.store.remote import shown

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)


def plan(run: Run) -> None:
    """The stages, where each lies or will lie, and whether it is cached."""
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
    _console().print(table)
    for stage in stages(run):
        if not stage.artifact.finished:
            warn_of_memory(stage)


def sweep(cells: Sequence[tuple[Sequence[str], Run]]) -> None:
    """One table of a sweep's cells, each with the overrides that made it. What several share is to do in the
    first of them."""
    from rich.table import Table

    common = set.intersection(*(set(overrides) for overrides, _ in cells))
    table = Table(title=f"plan of {len(cells)} cells in {shown(cells[0][1].root)}", title_justify="left")
    table.add_column("cell", overflow="fold")
    table.add_column("to do", overflow="fold")
    for name in ("examples", "tokens", "device hours", "peak GiB"):
        table.add_column(name, justify="right")
    table.add_column("folder in runs/", overflow="fold")
    there: dict[Path, bool] = {}  # what an earlier line has spoken of, and whether it is finished
    seen: dict[Path, int] = {}
    counts: Counter[tuple[str, bool]] = Counter()
    warnings: Counter[str] = Counter()
    asks: Counter[str] = Counter()
    for number, (overrides, run) in enumerate(cells, 1):
        own = " ".join(override for override in overrides if override not in common) or "as it is"
        if run.path in seen:
            table.add_row(own, f"as line {seen[run.path]}: the same run", "", "", "", "", run.slug)
            continue
        seen[run.path] = number
        names, todo, peaks = [], [], []
        for stage in stages(run):
            names.append(stage.name)
            if (path := stage.artifact.path) in there:
                continue
            there[path] = stage.artifact.finished
            counts[_kind(stage), there[path]] += 1
            if not there[path]:
                todo.append(stage.name)
                asks[stage.asks()] += 1
                if peak := stage.memory():
                    peaks.append(peak.bytes)
                    if problem := peak.too_large():
                        warnings[f"{stage.name}: {problem}"] += 1
        todo += [] if run.done else ["result"]
        table.add_row(
            own,
            _said([*names, "result"], todo),
            *(_costs(training(run)) if todo and run.trains else ("", "", "")),
            f"{max(peaks) / 2**30:,.1f}" if peaks else "",
            run.slug,
        )
    _console().print(table)
    for state, finished in (("to do", False), ("cached", True)):
        found = [f"{n:,} {name}" for (name, is_there), n in counts.items() if is_there == finished]
        log.info("%s: %s", state, ", ".join(found) or "nothing")
    for said, times in asks.items():
        if said:
            log.info("%d evaluations, each: %s", times, said)
    for said, times in warnings.items():
        log.warning("%s%s", said, f" (in {times} cells)" if times > 1 else "")
    log.info(total([run for _, run in cells]))


def _said(names: list[str], todo: list[str]) -> str:
    """What is to do of these, the shortest way."""
    if not todo:
        return "nothing"
    last = names[len(names) - len(todo) :] == todo and len(todo) > 1
    return f"{todo[0]} to {todo[-1]}" if last else ", ".join(todo)


def _costs(cost: Training) -> tuple[str, str, str]:
    """In the table; "?" where nothing known says it."""
    return (
        "?" if cost.examples is None else f"{cost.examples:,}",
        "?" if cost.tokens is None else f"{cost.tokens:,.0f}",
        "?" if cost.hours is None else f"{cost.hours:,.2f}",
    )


def _kind(stage: Stage) -> str:
    """What it makes, whatever its round: its name as totals have it."""
    return stage.name.partition(" round ")[0]


def _console() -> Console:
    from rich.console import Console

    # a pipe has no width of its own
    return Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)


def warn_of_memory(stage: Stage) -> None:
    """One sentence where a stage is likely to need more memory than there is. It is not refused: the
    statement is an estimate."""
    peak = stage.memory()
    if peak and (problem := peak.too_large()):
        log.warning("%s: %s", stage.name, problem)
