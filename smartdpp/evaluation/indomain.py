"""Rows of the pool's own tasks, set aside before anything is chosen: whether the model becomes better at what
it is trained on.

Which rows are set aside follows from each prompt's own text: a task's prompts are ordered by a hash, and the
first ones are taken. The order of the corpus plays no part, and a row more or less in it moves no other row,
but for the one at the end. Of equal prompts one row is taken; the corpus stage takes the others, and what
nearly reads the same, out of the pool (see smartdpp.corpus.overlap.NearCopies).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from smartdpp.corpus.overlap import plain
from smartdpp.errors import InputError
from smartdpp.evaluation import engines
from smartdpp.evaluation.checks import at_least, known, names_of
from smartdpp.evaluation.jsonl import Jsonl
from smartdpp.evaluation.rows import evaluate_rows, row_problems
from smartdpp.types import Model, Row

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Indomain:
    """Scores ``per_task`` rows of each task of the pool, or of ``tasks``; ``spare`` more of each are for a
    query.

    A task gives rows only if it has twice as many different prompts as would be set aside. One that has fewer
    stays in the pool and is not evaluated, which is counted and said; if it was named, it is refused. The
    other parameters are Heldout's.
    """

    from_corpus: ClassVar[bool] = True

    tasks: list[str | int] | None = None
    per_task: int = 5
    spare: int = 0  # more of each task that are not scored, for a query
    batch_size: int = 32
    max_new_tokens: int = 32
    stop: str | None = "\n\n"
    generate: bool = True
    seed: int = 0  # of the hash
    generation: engines.Engine = "plain"  # what writes the answers
    contrast: bool = False  # whether a task was learned: see smartdpp.evaluation.contrast

    def __post_init__(self) -> None:
        at_least(1, per_task=self.per_task, batch_size=self.batch_size, max_new_tokens=self.max_new_tokens)
        at_least(0, spare=self.spare, seed=self.seed)
        object.__setattr__(self, "tasks", names_of(self.tasks))
        if self.tasks is not None and not self.tasks:
            raise InputError("evaluation.tasks is empty: name tasks of the corpus, or null for all of them")

    def check(self) -> list[str]:
        return engines.problems(self.generation, 0.0) if self.generate else []

    def fingerprint(self) -> str:
        return ""  # the documents are the corpus's own

    def split(self) -> dict[str, Any]:
        return {"aside": {name: getattr(self, name) for name in ("tasks", "per_task", "spare", "seed")}}

    def heldout(self, tasks: list[str]) -> list[str]:
        known(map(str, self.tasks or []), tasks, "the corpus")
        return []

    def aside(self, rows: Iterator[Row]) -> dict[str, list[str]]:
        """Keeps at most four times as many prompts of a task in memory as are set aside."""
        wanted = self.per_task + self.spare
        # of each task: a prompt's place in the order to its first row
        first: dict[str, dict[bytes, tuple[bytes, str]]] = {}
        for row in rows:
            if self.tasks is not None and row["task"] not in self.tasks:
                continue
            prompts, place = first.setdefault(row["task"], {}), self._place(row)
            one = _digest(row["response"]), row["id"]
            prompts[place] = min(prompts.get(place, one), one)
            if len(prompts) > 4 * wanted:
                first[row["task"]] = {key: prompts[key] for key in sorted(prompts)[: 2 * wanted]}
        few = {task: len(prompts) for task, prompts in sorted(first.items()) if len(prompts) < 2 * wanted}
        few |= dict.fromkeys(set(map(str, self.tasks or [])) - first.keys(), 0)
        if few and (self.tasks is not None or len(few) == len(first)):
            task, n = next(iter(few.items()))
            raise InputError(
                f"evaluation.per_task={self.per_task} and spare={self.spare}: a task needs {2 * wanted} "
                "different prompts to set "
                f"{wanted} aside, and {len(few)} "
                f"{'that are named have' if self.tasks is not None else 'of them, all, have'} fewer, "
                f"such as {task!r} with {n}; lower the two, or "
                f"{'name' if self.tasks is not None else 'give'} larger tasks"
            )
        return {
            task: [] if task in few else [prompts[key][1] for key in sorted(prompts)[:wanted]]
            for task, prompts in sorted(first.items())
        }

    def unscored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        return {task: rows[self.per_task :] for task, rows in self._own(heldout).items() if self.spare}

    def documents(self) -> Iterator[Row]:
        return iter(())

    def check_documents(self, heldout: pa.Table | None, model: Model | None) -> list[str]:
        how = {
            "limit": self.per_task,
            "max_new_tokens": self.max_new_tokens,
            "generate": self.generate,
            "seed": self.seed,
        }
        return [] if heldout is None else row_problems(self._scored(heldout), model, **how)  # type: ignore[arg-type]

    def stated(self, heldout: pa.Table | None, of_base: bool) -> str:
        return engines.stated(self.generation) if self.generate else ""

    def evaluate(self, model: Model, adapter: Path | None, heldout: pa.Table, out: Path) -> None:
        evaluate_rows(
            model,
            adapter,
            self._scored(heldout),
            out,
            limit=self.per_task,
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
            generate=self.generate,
            seed=self.seed,
            engine=self.generation,
            contrast=self.contrast,
        )

    def _scored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        return {task: rows[: self.per_task] for task, rows in self._own(heldout).items()}

    def _own(self, heldout: pa.Table) -> dict[str, list[Row]]:
        """The rows that were set aside, by task, in the order of their hashes."""
        tasks: dict[str, list[Row]] = {}
        for row in sorted((row for row in heldout.to_pylist() if row.get("aside")), key=self._place):
            tasks.setdefault(row["task"], []).append(row)
        return tasks

    def _place(self, row: Row) -> bytes:
        return _digest(f"{self.seed} {plain(row['prompt'])}")


@dataclass(frozen=True)
class IndomainFile(Jsonl):
    """The rows of a file, whose tasks stay in the pool where it has them too: only near copies of the rows
    leave it."""

    def split(self) -> dict[str, Any]:
        return super().split() | {"aside": "file"}

    def heldout(self, tasks: list[str]) -> list[str]:
        return []


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
