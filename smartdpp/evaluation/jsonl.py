"""Held-out tasks in a file of JSON lines, the same fields as a corpus: see `smartdpp.corpus.jsonl`.

A row with ``choices`` is also multiple choice: ``answer`` is the right choice's text or its index from 0,
else the response is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from smartdpp.corpus.jsonl import Jsonl as Rows
from smartdpp.corpus.rows import MEDIA_OUT, WAY_OUT, with_ids
from smartdpp.errors import InputError
from smartdpp.evaluation import engines
from smartdpp.evaluation.checks import at_least, known, names_of, some_left
from smartdpp.evaluation.rows import evaluate_rows, row_problems
from smartdpp.evaluation.tasks import right_choice, unscored
from smartdpp.types import Model, Row

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 5  # wrong rows; the rest are counted


@dataclass(frozen=True)
class Jsonl:
    """Evaluates ``limit`` documents of each task in the file (or of ``tasks``), in a seeded order.

    Each prompt is preceded by ``num_fewshot`` solved rows of its task. Tasks that are in the corpus too leave
    the pool. The other parameters are those of `smartdpp.evaluation.heldout.Heldout` and
    `smartdpp.corpus.jsonl.Jsonl`.
    """

    from_corpus: ClassVar[bool] = False

    path: str | list[str]
    columns: dict[str, str | list[str]] | None = None
    constants: dict[str, str] | None = None
    tasks: list[str | int] | None = None
    num_fewshot: int = 0
    limit: int = 25  # documents per task
    batch_size: int = 32
    # of shots, prompt and response together; longer documents are passed over and counted
    max_tokens: int | None = None
    max_new_tokens: int = 32
    stop: str | None = "\n\n"
    generate: bool = True
    seed: int = 0
    generation: engines.Engine = "plain"  # what writes the answers
    contrast: bool = False  # whether a task was learned: see smartdpp.evaluation.contrast

    def __post_init__(self) -> None:
        at_least(
            1,
            limit=self.limit,
            batch_size=self.batch_size,
            max_tokens=self.max_tokens,
            max_new_tokens=self.max_new_tokens,
        )
        at_least(0, num_fewshot=self.num_fewshot, seed=self.seed)
        object.__setattr__(self, "tasks", names_of(self.tasks))
        with _as_evaluation():
            self._rows()

    def check(self) -> list[str]:
        found = [renamed(problem) for problem in self._rows().check()]
        return found + (engines.problems(self.generation, 0.0) if self.generate else [])

    def fingerprint(self) -> str:
        with _as_evaluation():
            return self._rows().fingerprint()

    def split(self) -> dict[str, Any]:
        return {"columns": self.columns or {}, "constants": self.constants or {}, "tasks": self.tasks}

    def heldout(self, tasks: list[str]) -> list[str]:
        """The file's tasks that are tasks of the corpus too, sorted."""
        shared = sorted(set(tasks) & {row["task"] for row in self.documents()})
        some_left(shared, tasks)
        return shared

    def documents(self) -> Iterator[Row]:
        """The file's rows, or those of ``tasks``. InputError names the line that cannot be read, or a task
        that is not there."""
        return (row for _, row in self._placed())

    def _placed(self) -> Iterator[tuple[str, Row]]:
        """The documents, each with its file and line."""
        seen: set[str] = set()
        place = ""

        def read() -> Iterator[tuple[str, Row]]:
            nonlocal place
            for place, row in self._rows()._read():  # noqa: UP028  # place is read below, before the next row is
                yield place, row

        with _as_evaluation():
            for row in with_ids(read):
                seen.add(row["task"])
                if self.tasks is None or row["task"] in self.tasks:
                    yield place, row
        known(
            map(str, self.tasks or []),
            seen,
            self.path if isinstance(self.path, str) else ", ".join(self.path),
        )

    def check_documents(self, heldout: pa.Table | None, model: Model | None) -> list[str]:
        """A wrong answer is told with its file and line, also in rows that ``limit`` leaves out."""
        tasks: dict[str, list[Row]] = {}
        wrong = []
        try:
            for place, row in self._placed():
                tasks.setdefault(row["task"], []).append(row)
                try:
                    right_choice(row)
                except InputError as error:
                    wrong.append(f"{place}: {error}")
        except InputError as error:
            return [str(error)]
        if wrong:
            more = f"; {len(wrong) - SHOWN} more rows have such an answer" if len(wrong) > SHOWN else ""
            return [*wrong[: SHOWN - 1], *(one + more for one in wrong[SHOWN - 1 : SHOWN])]
        return row_problems(
            tasks,
            None if heldout is None else model,
            limit=self.limit,
            max_new_tokens=self.max_new_tokens,
            generate=self.generate,
            seed=self.seed,
            max_tokens=self.max_tokens,
            num_fewshot=self.num_fewshot,
        )

    def aside(self, rows: Iterator[Row]) -> dict[str, list[str]]:
        return {}

    def unscored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        tasks: dict[str, list[Row]] = {}
        for row in self.documents():
            tasks.setdefault(row["task"], []).append(row)
        return {task: unscored(rows, self.limit, self.seed) for task, rows in tasks.items()}

    def stated(self, heldout: pa.Table | None, of_base: bool) -> str:
        return engines.stated(self.generation) if self.generate else ""

    def evaluate(self, model: Model, adapter: Path | None, heldout: pa.Table, out: Path) -> None:
        tasks: dict[str, list[Row]] = {}
        for row in self.documents():
            tasks.setdefault(row["task"], []).append(row)
        evaluate_rows(
            model,
            adapter,
            tasks,
            out,
            limit=self.limit,
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
            generate=self.generate,
            seed=self.seed,
            max_tokens=self.max_tokens,
            num_fewshot=self.num_fewshot,
            engine=self.generation,
            contrast=self.contrast,
            seen=tasks,
        )

    def _rows(self) -> Rows:
        return Rows(self.path, self.columns, self.constants)


@contextmanager
def _as_evaluation() -> Iterator[None]:
    """The corpus loader's messages name corpus.path and so on; here these parameters are evaluation.path."""
    try:
        yield
    except InputError as error:
        raise InputError(renamed(str(error))) from None


def renamed(message: str) -> str:
    """What a corpus's loader says of a file, as an evaluation's."""
    message = message.replace(WAY_OUT, "").replace(MEDIA_OUT, "")  # what is scored is never left out
    for parameter in ("path", "columns", "constants"):
        message = message.replace(f"corpus.{parameter}", f"evaluation.{parameter}")
    return message
