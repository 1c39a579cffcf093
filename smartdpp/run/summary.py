"""The closing table of a run: what was gained on each held-out task, from which mixture, at what cost, and
where everything lies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from smartdpp.diversity.components import describe
from smartdpp.embedding.shards import cut
from smartdpp.evaluation import judgement
from smartdpp.evaluation.rows import not_evaluated
from smartdpp.logs.visible import one_line
from smartdpp.metrics import METRICS, TOWARDS
from smartdpp.run.folder import artifacts as places
from smartdpp.store.disk import read_json
from smartdpp.store.remote import META, file, shown
from smartdpp.strategies.mixture import asked, read_tasks

SHOWN_SCORES = 60  # held-out tasks
SHOWN_TASKS = 12  # of the mixture; the rest are counted and stand in tasks.csv


def show(run: Path) -> None:
    """Prints the run's tables from its files alone, so a cached run shows what a fresh one does."""
    from rich.console import Console

    row = read_json(run / "result.json")
    artifacts = places(run)
    # a pipe has no width
    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 130)
    if "base scores" in artifacts:
        console.print(_scores(row, artifacts))
        facts = read_json(file(artifacts["base scores"] / META))["facts"]
        for said in not_evaluated(facts):
            console.print(f"held-out documents: {said}")
        _judge(console, artifacts)
        for name, of_another in facts.get("others", {}).items():
            its = {
                column.removeprefix(f"{name}/"): value
                for column, value in row.items()
                if column.startswith(f"{name}/")
            }
            console.print(_scores(its, artifacts, name))
            for said in not_evaluated(of_another):
                console.print(f"{name}, held-out documents: {said}")
            _judge(console, artifacts, name)
    else:
        console.print("nothing was evaluated (evaluation=none): there are no scores")
    if row["n"]:
        console.print(_mixture(row, artifacts))
        console.print(_diversity(row))
    for name, path in artifacts.items():
        for said in cut(read_json(file(path / META))["facts"]) if path.parent.name == "embedding" else ():
            console.print(f"{name}: {said}; they are longer than its encoder reads")
    console.print(_cost(row, artifacts))
    console.print(_paths(run, read_json(run / "artifacts.json")), soft_wrap=True)


def _scores(row: dict[str, Any], artifacts: dict[str, Path], other: str | None = None) -> Any:
    """Of the main evaluation, or of one beside it."""
    from rich.table import Table

    base = read_json(file(artifacts["base scores"] / "scores.json"))
    tuned = read_json(file(artifacts.get("scores", artifacts["base scores"]) / "scores.json"))
    base, tuned = (base["others"][other], tuned["others"][other]) if other else (base, tuned)
    metrics = [
        m for m in METRICS if m in tuned["mean"] and (m != "bits_per_byte" or "loss" not in tuned["mean"])
    ] or [row["score_metric"]]
    in_pool = set(read_tasks(file(artifacts["mixture"] / "tasks.csv"))["task"]) & set(tuned["tasks"])
    what = "held-out documents of the pool's tasks" if in_pool else "held-out tasks, never trained on"
    table = Table(title=f"{f'{other}: ' if other else ''}{what}: base → tuned", title_justify="left")
    table.add_column("task")
    table.add_column("n", justify="right")
    for metric in metrics:
        table.add_column(METRICS[metric].heading, justify="right")
    for task, scores in list(tuned["tasks"].items())[:SHOWN_SCORES]:
        cells = [f"{base['tasks'][task][m]:.3f} → {scores[m]:.3f}" if m in scores else "" for m in metrics]
        table.add_row(one_line(task), str(scores["n"]), *cells)
    if len(tuned["tasks"]) > SHOWN_SCORES:
        table.add_row(
            f"and {len(tuned['tasks']) - SHOWN_SCORES} more tasks, in scores.json", *[""] * (1 + len(metrics))
        )
    table.add_section()
    table.add_row("mean, base", "", *(_interval(row, f"{metric}_base", ".3f") for metric in metrics))
    table.add_row("mean, tuned", "", *(_interval(row, metric, ".3f") for metric in metrics))
    table.add_row("change, paired", "", *(_interval(row, f"{metric}_change", "+.3f") for metric in metrics))
    table.caption = (
        "[95 % interval]: over documents within tasks, by bootstrap t; it holds for these tasks, and "
        "for one seed"
    )
    table.caption_justify = "left"
    return table


