"""What a targeted selection knows of its target: some examples of it, and where they come from without giving
an answer away.

A query is looked at before the mixture is chosen, so nothing that is scored may be in it. `Development` takes
rows of the held-out tasks that are not scored: the evaluation orders a task's rows by its seed and scores the
first ``limit``; the query is taken from the end of that order, and leaves out rows whose prompt is also a
scored one's. `File` takes a user's own prompts, and refuses those that are a held-out prompt. Once the scores
are there, their documents are compared with the query again, by id.

A targeted mixture has seen examples of the held-out tasks, which the other strategies have not: say so when
comparing. How much of an example it has seen is the embedding's: of sentence embeddings the prompt alone, of
gradients the response too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from smartdpp.corpus.jsonl import Jsonl
from smartdpp.corpus.notes import noted
from smartdpp.corpus.overlap import plain
from smartdpp.corpus.rows import MEDIA_OUT, WAY_OUT
from smartdpp.errors import InputError
from smartdpp.types import Evaluation, Row

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Development:
    """``per_task`` unscored rows of each held-out task."""

    per_task: int = 8

    def __post_init__(self) -> None:
        if self.per_task < 1:
            raise InputError(
                f"strategy.query.per_task is {self.per_task}: give at least 1 row of each held-out task."
            )

    def check(self) -> list[str]:
        return []

    def fingerprint(self) -> str:
        return ""

    def rows(self, evaluation: Evaluation, heldout: pa.Table) -> list[Row]:
        """InputError names a task with too few rows that are not scored."""
        tasks = evaluation.unscored(heldout)
        if not tasks:
            raise InputError(
                "strategy.query: this evaluation has no rows beside those it scores; "
                "give prompts like the target's in a file (query@strategy.query=file "
                "strategy.query.path=FILE), or with "
                "evaluation=indomain set some aside for it (evaluation.spare=8)."
            )
        for task, rows in sorted(tasks.items()):
            if len(rows) < self.per_task:
                raise InputError(
                    f"strategy.query.per_task is {self.per_task}, but {len(rows)} rows of the held-out task "
                    f"{task!r} are not scored: lower it or the evaluation's limit, or give more rows "
                    "(corpus.per_family, evaluation.spare)."
                )
        return [row for _, rows in sorted(tasks.items()) for row in rows[: self.per_task]]


@dataclass(frozen=True)
class File:
    """All rows of a file, or a folder of files, of JSON lines: see smartdpp.corpus.jsonl, also for the names
    that answers may have. A prompt alone is enough for an embedding that reads prompts, with ``constants``
    for the fields the rows lack."""

    path: str | list[str]
    columns: dict[str, str | list[str]] | None = None
    constants: dict[str, str] | None = None

    def check(self) -> list[str]:
        return [problem.replace("corpus.", "strategy.query.") for problem in self._file().check()]

    def fingerprint(self) -> str:
        return self._file().fingerprint()

    def rows(self, evaluation: Evaluation, heldout: pa.Table) -> list[Row]:
        """InputError names the first row whose prompt is a held-out one's."""
        with noted():  # of the evaluation: the corpus stage has told
            prompts = {
                plain(row["prompt"])
                for row in chain(heldout.select(["prompt"]).to_pylist(), evaluation.documents())
            }
        try:
            rows = list(self._file().rows())
        except InputError as error:
            said = str(error).replace(WAY_OUT, "").replace(MEDIA_OUT, "")
            raise InputError(said.replace("corpus.", "strategy.query.")) from None
        leaks = [row for row in rows if plain(row["prompt"]) in prompts]
        if leaks:
            raise InputError(
                f"strategy.query.path={self.path}: {len(leaks)} prompts, first that of row "
                f"{leaks[0]['id']!r}, are prompts of the held-out "
                "documents: a query must not hold what is scored."
            )
        return rows

    def _file(self) -> Jsonl:
        return Jsonl(self.path, self.columns, {"task": "query", "response": ""} | (self.constants or {}))
