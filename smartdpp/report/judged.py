"""What a judge's comparison is worth and what it cost; whether it prefers the same ways of choosing as other
scores do; and whether diversity predicts its win rate, also at equal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smartdpp.metrics import METRICS
from smartdpp.report import predictors
from smartdpp.report.content import Section, Table, Text
from smartdpp.report.numbers import best_first, columns, described, heading, mean, number
from smartdpp.study.orders import judged_and_scored, pairs
from smartdpp.study.results import Results, main_metric
from smartdpp.study.settings import plain

FACTS = {  # of result.json, without judge_: heading, digits
    "mean_length": ("characters", 0),
    "reference_length": ("of references", 0),
    "length_correlation": ("r with length", 2),
    "disagreement": ("orders disagree", 3),
    "first_shown": ("for the first shown", 3),
    "agreement": ("prefers the right one", 3),
    "agreement_n": ("of", 0),
    "unread": ("not read", 0),
    "equal": ("equal", 0),
    "cut": ("cut", 0),
    "calls": ("calls", 0),
    "kept": ("kept replies", 0),
    "tokens": ("tokens", 0),
    "seconds": ("judging (s)", 1),
}
NOTE = (
    "Means over runs, ± 95 % t interval. The win rate at equal length is what a logistic regression on the "
    "difference in length predicts where there is none (AlpacaEval 2's). Orders disagree: the share of "
    "instructions where the judge prefers another answer when the two change places, which then counts half; "
    "for the first shown: its mean preference for what stands first, a half if the place does not matter. "
    "Prefers the right one: of the instructions where one answer alone is literally the row's response. "
    "Calls, tokens and seconds: of judging the finetuned model's answers when that was done; a rerun costs "
    "none."
)
ORDERS = (
    "Kendall's τ and Spearman's ρ between two scores over the ways of choosing, under each seed, better "
    "being up in both: 1 is the same order, -1 the reverse, 0 what chance gives on average; means over "
    "seeds, ± 95 % t interval. A seed under which a score is the same for all ways has none. Of the means: τ "
    "between the means over seeds."
)
SCORED = (
    "Answers that another evaluation scored by their task's own rules, which give partial credit. ρ: "
    "Spearman's, over a run's answers, between the judge's preference and that score. Prefers the right "
    "reference: of the answers that score below 1 against a reference that is right, a tie being half. Means "
    "over runs, ± 95 % t interval."
)


def section(results: Results) -> list[Section]:
    import pandas as pd

    table = results.table[results.table["n"] > 0]
    if "judge_calls" not in table or table["judge_calls"].isna().all():
        return []
    records = []
    for values, group in best_first(table, columns(results), main_metric(table)):
        record: dict[str, Any] = described(columns(results), values)
        for name in ("win_rate", "lc_win_rate"):
            record[METRICS[name].heading] = mean(group[name], METRICS[name].digits)
        for name, (head, digits) in FACTS.items():
            if f"judge_{name}" in group:  # a column without any number is left out
                record[head] = mean(group[f"judge_{name}"].astype("float64"), digits)
        records.append(record)
    return [
        Section("The judge", (Table(pd.DataFrame(records).fillna("")), Text(NOTE))), *_scored(results)
    ]  # fmt: skip


def _scored(results: Results) -> list[Section]:
    """The judge beside the tasks' own scores of the same answers."""
    import pandas as pd

    table = results.table.reset_index(drop=True)
    found = {
        i: scored
        for i in table.index[table["n"] > 0]
        if (scored := judged_and_scored(results.folders[i], results.evaluation))
    }
    records = []
    for values, group in best_first(table.loc[list(found)], columns(results), main_metric(table)):
        runs = [found[i] for i in group.index]
        record: dict[str, Any] = described(columns(results), values)
        record |= {"runs": len(runs), "answers": sum(run.answers for run in runs)}
        record["ρ with the task score"] = mean(pd.Series([run.rho for run in runs]), 2)
        record["prefers the right reference"] = mean(pd.Series([run.seen for run in runs]), 3)
        records.append(record | {"of": sum(run.worse for run in runs)})
    return [
        Section("The judge and the tasks' own scores", (Table(pd.DataFrame(records)), Text(SCORED)))
    ] * bool(records)


def orders(results: Results) -> list[Section]:
    """Which scores prefer the same ways of choosing."""
    import pandas as pd

    records = []
    for pair in pairs(results):
        shown = {heading(name): plain(value) for name, value in pair.where.items()}
        records.append(
            (shown if len(results.context) or results.table["budget"].nunique() > 1 else {})
            | {"scores": " and ".join(map(_called, pair.scores)), "ways": pair.ways}
            | {"seeds": len(pair.kendall), "Kendall τ": mean(pd.Series(pair.kendall, dtype=float), 2)}
            | {"Spearman ρ": mean(pd.Series(pair.spearman, dtype=float), 2)}
            | {"τ of the means": number(pair.of_means, 2)}
        )
    return [Section("Which orders agree", (Table(pd.DataFrame(records)), Text(ORDERS)))] * bool(records)


def _called(column: str) -> str:
    """``win rate (judge)`` for a column of an evaluation beside the main one."""
    evaluation, _, metric = column.rpartition("/")
    return METRICS[metric].label + (f" ({evaluation})" if evaluation else "")


def against_diversity(results: Results, given: Sequence[str], names: Sequence[str]) -> list[Section]:
    """Every diversity measure against these win rates."""
    held = [name for name in given if name in results.table]
    return [
        found
        for name in names
        if name in results.table and results.table[name].notna().any()
        for found in predictors.section(results, held, name)
    ]
