"""Several evaluations in one run: transfer to held-out tasks beside the pool's own tasks, say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from smartdpp.errors import InputError
from smartdpp.evaluation.checks import some_left
from smartdpp.evaluation.heldout import Heldout
from smartdpp.evaluation.indomain import Indomain, IndomainFile
from smartdpp.evaluation.jsonl import Jsonl
from smartdpp.evaluation.judged import Judged
from smartdpp.evaluation.none import NoEvaluation
from smartdpp.metrics import METRICS
from smartdpp.store.disk import read_json, write_json
from smartdpp.types import Evaluation, Model, Row

if TYPE_CHECKING:
    import pyarrow as pa

RESERVED = {*METRICS, "seconds", "made_in", "peak_gib"}  # which begin names in result.json


@dataclass(frozen=True)
class Combined:
    """The evaluations in ``of``, by name. The first is the main one: a run's score and the usual columns are
    its, a query is of its tasks.

    Each other one leaves its files in a folder of its name, and its columns begin with its name:
    ``indomain/loss``.
    """

    from_corpus: ClassVar[bool] = True
    reads_base: ClassVar[bool] = True  # for those parts that do

    of: dict[str, Evaluation]

    def __post_init__(self) -> None:
        if not self.of:
            raise InputError(
                "evaluation.of is empty: add an evaluation with +evaluation@evaluation.of.NAME=OPTION, or "
                "score nothing with "
                "evaluation=none"
            )
        for name, part in self.of.items():
            if not re.fullmatch(r"[A-Za-z]\w*", name) or name in RESERVED:
                raise InputError(
                    f"evaluation.of.{name}: call it otherwise, in letters, digits and _; the names of "
                    "columns begin with it"
                )
            if isinstance(part, (Combined, NoEvaluation)):
                raise InputError(
                    f"evaluation.of.{name}: it scores nothing of its own; take it out with "
                    f"~evaluation@evaluation.of.{name}"
                )
        rows = {name: _rows(part) for name, part in self._distinct().items()}
        if sum(isinstance(part, Indomain) for part in rows.values()) > 1:
            raise InputError(
                "evaluation.of: two evaluations set rows of the pool's tasks aside; leave one, with the "
                "tasks of both"
            )
        whole = {
            name: part
            for name, part in rows.items()
            if isinstance(part, (Heldout, Jsonl)) and not isinstance(part, IndomainFile)
        }
        drawn = [name for name, part in whole.items() if isinstance(part, Heldout) and part.draws]
        if drawn and len(whole) > 1:
            raise InputError(
                f"evaluation.of.{drawn[0]}.tasks is null: {', '.join(whole)} hold out tasks together, so "
                "name this one's"
            )

    @property
    def batch_size(self) -> int:
        return max(getattr(part, "batch_size", 1) for part in self.of.values())

    @property
    def max_new_tokens(self) -> int | None:
        found = [
            getattr(part, "max_new_tokens", None)
            for part in self.of.values()
            if getattr(part, "generate", True)
        ]
        return max((new for new in found if new is not None), default=None)

    def check(self) -> list[str]:
        return self._named((name, part.check()) for name, part in self.of.items())

    def check_documents(self, heldout: pa.Table | None, model: Model | None) -> list[str]:
        return self._named((name, part.check_documents(heldout, model)) for name, part in self.of.items())

    def fingerprint(self) -> str:
        return " ".join(
            f"{name}:{content}" for name, part in self.of.items() if (content := part.fingerprint())
        )

    def split(self) -> dict[str, Any]:
        """Of one that holds anything out it is the same as of that one alone, so both share the corpus."""
        found = [split for part in self._distinct().values() if (split := part.split())]
        return found[0] if len(found) == 1 else {"of": found}

    def heldout(self, tasks: list[str]) -> list[str]:
        found = set()
        for name, part in self.of.items():
            with _placed(name):
                found |= set(part.heldout(tasks))
        some_left(found, tasks)
        return sorted(found)

    def aside(self, rows: Iterator[Row]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, part in self._distinct().items():
            with _placed(name):
                found |= part.aside(rows)  # one of them reads the rows
        return found

    def unscored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        return next(iter(self.of.values())).unscored(heldout)

    def documents(self) -> Iterator[Row]:
        return chain.from_iterable(part.documents() for part in self.of.values())

    def stated(self, heldout: pa.Table | None, of_base: bool) -> str:
        judged = {name: part for name, part in self.of.items() if hasattr(part, "stated")}
        found = {name: part.stated(heldout, of_base) for name, part in judged.items()}
        return "; ".join(f"{name}: {said}" for name, said in found.items() if said)

    def evaluate(
        self, model: Model, adapter: Path | None, heldout: pa.Table, out: Path, base: Path | None = None
    ) -> None:
        found = {}
        for i, (name, part) in enumerate(self.of.items()):
            folder = name if i else "."
            (out / folder).mkdir(exist_ok=True)
            reads = {"base": base and base / folder} if getattr(part, "reads_base", False) else {}
            part.evaluate(model, adapter, heldout, out / folder, **reads)
            if i:
                found[name] = read_json(out / name / "scores.json")
        write_json(out / "scores.json", read_json(out / "scores.json") | {"others": found})

    def _distinct(self) -> dict[str, Evaluation]:
        """Without a judge of the very rows that another part scores: they are held out once."""
        others = [part.split() for part in self.of.values() if not isinstance(part, Judged)]
        return {
            name: part
            for name, part in self.of.items()
            if not (isinstance(part, Judged) and part.split() in others)
        }

    def _named(self, problems: Any) -> list[str]:
        return [_place(problem, name) for name, some in problems for problem in some]


def _place(problem: str, name: str) -> str:
    return problem.replace("evaluation.", f"evaluation.of.{name}.")


@contextmanager
def _placed(name: str) -> Iterator[None]:
    """A part's InputError names its settings by where they are."""
    try:
        yield
    except InputError as error:
        raise InputError(_place(str(error), name)) from None


def _rows(part: Evaluation) -> Any:
    """What decides the rows of a part: a judge takes another evaluation's."""
    return part.rows if isinstance(part, Judged) else part
