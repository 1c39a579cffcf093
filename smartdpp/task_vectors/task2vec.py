"""How SMART's first stage sees a task: the mean of its examples' embedding, or Task2Vec (Achille et al. 2019,
arXiv 1902.03545).

Task2Vec is the diagonal of the Fisher information of the model on the task: which of its weights the task's
examples pull at. Here it is the empirical one, of the response given the prompt, averaged over the input side
of each weight and over some examples of the task, each divided by its sum: else the one example with the
longest gradient, often the shortest response, would be its whole task.

Task2Vec's distance between tasks a and b is the cosine distance of F_a / (F_a + F_b) and F_b / (F_a + F_b). A
submodular function needs one vector a task, so F_b's place is taken by the mean over all tasks, once: the
vector is F_a / (F_a + mean F), and tasks are compared by the cosine of these vectors. Without that division
the few weights that every task pulls at hardest decide everything.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.dtypes import StringDType

from smartdpp.bounds import Seed
from smartdpp.errors import InputError
from smartdpp.gradient.layers import Layers
from smartdpp.runtime import shards
from smartdpp.store.disk import read_json, write_json

if TYPE_CHECKING:
    import pyarrow as pa

    from smartdpp.types import Model

SEVERAL = {
    "id": "ids",
    "prompt": "prompts",
    "response": "responses",
    "messages": "conversations",
    "tools": "tools",
}
SHARD = 16  # tasks: what a kill costs at most


@dataclass(frozen=True)
class Task2Vec:
    """float32[M, p], p the output widths of ``layers`` summed. ``examples`` of each task are drawn, all where
    it has fewer; a task's draw depends on ``seed`` and its own examples alone."""

    model: Model
    examples: int = 16
    layers: Layers = "attention"
    seed: Seed = 0
    batch_tokens: int = 1024
    processes: int = 1
    from_embedding: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("examples", "batch_tokens", "processes"):
            if getattr(self, name) < 1:
                raise InputError(f"task_vector.{name} is {getattr(self, name)}: it must be at least 1")

    def check(self) -> list[str]:
        return self.model.check()

    def measure(self, rows: pa.Table, out: Path) -> dict[str, Any]:
        """Writes the Fisher diagonals, ``X.npy`` (float32[M, p]), and ``tasks.json`` (M names, in order of
        first appearance)."""
        tasks = drawn(rows, self.examples, self.seed)
        facts = shards.run(self, tasks, out, "task vectors", SHARD, self.processes)
        write_json(out / "tasks.json", tasks["id"].to_pylist())
        examples = int(np.sum([len(ids) for ids in tasks["ids"].to_pylist()]))
        return facts | {"tasks": len(tasks), "p": facts["d"], "examples": examples}

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        """For tasks as ``drawn`` gives them. Loads the model once; the function it returns maps m tasks to
        float32[m, p]."""
        import pyarrow as pa

        from smartdpp.gradient import fisher_rows
        from smartdpp.models.batches import encoded, refuse_blank
        from smartdpp.runtime.device import compute_dtype, placed

        tokenizer, fmt = self.model.tokenizer(), self.model.format

        def examples_of(task: Mapping[str, Any]) -> pa.Table:
            return pa.table(
                {
                    name: pa.array(task[several], pa.string())
                    for name, several in SEVERAL.items()
                    if several in task
                }
            )

        refuse_blank(tokenizer, fmt, pa.concat_tables([examples_of(task) for task in rows.to_pylist()]))
        weights = placed(self.model.load(dtype=compute_dtype()))

        def fisher(task: Mapping[str, Any]) -> np.ndarray:
            examples = encoded(tokenizer, fmt, examples_of(task))
            total: Any = 0
            for _, F in fisher_rows(
                weights, examples, tokenizer.pad_token_id, self.layers, self.batch_tokens, task["ids"]
            ):
                # the squared norm of the gradient, up to the layers' widths
                length = F.sum(axis=1, keepdims=True, dtype=np.float64)
                total = total + (F / np.maximum(length, np.finfo(np.float64).tiny)).sum(axis=0)
            return total / len(examples)

        return lambda tasks: np.stack([fisher(task) for task in tasks.to_pylist()])


def drawn(rows: pa.Table, k: int, seed: int) -> pa.Table:
    """One row a task: its name (``id``), and of the examples that ``sample`` draws the ids, prompts,
    responses and tokens in all."""
    import pyarrow as pa

    tasks = [{"id": name} | _lists(rows.take(at)) for name, at in sample(rows, k, seed).items()]
    return pa.Table.from_pylist(tasks)


def _lists(examples: pa.Table) -> dict[str, Any]:
    read = {
        several: examples[name].to_pylist()
        for name, several in SEVERAL.items()
        if name in examples.column_names
    }
    return read | {"n_tokens": int(examples["n_tokens"].to_numpy().sum())}


def sample(rows: pa.Table, k: int, seed: int) -> dict[str, np.ndarray]:
    """Up to k rows (int64) of every task by name, in order of first appearance: drawn from the task's rows
    sorted by id."""
    # of no fixed width
    tasks, ids = (np.asarray(rows[name].to_pylist(), dtype=StringDType()) for name in ("task", "id"))
    by_id = np.argsort(ids, kind="stable")
    order = by_id[np.argsort(tasks[by_id], kind="stable")]
    names, starts = np.unique(tasks[order], return_index=True)
    blocks = dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
    draw = {
        name: np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(block)[:k]
        for name, block in blocks.items()
    }
    return {name: draw[name] for name in dict.fromkeys(tasks.tolist())}


def relative(F: np.ndarray) -> np.ndarray:
    """float32[M, p], entries in [0, 1]: F / (F + mean over tasks), 1/2 where a task pulls at a weight as the
    average task does."""
    mean = F.mean(axis=0, dtype=np.float64)
    return np.divide(F, F + mean, out=np.zeros(F.shape), where=mean > 0).astype(np.float32)


def load(directory: Path) -> dict[str, np.ndarray]:
    """Each task's vector by its name."""
    V = relative(np.asarray(shards.load(directory)))
    return dict(zip(read_json(directory / "tasks.json"), V, strict=True))


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line."""
    return f"{facts['tasks']} tasks x {facts['p']}, from {facts['examples']} examples"
