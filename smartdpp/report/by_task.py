"""The main metric on every held-out task; and for a run alone, what its own documents say of its gain."""

from __future__ import annotations

import numpy as np

from smartdpp.metrics import METRICS
from smartdpp.report.content import Section, Table, Text
from smartdpp.report.leaderboard import in_pool
from smartdpp.report.numbers import best_first, metrics, number
from smartdpp.study.results import Results, main_metric


def section(results: Results) -> list[Section]:
    """Means over seeds, at the largest budget."""
    import pandas as pd

    table, metric = results.table[results.table["n"] > 0], main_metric(results.table)
    tasks = [name for name in table if name.startswith(f"{metric}/")]
    if not tasks or table.empty:
        return []
    shown = (
        table
        if table["budget"].nunique() <= 1
        else table[(table["budget"] == table["budget"].max()) | table["budget"].isna()]
    )
    means = {label: group[tasks].mean() for (label,), group in best_first(shown, ["label"], metric)}
    frame = pd.DataFrame({"task": [name.partition("/")[2] for name in tasks]})
    if results.base_tasks:
        frame["base model"] = [number(results.base_tasks.get(task, np.nan), 3) for task in frame["task"]]
    for label, column in means.items():
        frame[label] = [number(value, 3) for value in column]
    if len(means) > max(len(tasks), 6):  # too many columns: tasks go across
        frame = frame.set_index("task").T.reset_index(names="mean over seeds of")
    at = f" at budget {table['budget'].max():.0f}" if table["budget"].nunique() > 1 else ""
    title = "Held-out documents of the pool's tasks" if in_pool(results) else "Held-out tasks"
    return [Section(title, (Text(f"Mean {METRICS[metric]} over seeds{at}."), Table(frame)))]


def change(results: Results) -> list[Section]:
    """What one run alone can say: its own paired interval over documents."""
    import pandas as pd

    row, lines = results.table.iloc[0], []
    for metric in metrics(results.table):
        names = [f"{metric}_change", f"{metric}_change_low", f"{metric}_change_high"]
        if row["n"] and pd.notna(row.get(names[0])):
            centre, low, high = (row.get(name) for name in names)
            interval = "" if pd.isna(low) or pd.isna(high) else f" ({low:+.3f} to {high:+.3f})"
            lines.append(Text(f"{METRICS[metric]}: {centre:+.3f}{interval}"))
    if not lines:
        return []
    note = Text(
        "95 % intervals by paired bootstrap t over documents within tasks; they hold for these tasks and "
        "this seed."
    )
    return [Section("Finetuned against base", (*lines, note))]
