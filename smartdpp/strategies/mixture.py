"""The mixture on disk: the selected examples in order, what each task gave, and a card that says where they
come from.

mixture.jsonl one line per example: rank, gain, id, task, dataset, prompt, response, source, license; a
conversation's messages and tools tasks.csv one line per task of the corpus: pool, selected, share rows.npy
int64[k], the examples' rows in the corpus's data.parquet README.md dataset card original.* the same examples
as they came, all fields, in the format they came in, where the corpus has any; see smartdpp.export
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.dtypes import StringDType

from smartdpp.diversity.coverage import coverage, targets_covered
from smartdpp.logs.visible import one_line
from smartdpp.metrics import TOWARDS
from smartdpp.models.turns import alike
from smartdpp.store.disk import write_text
from smartdpp.types import Pool, Row, Selection

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COLUMNS = ("id", "task", "dataset", "prompt", "response", "source", "license")
TURNS = ("messages", "tools")
READ = ["prompt", "response"]  # by a strategy that reads texts
BLOCK = 256  # rows whose similarities to the pool are in memory together
CHOICE = ("corpus", "pool", "embedding", "quality", "strategy", "budget", "select_seed")
TERMS = ("budget_tokens", "tokens_by", "weights", "max_share", "repeat", "start", "start_include")
UNASKED: tuple[Any, ...] = (None, 1, False, "gain")  # as smartdpp.strategies.terms has them by default


def pool(
    rows: pa.Table, X: np.ndarray, quality: np.ndarray, task_vectors: dict[str, np.ndarray] | None = None
) -> Pool:
    """What strategies see of the corpus: rows is its table of n rows, X float32[n, d],
    quality float64[n], task_vectors float32[p] by task."""
    import pyarrow.compute as pc

    tasks = pc.dictionary_encode(rows["task"]).combine_chunks()
    template, names = rows["template"], tasks.dictionary.to_pylist()
    score = rows["score"] if "score" in rows.column_names else None
    return Pool(
        # of no fixed width: memory does not follow the longest
        ids=np.asarray(rows["id"].to_pylist(), dtype=StringDType()),
        X=X,
        task=tasks.indices.to_numpy().astype(np.int64),
        names=names,
        cost=rows["n_tokens"].to_numpy().astype(np.int64),
        quality=quality,
        template=None
        if template.null_count == len(rows)
        else np.asarray(template.fill_null("").to_pylist(), dtype=StringDType()),
        score=None if score is None or score.null_count else score.to_numpy().astype(np.float64),
        task_vectors=None if task_vectors is None else np.stack([task_vectors[name] for name in names]),
    )


def towards(pool: Pool, query: np.ndarray | None, rows: list[Row]) -> Pool:
    """The pool with a target: ``query`` float32[m, d] in the pool's space, None where a strategy reads its
    texts alone, and its m rows."""
    names = list(dict.fromkeys(str(row["task"]) for row in rows))
    task = np.array([names.index(str(row["task"])) for row in rows], dtype=np.int64)
    return replace(pool, query=query, query_task=task, query_names=names)


def joined(pool: Pool, X: np.ndarray, tasks: list[str]) -> Pool:
    """The pool with m rows behind its own that count as chosen: X float32[m, d] in its space, and tasks.

    Where the pool has no such task, it is that of the row they are nearest to, as all else is.
    """
    if not len(X):
        return pool
    rows, places = np.asarray(pool.X), {name: i for i, name in enumerate(pool.names)}
    scale = 1 / np.maximum(np.linalg.norm(rows, axis=1), np.finfo(np.float32).tiny)
    parts = np.split(X, range(BLOCK, len(X), BLOCK))
    near = np.concatenate([np.argmax((part @ rows.T) * scale, axis=1) for part in parts])
    task = [places.get(name, pool.task[i]) for name, i in zip(tasks, near, strict=True)]

    def grown(values: np.ndarray | None) -> Any:
        return None if values is None else np.concatenate([values, values[near]])

    ids = np.array([f"{i}\uffff" for i in range(len(X))], dtype=StringDType())  # none of the pool's
    begun, last = np.zeros(0, dtype=np.int64) if pool.start is None else pool.start, len(pool)
    return replace(
        pool,
        ids=np.concatenate([pool.ids, ids]),
        X=np.concatenate([rows, X]),
        task=np.concatenate([pool.task, np.array(task, dtype=np.int64)]),
        cost=grown(pool.cost),
        quality=grown(pool.quality),
        template=grown(pool.template),
        score=grown(pool.score),
        start=np.concatenate([begun, np.arange(last, last + len(X))]),
    )


def with_text(pool: Pool, rows: pa.Table, query: list[Row]) -> Pool:
    """The pool with its texts, and the query's: for a strategy that reads them. ``rows`` as for `pool`."""
    import pyarrow as pa

    asked = pa.Table.from_pylist([{name: row[name] for name in READ} for row in query]) if query else None
    return replace(pool, text=rows.select(READ), query_text=asked)


