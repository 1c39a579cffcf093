"""One row per setting, best first: scores over seeds, diversity, what the mixture holds, and the paper's own
number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smartdpp.evaluation.intervals import CLAIM
from smartdpp.metrics import DIVERSITY, METRICS, TOWARDS
from smartdpp.report import paper as papers
from smartdpp.report.content import Section, Table, Text
from smartdpp.report.numbers import best_first, columns, described, mean, metrics, number
from smartdpp.study.cells import Paper
from smartdpp.study.results import Results, main_metric

if TYPE_CHECKING:
    import pandas as pd

NOT_EVALUATED = {
    "documents_passed_over": "held-out documents were passed over, empty or longer than the model reads",
    "documents_truncated": "held-out documents were cut to fit the model's context",
    "tasks_without_documents": "held-out tasks have no document left",
}


def section(results: Results, paper: Paper | None = None) -> Section:
    import pandas as pd

    table, main_one = results.table, main_metric(results.table)
    by, shown = columns(results), metrics(results.table)
    trained = table[table["n"] > 0]
    records, rows = [], []
    for values, group in best_first(trained, by, main_one):
        record: dict[str, Any] = described(by, values) | {"seeds": str(len(group))}
        record |= {METRICS[metric].heading: mean(group[metric], METRICS[metric].digits) for metric in shown}
        if "ldd" in group and group["ldd"].notna().any():
            record |= {
                DIVERSITY["ldd"].heading: mean(group["ldd"].dropna(), 3),
                "at n": f"{group['ldd_n'].iloc[0]:.0f}",
            }
            for share in (DIVERSITY["kept_share"], DIVERSITY["duplicate_share"]):
                record[share.heading] = mean(100 * group[f"diversity_{share.name}"], share.digits)
        record |= {
            of.heading: mean(group[name], of.digits)
            for name, of in TOWARDS.items()
            if name in group and group[name].notna().any()
        }
        record |= {
            "examples": mean(group["n"], 0),
            "tasks": f"{mean(group['tasks'], int(group['tasks'].nunique() > 1))} of "
            f"{group['tasks_in_pool'].iloc[0]:.0f}",
        }
        records.append(record)
        at = group.index[0]
        rows.append(results.configs[at] | table.loc[at].to_dict())
    if paper:
        for record, value in zip(records, papers.column(paper, rows), strict=True):
            record[paper.measure] = value
    notes = _notes(results, shown, trained.groupby(by, dropna=False).size())
    base = _base_models(results, shown)
    frame = pd.DataFrame([*records, *base]).fillna("")
    told = [Text(" ".join(notes)), *([Text(papers.said(paper, rows))] if paper else [])]
    marked = (paper.measure,) if paper else ()
    return Section("Results", (Table(frame, marked, tuple(range(len(records), len(frame)))), *told))


def in_pool(results: Results) -> bool:
    """Whether a task that is scored may be trained on: its documents alone are held out."""
    metric = main_metric(results.table)
    return any(f"{metric}/{task}" in results.table for task in set(results.shares["task"]))


def _base_models(results: Results, shown: list[str]) -> list[dict[str, str]]:
    """The base model's scores, once for each model, corpus and evaluation that were compared."""
    context = [
        name for name in results.settings if name.split(".")[0] in ("corpus", "model", "evaluation", "pool")
    ]
    groups = results.table.groupby(context, dropna=False, sort=False) if context else [((), results.table)]
    return [
        described(context, values)
        | {"strategy": "base model, not finetuned", "seeds": ""}
        | {METRICS[name].heading: _base(group, name) for name in shown if f"{name}_base" in group}
        for values, group in groups
    ]


def _base(group: pd.DataFrame, metric: str) -> str:
    """Of each world once, where seeds are worlds with documents of their own."""
    return number(group.groupby("seed")[f"{metric}_base"].first().mean(), METRICS[metric].digits)


def _notes(results: Results, shown: list[str], sizes: Any) -> list[str]:
    tasks = sum(name.startswith(f"{shown[0]}/") for name in results.table)
    notes = [
        f"Scores are means over {tasks} {'tasks' if in_pool(results) else 'held-out tasks'}"
        + (f" ({results.documents} documents)" if results.documents else "")
        + "; ± is the 95 % t interval over seeds, left out where all seeds agree."
    ]
    for column, what in NOT_EVALUATED.items():
        if column in results.table and (most := results.table[column].max()) > 0:
            notes.append(f"{most:.0f} {what}.")
    if len(sizes) and sizes.min() == 1:
        notes.append("One seed: no interval.")
    if len(sizes) and ((sizes > 1) & (sizes < CLAIM)).any():
        notes.append(f"Fewer than {CLAIM} seeds: the interval is shown and carries no claim.")
    if "ldd" in results.table:
        notes.append(
            "LDD is the log determinant distance, lower is more diverse; it is read at one n within a "
            "budget and compares only there."
        )
        notes.append(
            "kept: picks above the truncation, of the mixture; copies: rows that are another one's to the "
            "kernel."
        )
    return notes
