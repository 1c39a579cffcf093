"""What each way of choosing chose: its largest tasks, the first examples in its order, and the pairs of
examples most alike.

Read from one run each, the lowest seed at the largest budget. Pairs are the closest in the probe embedding,
the same for all.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.embedding.shards import load
from smartdpp.errors import InputError
from smartdpp.metrics import METRICS
from smartdpp.report.content import Fold, Section, Table, Text
from smartdpp.run.folder import artifacts
from smartdpp.store.remote import file
from smartdpp.strategies.mixture import read_tasks
from smartdpp.study.results import Results, main_metric

TASKS = 8
EXAMPLES = 4
PAIRS = 3
COMPARED = 2000  # examples, the first in the order, among which the closest pairs are looked for
LETTERS = 280  # of a text; the rest is counted


def section(results: Results, quote: bool = True) -> list[Section]:
    """``quote`` false, or report.quote of any run's own configuration: without the rows' texts, as a corpus
    may be nobody else's to read."""
    quote &= all(config.get("report.quote", True) for config in results.configs)
    trained = results.table[results.table["n"] > 0]
    if trained["budget"].notna().any():
        trained = trained[(trained["budget"] == trained["budget"].max()) | trained["budget"].isna()]
    metric = main_metric(results.table)
    order = trained.groupby("label")[metric].mean().sort_values(ascending=METRICS[metric].lower).index
    folds = []
    for label in order:
        row = trained[trained["label"] == label].sort_values("seed").iloc[0]
        blocks = _mixture(results.folders[row.name], row.to_dict(), quote)
        folds += [Fold(label, tuple(blocks))] if blocks else []
    if not folds:
        return []
    about = "One run each, the lowest seed at the largest budget. " + (
        "First examples: in the order in which they were chosen. Closest pairs: by cosine in the probe "
        f"embedding, among the first {COMPARED} examples at most; 1 is a copy."
        if quote
        else "No example is quoted, as report.quote is false."
    )
    return [Section("What was chosen", (Text(about), *folds), brief=False)]


def _mixture(run: Path, row: dict[str, Any], quote: bool) -> list[Text | Table]:
    import pandas as pd

    at = artifacts(run)
    if "mixture" not in at or not (listed := file(at["mixture"] / "tasks.csv")).is_file():
        return []
    tasks = read_tasks(listed)
    tasks = tasks.assign(of_pool=tasks["pool"] / max(1, tasks["pool"].sum())).query("selected > 0")
    shown = tasks.head(TASKS)
    rest = (
        f"; the other {len(tasks) - TASKS} hold {tasks['share'].iloc[TASKS:].sum():.0%}"
        if len(tasks) > TASKS
        else ""
    )
    said = (
        f"Seed {row['seed']}: {row['n']:.0f} of {row['n_pool']:.0f} examples, {row['tokens']:.0f} tokens, "
        f"from {len(tasks)} tasks{rest}."
    )
    largest = pd.DataFrame(
        {
            "task": shown["task"],
            "examples": shown["selected"].astype(str),
            "share (%)": [f"{100 * share:.1f}" for share in shown["share"]],
            "in the pool (%)": [f"{100 * share:.1f}" for share in shown["of_pool"]],
        }
    )
    blocks: list[Text | Table] = [Text(said), Table(largest)]
    if not quote or not (written := file(at["mixture"] / "mixture.jsonl")).is_file():
        return blocks
    with written.open(encoding="utf-8") as lines:
        first = [json.loads(line) for line in islice(lines, COMPARED)]
    examples = [
        {
            "chosen": str(e["rank"] + 1),
            "task": e["task"],
            "prompt": _cut(e["prompt"]),
            "response": _cut(e["response"]),
        }
        for e in first[:EXAMPLES]
    ]
    blocks += [Text("First examples"), Table(pd.DataFrame(examples))]
    probe = at.get("probe embedding", at.get("embedding", at["mixture"]))
    if pairs := closest(at["mixture"], probe, len(first)):
        alike = [
            {
                "cosine": f"{cosine:.3f}",
                "chosen": f"{i + 1} and {j + 1}",
                "tasks": f"{first[i]['task']}\n{first[j]['task']}",
            }
            | {"one": _cut(first[i]["prompt"]), "the other": _cut(first[j]["prompt"])}
            for i, j, cosine in pairs
        ]
        blocks += [Text("Closest pairs"), Table(pd.DataFrame(alike))]
    return blocks


def closest(mixture: Path, embedding: Path, count: int, pairs: int = PAIRS) -> list[tuple[int, int, float]]:
    """The pairs (i, j) of the first ``count`` chosen rows with the largest cosine, i < j, each row in one
    pair; largest first.

    Empty where the rows or their embedding are gone.
    """
    if not (chosen_rows := file(mixture / "rows.npy")).is_file():
        return []
    try:
        X = load(file(embedding / "X.npy").parent)
    except (InputError, FileNotFoundError):
        return []
    rows = np.load(chosen_rows, allow_pickle=False)[:count]
    if len(rows) < 2 or rows.max() >= len(X):
        return []
    chosen = np.asarray(X[rows], dtype=np.float32)
    chosen /= np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    cosine = np.triu(chosen @ chosen.T, 1) - 2 * np.tri(len(rows), dtype=np.float32)
    found: list[tuple[int, int, float]] = []
    for _ in range(min(pairs, len(rows) // 2)):
        i, j = np.unravel_index(np.argmax(cosine), cosine.shape)
        found.append((int(i), int(j), min(1.0, float(cosine[i, j]))))
        cosine[[i, j], :] = cosine[:, [i, j]] = -2
    return found


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[:LETTERS]} … and {len(text) - LETTERS} more characters"