def write(
    pool: Pool, rows: pa.Table, selection: Selection, out: Path, config: dict[str, Any]
) -> dict[str, Any]:
    """Writes the files above, ``rows`` being the selected ones in its order; returns counts for the
    record."""
    chosen = [
        with_turns(row)
        for row in rows.select([*COLUMNS, *(name for name in TURNS if name in rows.column_names)]).to_pylist()
    ]
    lines = [
        {"rank": rank, "gain": float(gain), **row}
        for rank, (gain, row) in enumerate(zip(selection.gain, chosen, strict=True))
    ]
    write_text(out / "mixture.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    np.save(out / "rows.npy", selection.index.astype(np.int64), allow_pickle=False)
    in_pool = Counter(pool.names[task] for task in pool.task)
    selected = Counter(row["task"] for row in chosen)
    _write_tasks(out / "tasks.csv", in_pool, selected)
    tokens = int(pool.cost[selection.index].sum())
    write_text(out / "README.md", _card(chosen, in_pool, selected, tokens, config))
    counts = {
        "n": len(chosen),
        "n_pool": len(pool),
        "tasks": len(selected),
        "tasks_in_pool": len(in_pool),
        "tokens": tokens,
    }
    if pool.quality is None or np.ptp(pool.quality) == 0 or not chosen:  # a constant has nothing to tell
        return counts | {"mean_quality": None, "mean_quality_in_pool": None}
    return counts | {
        "mean_quality": float(pool.quality[selection.index].mean()),
        "mean_quality_in_pool": float(pool.quality.mean()),
    }


def nearness(pool: Pool, selection: Selection) -> dict[str, float]:
    """How near the selected rows are to the pool's query, as smartdpp.metrics names it; empty without one."""
    if pool.query is None or pool.query_task is None or not len(selection):
        return {}
    X = np.asarray(pool.X[selection.index])
    return {
        "query_coverage": coverage(X, pool=pool.query),
        "targets_covered": targets_covered(X, query=pool.query, target=pool.query_task),
    }


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line."""
    chosen, pool = facts.get("mean_quality"), facts.get("mean_quality_in_pool")
    quality = "" if chosen is None else f", mean quality {chosen:.4g} (pool {pool:.4g})"
    examples, tasks = (
        f"{facts['n']} of {facts['n_pool']} examples",
        f"{facts['tasks']} of {facts['tasks_in_pool']} tasks",
    )
    near = "".join(
        f", {of.label} {facts[name]:.{of.digits}f}" for name, of in TOWARDS.items() if name in facts
    )
    return f"{examples} from {tasks}, {facts['tokens']} tokens{quality}{near}{asked(facts)}"


def asked(facts: dict[str, Any]) -> str:
    """What came of a budget in tokens, of rows that may be repeated and of a start, where they were asked
    for."""
    said = ""
    if facts.get("budget_tokens") is not None:
        left = facts["budget_tokens"] - facts["tokens_spent"]
        said += f"; of {facts['budget_tokens']} tokens {left} stay unspent"
    if facts.get("repeats") is not None:
        said += f"; {facts['repeats']} of the examples are there again"
    if facts.get("start") is not None:
        said += f"; {'with' if facts['start_included'] else 'added to'} {facts['start']} examples of start"
        if facts.get("start_outside"):
            said += f" and {facts['start_outside']} rows outside the pool"
            said += ", which the mixture has not" * facts["start_included"]
        if facts["start_missing"]:
            said += f" ({facts['start_missing']} of {facts['start_given']} given are not in the pool)"
    return said


def with_turns(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the corpus's table as people read it: turns and tools as lists, and not at all where it has
    none."""
    plain = {name: value for name, value in row.items() if name not in TURNS}
    return plain | {name: json.loads(row[name]) for name in TURNS if row.get(name) is not None}


def selection(directory: Path) -> Selection:
    """What ``write`` was given."""
    index = np.load(directory / "rows.npy", allow_pickle=False)
    return Selection(index, np.asarray(read(directory)["gain"].to_pylist(), dtype=np.float64))


def followed(before: Selection, after: Selection) -> Selection:
    """Two rounds' selections as one."""
    return Selection(np.concatenate([before.index, after.index]), np.concatenate([before.gain, after.gain]))


def read(directory: Path) -> pa.Table:
    """The mixture as a table in selection order."""
    import pyarrow as pa

    with (directory / "mixture.jsonl").open(encoding="utf-8") as file:
        return pa.Table.from_pylist(alike([json.loads(line) for line in file]))


def content(rows: pa.Table) -> str:
    """Identifies what a training sees of these rows, however they were chosen: prompts and responses in
    order, turns and tools where they are conversations; 16 hexadecimal digits."""
    seen = hashlib.sha256()
    for row in rows.to_pylist():
        turns = [row[name] for name in TURNS if row.get(name) is not None]
        seen.update(json.dumps([row["prompt"], row["response"], *turns]).encode())
    return seen.hexdigest()[:16]


def read_tasks(path: Path) -> pd.DataFrame:
    """tasks.csv: task, pool, selected, share. A task's name stays text, whatever it looks like (NA, null,
    007, two lines)."""
    import pandas as pd

    # pandas takes names for numbers or missing values, and ends a line at \r
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds: dict[str, type] = {"pool": int, "selected": int, "share": float}
    numbers: dict[str, Any] = {
        name: np.array([row[name] for row in rows], dtype=kind) for name, kind in kinds.items()
    }
    return pd.DataFrame({"task": [row["task"] for row in rows], **numbers})


def _write_tasks(path: Path, in_pool: Counter[str], selected: Counter[str]) -> None:
    import pandas as pd

    tasks = pd.DataFrame(
        {
            "task": list(in_pool),
            "pool": list(in_pool.values()),
            "selected": [selected[task] for task in in_pool],
        }
    )
    tasks["share"] = tasks["selected"] / max(1, tasks["selected"].sum())
    # which Python's csv leaves unquoted, and then reads as the end of a line
    returns = any("\r" in task for task in in_pool)
    quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    write_text(
        path,
        tasks.sort_values(["selected", "task"], ascending=[False, True]).to_csv(index=False, quoting=quoting),
    )


def _cell(name: str) -> str:
    return one_line(name).replace("|", "\\|")


def _budget(config: dict[str, Any]) -> str:
    return f"{config['budget_tokens']} tokens" if config.get("budget_tokens") else str(config["budget"])


def _card(
    chosen: list[dict[str, Any]],
    in_pool: Counter[str],
    selected: Counter[str],
    tokens: int,
    config: dict[str, Any],
) -> str:
    def counts(column: str) -> str:
        return "\n".join(
            f"| {_cell(name)} | {count} |"
            for name, count in Counter(str(row[column]) for row in chosen).most_common()
        )

    return f"""---
configs:
- config_name: default
  data_files: mixture.jsonl
---
# An instruction-tuning mixture chosen by smartdpp

{len(chosen)} of {sum(in_pool.values())} examples from {len(selected)} of {len(in_pool)} tasks, {tokens} tokens;
strategy `{config["strategy"]["_target_"]}`, budget {_budget(config)}, select seed {config["select_seed"]}.
`mixture.jsonl` is in the order of selection; `original.*`, where it is here, holds the same records as they came.

For TRL, LLaMA-Factory, axolotl and open-instruct, as a folder that each loads as it is, with a snippet for each in its card:

```bash
smartdpp export FOLDER --as messages OUT  # FOLDER: this one; or jsonl, parquet, alpaca, sharegpt
```

| licence | examples |
|---|---|
{counts("license")}

| source | examples |
|---|---|
{counts("source")}

| task | examples |
|---|---|
{counts("task")}

The choice, in full:

```json
{json.dumps({key: config[key] for key in (*CHOICE, *(key for key in TERMS if config.get(key) not in UNASKED))}, indent=1)}
```
"""  # noqa: E501
