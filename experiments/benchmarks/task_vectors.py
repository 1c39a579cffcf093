"""What a task's vector sees: the mean of sentence embeddings, the mean of the model's hidden states, or
Task2Vec.

    python experiments/benchmarks/task_vectors.py corpus.jsonl.gz tasks and their datasets are read from the
    rows
    python experiments/benchmarks/task_vectors.py corpus.jsonl --examples 16

Two questions. Is a task's nearest neighbour (cosine) another task of its dataset: precision@1, beside the
rate of a blind guess? And which tasks does SMART's first stage (graph cut, λ = 0.4) keep: how many of them
are those it keeps on the mean of sentence embeddings, and from how many datasets do they come? Tasks with too
few short rows are left out and counted. The model is SmolLM2-135M-Instruct in plain format. An interrupted
run goes on where it stopped. Written: task_vectors.csv and task_vectors.md, beside the other timings.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from smartdpp.corpus.jsonl import Jsonl
from smartdpp.embedding.hidden import Hidden
from smartdpp.embedding.sentence import MiniLM
from smartdpp.embedding.shards import embed
from smartdpp.functions import GraphCut
from smartdpp.greedy import maximize
from smartdpp.models import SmolLM2
from smartdpp.models.tokens import encode
from smartdpp.store.artifact import publish
from smartdpp.store.disk import digest, read_json
from smartdpp.store.record import measured
from smartdpp.task_vectors import Task2Vec
from smartdpp.task_vectors.task2vec import relative, sample

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
KEPT = (16, 32, 64)  # M'
SENTENCES = 20  # rows a task for the mean of sentence embeddings, which are cheap


def short_rows(
    path: str, model: SmolLM2, max_tokens: int, examples: int, tasks: int | None
) -> tuple[Any, int]:
    """Rows of at most ``max_tokens`` of the tasks that have ``examples`` of them, and how many tasks were
    left out."""
    import pyarrow as pa

    tokenizer, kept, seen = model.tokenizer(), [], set()
    for row in Jsonl(path).rows():
        seen.add(row["task"])
        if len(row["prompt"]) + len(row["response"]) > 8 * max_tokens:  # no need to count these
            continue
        ids, n_prompt = encode(tokenizer, model.format, row["prompt"], row["response"])
        if len(ids) <= max_tokens and row["response"].strip():
            names = ("id", "task", "dataset", "prompt", "response")
            kept.append(
                {name: row[name] for name in names} | {"n_tokens": len(ids), "n_prompt_tokens": n_prompt}
            )
    count = Counter(row["task"] for row in kept)
    chosen = sorted(task for task in count if count[task] >= examples)[:tasks]
    return pa.Table.from_pylist([row for row in kept if row["task"] in set(chosen)]), len(seen) - len(chosen)


def mean_vectors(embedding: Any, rows: Any, k: int, work: Path) -> np.ndarray:
    """float32[M, d]: the mean embedding of up to k rows a task, the same rows that Task2Vec draws first."""
    drawn = sample(rows, k, seed=0)
    chosen = rows.take(np.concatenate(list(drawn.values())))
    publish(work, lambda partial: measured(lambda out: embed(embedding, chosen, out), partial))
    X = np.load(work / "X.npy", allow_pickle=False)
    return np.stack(
        [part.mean(axis=0) for part in np.split(X, np.cumsum([len(part) for part in drawn.values()])[:-1])]
    )


def cosine(V: np.ndarray) -> np.ndarray:
    V = V / np.linalg.norm(V, axis=1, keepdims=True)
    return V @ V.T


def symmetric(F: np.ndarray) -> np.ndarray:
    """Task2Vec's own similarity of every pair: the cosine of F_a / (F_a + F_b) and F_b / (F_a + F_b)."""
    S = np.empty((len(F), len(F)))
    for a in range(len(F)):
        total = F[a] + F
        A, B = (np.divide(part, total, out=np.zeros_like(total), where=total > 0) for part in (F[a], F))
        S[a] = (A * B).sum(1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1)
    return S


def precision_at_1(S: np.ndarray, dataset: np.ndarray) -> float:
    S = S.copy()
    np.fill_diagonal(S, -np.inf)
    # a task alone in its dataset has nothing to find
    paired = np.array([(dataset == name).sum() > 1 for name in dataset])
    return float((dataset[S.argmax(1)] == dataset)[paired].mean())


