"""How SMART's first stage sees a task: the mean of its examples' embedding, or Task2Vec (Achille et al. 2019, arXiv 1902.03545).

Task2Vec is the diagonal of the Fisher information of the model on the task: which of its weights the task's examples pull at. Here it is
the empirical one, of the response given the prompt, averaged over the input side of each weight and over some examples of the task, each
divided by its sum: else the one example with the longest gradient, often the shortest response, would be its whole task.

Task2Vec's distance between tasks a and b is the cosine distance of F_a / (F_a + F_b) and F_b / (F_a + F_b). A submodular function needs one
vector a task, so F_b's place is taken by the mean over all tasks, once: the vector is F_a / (F_a + mean F), and tasks are compared by the
cosine of these vectors. Without that division the few weights that every task pulls at hardest decide everything.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.gradient.layers import Layers
from smartdpp.store import read_json, write_json

if TYPE_CHECKING:
    import pyarrow as pa

    from smartdpp.types import Model

SHARD = 16  # tasks: what a kill costs at most


@dataclass(frozen=True)
class Mean:
    """The mean of the embedding over the task's examples, as in SMART; there is nothing to compute beforehand."""

    from_embedding: ClassVar[bool] = True

    def check(self) -> list[str]:
        return []


@dataclass(frozen=True)
class Task2Vec:
    """float32[M, p], p the output widths of ``layers`` summed. ``examples`` of each task are drawn, all where it has fewer; a task's
    draw depends on ``seed`` and its own examples alone."""

    model: Model
    examples: int = 16
    layers: Layers = "attention"
    seed: int = 0
    batch_tokens: int = 1024
    from_embedding: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise InputError(f"task_vector.examples is {self.examples}: give at least 1 example a task (16 is the default).")

    def check(self) -> list[str]:
        return self.model.check()

    def measure(self, rows: pa.Table, out: Path) -> dict[str, Any]:
        """Writes ``fisher.npy`` (float32[M, p]) and ``tasks.json`` (M names, in order of first appearance) into ``out``."""
        from tqdm import tqdm

        chosen = sample(rows, self.examples, self.seed)
        names = list(chosen)
        starts = range(0, len(names), SHARD)
        missing = [start for start in starts if not _file(out, start).is_file()]
        if missing:
            fisher = self._fisher()
            todo = np.concatenate([chosen[name] for start in missing for name in names[start : start + SHARD]])
            total = int(rows["n_tokens"].take(todo).to_numpy().sum())
            with tqdm(total=total, desc="task vectors", unit="token", unit_scale=True) as bar:
                for start in missing:
                    tasks = names[start : start + SHARD]
                    _save(_file(out, start), np.stack([fisher(rows.take(chosen[name]), bar.update) for name in tasks]))
        F = np.concatenate([np.load(_file(out, start), allow_pickle=False) for start in starts])
        np.save(out / "fisher.npy", F, allow_pickle=False)
        write_json(out / "tasks.json", names)
        for start in starts:
            _file(out, start).unlink()
        return {"tasks": len(names), "p": F.shape[1], "examples": sum(map(len, chosen.values()))}

    def _fisher(self) -> Any:
        """Loads the model once; the function it returns maps a task's rows to its Fisher diagonal, float32[p]."""
        from smartdpp.batches import encoded
        from smartdpp.device import compute_dtype, placed
        from smartdpp.gradient import fisher_rows

        weights, tokenizer = placed(self.model.load(dtype=compute_dtype())), self.model.tokenizer()

        def fisher(rows: pa.Table, progress: Any) -> np.ndarray:
            examples = encoded(tokenizer, self.model.format, rows)
            total: Any = 0
            for at, F in fisher_rows(weights, examples, tokenizer.pad_token_id, self.layers, self.batch_tokens, rows["id"].to_pylist()):
                length = F.sum(axis=1, keepdims=True, dtype=np.float64)  # the squared norm of the gradient, up to the layers' widths
                total = total + (F / np.maximum(length, np.finfo(np.float64).tiny)).sum(axis=0)
                progress(sum(len(examples[i].ids) for i in at))
            return (total / len(rows)).astype(np.float32)

        return fisher


def sample(rows: pa.Table, k: int, seed: int) -> dict[str, np.ndarray]:
    """Up to k rows (int64) of every task by name, in order of first appearance: drawn from the task's rows sorted by id."""
    tasks, ids = np.asarray(rows["task"].to_pylist()), np.asarray(rows["id"].to_pylist())
    by_id = np.argsort(ids, kind="stable")
    order = by_id[np.argsort(tasks[by_id], kind="stable")]
    names, starts = np.unique(tasks[order], return_index=True)
    blocks = dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
    draw = {name: np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(block)[:k] for name, block in blocks.items()}
    return {name: draw[name] for name in dict.fromkeys(tasks.tolist())}


def relative(F: np.ndarray) -> np.ndarray:
    """float32[M, p], entries in [0, 1]: F / (F + mean over tasks), 1/2 where a task pulls at a weight as the average task does."""
    mean = F.mean(axis=0, dtype=np.float64)
    return np.divide(F, F + mean, out=np.zeros(F.shape), where=mean > 0).astype(np.float32)


def load(directory: Path) -> dict[str, np.ndarray]:
    """Each task's vector by its name."""
    V = relative(np.load(directory / "fisher.npy", allow_pickle=False))
    return dict(zip(read_json(directory / "tasks.json"), V, strict=True))


def _file(out: Path, start: int) -> Path:
    return out / f"tasks-{start:06d}.npy"


def _save(path: Path, part: np.ndarray) -> None:
    temporary = path.with_suffix(".writing")
    with temporary.open("wb") as file:
        np.save(file, part, allow_pickle=False)
    temporary.replace(path)
