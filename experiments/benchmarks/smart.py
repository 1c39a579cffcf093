"""Times SMART over a whole corpus: stage 1 over its tasks and stage 2 inside every one of them.

    python experiments/benchmarks/smart.py corpus.jsonl.gz --work FOLDER

The corpus is any file with task, prompt and response. Prompts are embedded once with MiniLM, which reads
their first 64 tokens here, into FOLDER; only the selection is timed. Writes
experiments/results/benchmarks/smart.md.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parents[1] / "results" / "benchmarks"
TOKENS = 64


def pool(corpus: Path, work: Path):
    import pyarrow as pa

    from smartdpp.corpus.jsonl import Jsonl
    from smartdpp.embedding.sentence import MiniLM
    from smartdpp.embedding.shards import embed, load
    from smartdpp.types import Pool

    rows = list(Jsonl(path=str(corpus)).rows())
    if not (work / "X.npy").is_file():
        work.mkdir(parents=True, exist_ok=True)
        embed(MiniLM(max_seq_length=TOKENS, batch_size=64), pa.Table.from_pylist(rows), work)
    names = sorted({row["task"] for row in rows})
    number = {name: i for i, name in enumerate(names)}
    task = np.array([number[row["task"]] for row in rows])
    cost = np.array([len(row["prompt"]) + len(row["response"]) for row in rows])
    return Pool(ids=np.array([row["id"] for row in rows]), X=load(work), task=task, names=names, cost=cost)


def main() -> None:
    from smartdpp.functions import FacilityLocation, GraphCut, LogDet
    from smartdpp.strategies.smart import Smart

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="where the embedding is kept")
    parser.add_argument("--budgets", type=int, nargs="+", default=[5_000, 25_000])
    given = parser.parse_args()
    whole = pool(given.corpus, given.work)
    lines = [
        "# SMART over a whole corpus",
        "",
        f"{len(whole)} rows of {len(whole.names)} tasks ({given.corpus.name}), MiniLM on the first {TOKENS} "
        "tokens of a prompt, f1 graph",
        f"cut, all tasks kept. Seconds of both stages, {os.cpu_count()} cores. Measured by `python "
        "experiments/benchmarks/smart.py`.",
        "",
        "| f2 | budget | seconds | tasks with examples |",
        "|---|---:|---:|---:|",
    ]
    for instances in (FacilityLocation, GraphCut, LogDet):
        strategy = Smart(tasks=GraphCut, instances=instances)
        # loads and compiles what there is to load and compile
        strategy.select(whole, given.budgets[0], np.random.default_rng(0))
        for budget in given.budgets:
            start = time.perf_counter()
            chosen = strategy.select(whole, budget, np.random.default_rng(0))
            seconds = time.perf_counter() - start
            tasks = len(np.unique(whole.task[chosen.index]))
            lines.append(f"| {instances.__name__} | {budget} | {seconds:.2f} | {tasks} |")
    text = "\n".join(lines) + "\n"
    print(text)
    (RESULTS / "smart.md").write_text(text)


if __name__ == "__main__":
    main()