def study(rows: Any, examples: int, work: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    model = SmolLM2(format="plain")
    names = list(sample(rows, 1, seed=0))
    dataset_of = dict(zip(rows["task"].to_pylist(), rows["dataset"].to_pylist(), strict=True))
    dataset = np.array([dataset_of[name] for name in names])
    M = len(names)

    minilm = mean_vectors(MiniLM(), rows, SENTENCES, work / "minilm")
    few = mean_vectors(MiniLM(), rows, examples, work / "minilm_few")
    hidden = mean_vectors(Hidden(model), rows, examples, work / "hidden")
    task2vec = Task2Vec(model, examples=examples)
    publish(work / "task2vec", lambda partial: measured(lambda out: task2vec.measure(rows, out), partial))
    F = np.load(work / "task2vec" / "X.npy", allow_pickle=False)
    assert read_json(work / "task2vec" / "tasks.json") == names
    seconds = {
        name: read_json(work / name / "meta.json")["seconds"]
        for name in ("minilm", "minilm_few", "hidden", "task2vec")
    }

    vectors = {
        f"mean of MiniLM, {SENTENCES} rows a task": (minilm, "minilm"),
        f"mean of MiniLM, {examples} rows a task": (few, "minilm_few"),
        f"mean of hidden states, {examples} rows a task": (hidden, "hidden"),
        f"Task2Vec F / (F + mean F), {examples} rows a task": (relative(F), "task2vec"),
        f"Fisher diagonal F itself, {examples} rows a task": (F, "task2vec"),
    }
    table = []
    reference = {k: set(maximize(GraphCut(minilm), k).index.tolist()) for k in KEPT if k < M}
    for name, (V, source) in vectors.items():
        line: dict[str, Any] = {
            "task vector": name,
            "dimensions": V.shape[1],
            "precision@1": precision_at_1(cosine(V), dataset),
        }
        for k, chosen in reference.items():
            mine = maximize(GraphCut(V), k).index
            line |= {
                f"shared of {k}": len(chosen & set(mine.tolist())),
                f"datasets in {k}": len(set(dataset[mine])),
            }
        table.append(line | {"seconds": seconds[source]})
    table.append(
        {
            "task vector": "Task2Vec, its pairwise distance",
            "dimensions": F.shape[1],
            "precision@1": precision_at_1(symmetric(F), dataset),
        }
    )
    same = np.array([(dataset == name).sum() - 1 for name in dataset])
    blind: dict[str, Any] = {
        "task vector": "a blind guess",
        "precision@1": float((same[same > 0] / (M - 1)).mean()),
    }
    for k in reference:
        draws = [np.random.default_rng(seed).permutation(M)[:k] for seed in range(200)]
        blind |= {
            f"shared of {k}": k * k / M,
            f"datasets in {k}": float(np.mean([len(set(dataset[draw])) for draw in draws])),
        }
    table.append(blind)
    return table, {"tasks": M, "datasets": len(set(dataset))}


def write(table: list[dict[str, Any]], note: str, out: Path) -> str:
    import pandas as pd

    frame = pd.DataFrame(table)
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "task_vectors.csv", index=False)

    def cell(value: Any) -> str:
        if isinstance(value, str):
            return value
        return "" if value != value else f"{value:.3f}" if value < 1 else f"{value:.1f}".removesuffix(".0")

    lines = ["| " + " | ".join(frame.columns) + " |", "|---|" + "---:|" * (len(frame.columns) - 1)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in frame.itertuples(index=False)]
    text = f"# Task vectors\n\n{note}\n\n" + "\n".join(lines) + "\n"
    (out / "task_vectors.md").write_text(text, encoding="utf-8")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", help="JSON lines with task, dataset, prompt and response")
    parser.add_argument("--examples", type=int, default=4, help="of each task, for the passes over the model")
    parser.add_argument("--max-tokens", type=int, default=128, help="rows above are left out")
    parser.add_argument("--tasks", type=int, help="only the first so many")
    parser.add_argument(
        "--work", type=Path, default=Path("store/task_vectors_study"), help="where finished parts are kept"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()

    began = time.perf_counter()
    rows, left_out = short_rows(
        given.corpus, SmolLM2(format="plain"), given.max_tokens, given.examples, given.tasks
    )
    key = digest([Jsonl(given.corpus).fingerprint(), given.examples, given.max_tokens, given.tasks])
    table, facts = study(rows, given.examples, given.work / key)
    note = (
        f"{facts['tasks']} tasks of {facts['datasets']} datasets with at least {given.examples} rows of at "
        f"most {given.max_tokens} tokens; "
        f"{left_out} tasks without them are left out. SmolLM2-135M-Instruct, plain format, attention "
        "layers. precision@1: the nearest task "
        "by cosine is of the same dataset. Shared: tasks that graph cut keeps here and on the first line's "
        "vectors. Seconds are those of "
        "making the vectors, on two x86-64 cores that did other work too; the readings of the Fisher "
        "diagonal share one pass. That an "
        "example's diagonal is divided by its sum was decided by this measure on tasks of T0: about sixteen "
        "readings were tried there, so "
        "it is no blind test."
    )
    print(write(table, note, given.out))
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
