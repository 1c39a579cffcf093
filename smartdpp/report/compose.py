"""Which sections a report has, in order: those that its runs support."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.errors import InputError
from smartdpp.figures import of_run, of_study
from smartdpp.figures.style import looks
from smartdpp.metrics import METRICS
from smartdpp.report import (
    against,
    by_task,
    cells,
    chosen,
    cost,
    judged,
    leaderboard,
    markdown,
    oracle,
    page,
    predictors,
    setup,
    trends,
)
from smartdpp.report.against import Documents
from smartdpp.report.content import Block, Card, Fold, Picture, Report, Section
from smartdpp.report.numbers import best_first, mean
from smartdpp.run.sound import damage
from smartdpp.store.disk import write_text
from smartdpp.study.cells import Cell, Wanted
from smartdpp.study.results import Results, collect, main_metric

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def write(found: list[Cell], wanted: Wanted, out: Path) -> tuple[str, list[Path], Report]:
    """Writes the report into ``out``; returns its text for the terminal, the files written, and what it
    holds."""
    results, report = _composed([checked(cell) for cell in found], wanted)
    out.mkdir(parents=True, exist_ok=True)
    texts = {"report.html": page.render(report), "report.md": markdown.render(report)}
    if len(results.table):
        texts |= {
            name: table.convert_dtypes().to_csv(index=False)
            for name, table in (("results.csv", results.table), ("tasks.csv", results.shares))
        }
    for name, text in texts.items():
        write_text(out / name, text)
    pictures = [picture.drawing.png(out) for picture in all_pictures(report)]
    return markdown.brief(report), [*(out / name for name in texts), *pictures], report


def checked(cell: Cell) -> Cell:
    """The cell, damaged if a report could not read it."""
    said = damage(cell.path) if cell.state == "done" and cell.path else None
    return replace(cell, state="damaged", detail=said) if said else cell


def _composed(found: list[Cell], wanted: Wanted) -> tuple[Results, Report]:
    """A report of the cells that are done. If it cannot be made, it is found out which cells stand in its
    way, and made without them."""
    try:
        results = collect([cell.path for cell in found if cell.state == "done" and cell.path])
        return results, compose(found, results, wanted)
    except InputError:
        raise
    except Exception as error:
        log.debug("a report's cells are read one by one", exc_info=True)
        one_by_one = [_alone(cell) for cell in found]
        if one_by_one == found:
            raise error
        return _composed(one_by_one, wanted)


def _alone(cell: Cell) -> Cell:
    if cell.state != "done" or not cell.path:
        return cell
    try:
        compose([cell], collect([cell.path]), Wanted(""))
    except Exception as error:
        return replace(
            cell, state="damaged", detail=f"what it holds cannot be read ({type(error).__name__}: {error})"
        )
    return cell


def all_pictures(report: Report) -> list[Picture]:
    blocks = [block for section in report.sections for block in section.blocks]
    blocks += [inner for block in blocks if isinstance(block, Fold) for inner in block.blocks]
    return [block for block in blocks if isinstance(block, Picture)]


def compose(found: list[Cell], results: Results, wanted: Wanted) -> Report:
    states = cells.section(found)
    if results.table.empty:
        return Report(wanted.title, wanted.question, {}, (), cells.counts(found), (states,))
    alone = len(found) == 1 and found[0].path is not None
    trained = results.trainings()
    sections = (
        _of_run(results, found[0].path) if alone and found[0].path else _of_study(results, trained, wanted)
    )
    finished = len(found) == cells.counts(found).get("done", 0) and not any(cell.detail for cell in found)
    # what is missing comes first, as it qualifies all that follows
    sections = [*sections, states] if finished else [states, *sections]
    return Report(
        wanted.title,
        wanted.question,
        facts(results) | ({"settings": given} if (given := cells.shared(found)) else {}),
        tuple(_cards(trained, wanted)),
        cells.counts(found),
        tuple(sections),
    )


def _of_run(results: Results, run: Path) -> list[Section]:
    board = leaderboard.section(results)
    pictures = tuple(Picture(drawing) for drawing in of_run(run))
    figures = [Section("Figures", pictures, brief=False)] if pictures else []
    return [
        board, *by_task.change(results), *by_task.section(results), *judged.section(results),
        *_beside(results), *figures,
        *chosen.section(results), *cost.section(results), *setup.section(results),
    ]  # fmt: skip


def _of_study(results: Results, trained: Results, wanted: Wanted) -> list[Section]:
    """Diversity of every run, however it was measured; scores, mixtures and costs of every training once."""
    drawn = {drawing.name: Picture(drawing) for drawing in of_study(results)}
    scatter, shares = drawn.pop("diversity_performance", None), drawn.pop("task_shares", None)
    board = leaderboard.section(results, wanted.paper)
    board = Section(board.title, (*drawn.values(), *board.blocks))
    predicted = predictors.section(results, wanted.given)
    if scatter:
        blocks: tuple[Block, ...] = predicted[0].blocks if predicted else ()
        predicted = [Section("Diversity against performance", (scatter, *blocks))]
    predicted += judged.against_diversity(results, wanted.given, ("lc_win_rate",))
    mixtures = [Section("Task shares", (shares,), brief=False)] if shares else []
    documents = Documents.of_all(trained)  # read once for all sections
    styles = looks(trained.table.loc[trained.table["n"] > 0, "label"].unique())
    compared = against.section(trained, wanted.baselines, styles, documents)
    return [
        board, *compared, *trends.section(trained, documents),
        *oracle.section(trained, wanted.baselines[0], documents), *by_task.section(trained),
        *judged.orders(trained), *judged.section(trained), *_beside(trained, wanted), *predicted, *mixtures,
        *chosen.section(trained, wanted.quote), *cost.section(trained), *setup.section(results),
    ]  # fmt: skip


def _beside(results: Results, wanted: Wanted | None = None) -> list[Section]:
    """The tables of each evaluation beside the main one, with its name; figures are of the main one."""
    found = []
    for other in results.others():
        several = looks(other.table.loc[other.table["n"] > 0, "label"].unique())
        compared = (
            against.section(other, wanted.baselines, several, Documents.of_all(other))
            if wanted
            else by_task.change(other)
        )
        judge = judged.section(other)
        if wanted:
            judge += judged.against_diversity(other, wanted.given, ("win_rate", "lc_win_rate"))
        for section in (leaderboard.section(other), *compared, *by_task.section(other), *judge):
            blocks = tuple(block for block in section.blocks if not isinstance(block, Picture))
            found.append(Section(f"{section.title} ({other.evaluation})", blocks, section.brief))
    return found


def facts(results: Results) -> dict[str, str]:
    """What holds for all runs."""
    table = results.table

    def all_of(name: str) -> str:
        return ", ".join(str(value) for value in table[name].dropna().unique()) if name in table else ""

    commits = (
        ", ".join(str(commit)[:10] for commit in table["commit"].dropna().unique())
        if "commit" in table
        else ""
    )
    changed = (
        " with uncommitted changes" if "uncommitted" in table and table["uncommitted"].notna().any() else ""
    )
    found = {name: all_of(name) for name in ("model", "recipe", "corpus", "evaluation")}
    found |= {"commit": commits + changed if commits else ""}
    found |= {"machine": all_of("machine"), "device": all_of("device"), "precision": all_of("dtype")}
    return {name: value for name, value in found.items() if value}


def _cards(results: Results, wanted: Wanted) -> list[Card]:
    """The best mean with its n, the baseline's beside it, and the base model's; within the largest budget."""
    table = results.table[results.table["n"] > 0]
    if table.empty:
        return []
    metric, budget = main_metric(table), table["budget"].max()
    if results.context:  # several models or corpora have no one best
        return []
    shown = table[(table["budget"] == budget) | table["budget"].isna()]
    ranked: list[tuple[Any, pd.DataFrame]] = sorted(
        best_first(shown, ["label"], metric),
        key=lambda item: item[1][metric].mean(),
        reverse=not METRICS[metric].lower,
    )
    at = f" at budget {budget:.0f}" if budget == budget else ""

    def card(heading: str, label: str, runs: pd.DataFrame) -> Card:
        return Card(
            heading,
            mean(runs[metric], 3),
            f"{label}, {METRICS[metric]}, n = {len(runs)} seed{'s' if len(runs) > 1 else ''}",
        )

    cards = (
        [card(f"Best mean{at}", ranked[0][0][0], ranked[0][1])]
        if len(ranked) > 1
        else [card("Finetuned", ranked[0][0][0], ranked[0][1])]
    )
    for baseline in wanted.baselines:
        cards += [
            card("Baseline", label, runs)
            for (label,), runs in ranked[1:]
            if (runs["strategy"] == baseline).all()
        ]
    base = table[f"{metric}_base"].dropna() if f"{metric}_base" in table else table[metric].iloc[:0]
    if base.nunique() == 1:
        cards.append(Card("Base model", f"{base.iloc[0]:.3f}", f"not finetuned, {METRICS[metric]}"))
    if results.documents:
        tasks = sum(name.startswith(f"{metric}/") for name in table)
        what = "tasks of the pool" if leaderboard.in_pool(results) else "tasks, never trained on"
        cards.append(Card("Held out", str(results.documents), f"documents in {tasks} {what}"))
    return cards