def _judge(console: Any, artifacts: dict[str, Path], other: str | None = None) -> None:
    """What a judge's comparison is worth, and what it cost."""
    of_whom = "tuned" if "scores" in artifacts else "base model's"
    facts = read_json(file(artifacts.get("scores", artifacts["base scores"]) / META))["facts"]
    facts = facts["others"][other] if other else facts
    for said in judgement.said(facts["judge"]) if "judge" in facts else ():
        console.print(f"{f'{other}, ' if other else ''}judge, {of_whom} answers: {said}")


def _interval(row: dict[str, Any], name: str, form: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:{form}}" + ("" if low is None else f" [{low:{form}}, {high:{form}}]")


def _mixture(row: dict[str, Any], artifacts: dict[str, Path]) -> Any:
    from rich.table import Table

    tasks = read_tasks(file(artifacts["mixture"] / "tasks.csv"))
    chosen = tasks[tasks["selected"] > 0]
    tasks_said = f"{row['tasks']} of {row['tasks_in_pool']} tasks"
    title = (
        f"mixture by {row['strategy']}: {row['n']} of {row['n_pool']} examples from {tasks_said}, "
        f"{row['tokens']} tokens{asked(row)}"
    )
    title += "".join(f", {of.label} {row[of.name]:.2f}" for of in TOWARDS.values() if of.name in row)
    table = Table(title=title, title_justify="left")
    for column in ("task", "examples", "share", "of the task's pool"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task in chosen.head(SHOWN_TASKS).itertuples():
        table.add_row(
            one_line(task.task), str(task.selected), f"{task.share:.1%}", f"{task.selected / task.pool:.0%}"
        )
    if len(chosen) > SHOWN_TASKS:
        rest = chosen.iloc[SHOWN_TASKS:]
        table.add_row(
            f"and {len(rest)} more tasks", str(rest["selected"].sum()), f"{rest['share'].sum():.1%}", ""
        )
    return table


def _diversity(row: dict[str, Any]) -> str:
    facts = {
        name.removeprefix("diversity_"): value for name, value in row.items() if name.startswith("diversity_")
    }
    return f"{describe(facts) or 'diversity not measured'}; in {row['embedding@probe']}"


def _cost(row: dict[str, Any], artifacts: dict[str, Path]) -> Any:
    from rich.table import Table

    table = Table(title="cost", title_justify="left")
    for column in ("stage", "seconds in this run", "seconds when made", "peak memory (GiB)"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    total = 0.0
    for name, path in artifacts.items():
        meta, now = read_json(file(path / META)), row[f"seconds/{name}"]
        total += now
        table.add_row(
            name, f"{now:.1f}" if now else "cached", f"{meta['seconds']:.1f}", f"{meta['peak_gib']:.2f}"
        )
    table.add_section()
    table.add_row("total", f"{total:.1f}", "", "")
    return table


def _paths(run: Path, artifacts: dict[str, str]) -> str:
    """artifacts: as they are written in artifacts.json."""
    lines = [f"run       {shown(run)}  (result.json, run.log, .hydra/)"]
    lines += [f"mixture   {artifacts['mixture']}/mixture.jsonl"]
    if "adapter" in artifacts:
        lines += [f"adapter   {artifacts['adapter']}"]
    if "scores" in artifacts:
        lines += [f"samples   {artifacts['scores']}/samples.jsonl"]
    return "\n".join([*lines, f"report    python -m smartdpp.report {shown(run)}"])
