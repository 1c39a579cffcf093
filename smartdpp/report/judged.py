"""What a judge's comparison is worth and what it cost; and whether diversity predicts its win rate, also at
equal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smartdpp.metrics import METRICS
from smartdpp.report import predictors
from smartdpp.report.content import Section, Table, Text
from smartdpp.report.numbers import best_first, columns, described, mean
from smartdpp.study.results import Results, main_metric

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
    return [Section("The judge", (Table(pd.DataFrame(records).fillna("")), Text(NOTE)))]


def against_diversity(results: Results, given: Sequence[str], names: Sequence[str]) -> list[Section]:
    """Every diversity measure against these win rates."""
    held = [name for name in given if name in results.table]
    return [
        found
        for name in names
        if name in results.table and results.table[name].notna().any()
        for found in predictors.section(results, held, name)
    ]
