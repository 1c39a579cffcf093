"""Task families split off the corpus: never trained on, so a gain there is transfer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.evaluation import engines
from smartdpp.evaluation.checks import at_least, known, names_of, some_left
from smartdpp.evaluation.rows import evaluate_rows, row_problems
from smartdpp.evaluation.tasks import unscored
from smartdpp.types import Model, Row

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Heldout:
    """Evaluates ``limit`` documents of each held-out task, in a seeded order.

    ``tasks`` names them; None lets ``seed`` draw ``num_tasks`` of the corpus's. A generation ends with
    end-of-text, at the ``stop`` text after its first words (a blank line: a base model has not learned to
    end) or after ``max_new_tokens``. ``generate=False`` measures the loss alone, in about half the time.
    """

    from_corpus: ClassVar[bool] = True
    contrast: ClassVar[bool] = False  # see smartdpp.evaluation.ability

    tasks: list[str | int] | None = None
    num_tasks: int = 8
    limit: int = 25  # documents per task
    batch_size: int = 32
    max_new_tokens: int = 32
    stop: str | None = "\n\n"
    generate: bool = True
    seed: int = 0
    generation: engines.Engine = "plain"  # what writes the answers

    @property
    def draws(self) -> bool:
        """Whether its tasks are drawn of all that the corpus has."""
        return self.tasks is None

    def __post_init__(self) -> None:
        at_least(
            1,
            num_tasks=self.num_tasks,
            limit=self.limit,
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
        )
        at_least(0, seed=self.seed)
        object.__setattr__(self, "tasks", names_of(self.tasks))
        if self.tasks is not None and not self.tasks:
            raise InputError(
                "evaluation.tasks is empty: name at least one task of the corpus, null to draw num_tasks of "
                "them, or evaluation=none"
            )

    def check(self) -> list[str]:
        return engines.problems(self.generation, 0.0) if self.generate else []

    def fingerprint(self) -> str:
        return ""  # the documents are the corpus's own

    def split(self) -> dict[str, Any]:
        return (
            {"tasks": self.tasks}
            if self.tasks is not None
            else {"num_tasks": self.num_tasks, "seed": self.seed}
        )

    def heldout(self, tasks: list[str]) -> list[str]:
        """The names held out, sorted. InputError names any that is not in the corpus, or says that no task
        would be left to train on."""
        names = sorted(set(tasks))
        if self.tasks is None:
            wanted = [
                names[i] for i in np.random.default_rng(self.seed).permutation(len(names))[: self.num_tasks]
            ]
        else:
            wanted = list(dict.fromkeys(self.tasks))
        known(wanted, names, "the corpus")
        some_left(wanted, names)
        return sorted(wanted)

    def aside(self, rows: Iterator[Row]) -> dict[str, list[str]]:
        return {}

    def unscored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        return {task: unscored(rows, self.limit, self.seed) for task, rows in self._own(heldout).items()}

    def documents(self) -> Iterator[Row]:
        return iter(())

    def check_documents(self, heldout: pa.Table | None, model: Model | None) -> list[str]:
        how = {
            "limit": self.limit,
            "max_new_tokens": self.max_new_tokens,
            "generate": self.generate,
            "seed": self.seed,
        }
        return [] if heldout is None else row_problems(self._own(heldout), model, **how)  # type: ignore[arg-type]

    def stated(self, heldout: pa.Table | None, of_base: bool) -> str:
        return engines.stated(self.generation) if self.generate else ""

    def evaluate(self, model: Model, adapter: Path | None, heldout: pa.Table, out: Path) -> None:
        evaluate_rows(
            model,
            adapter,
            self._own(heldout),
            out,
            limit=self.limit,
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
            generate=self.generate,
            seed=self.seed,
            contrast=self.contrast,
            engine=self.generation,
        )

    def _own(self, heldout: pa.Table) -> dict[str, list[Row]]:
        """By task. Other rows are another evaluation's, beside which this one stands (see
        smartdpp.evaluation.combined)."""
        tasks: dict[str, list[Row]] = {}
        for row in heldout.to_pylist():
            if not row.get("aside") and self._is_own(row["task"]):
                tasks.setdefault(row["task"], []).append(row)
        return tasks

    def _is_own(self, task: str) -> bool:
        return self.tasks is None or task in self.tasks
