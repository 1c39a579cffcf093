"""Documents of a corpus's own tasks, and whether they were learned rather than the form of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smartdpp.corpus.worlds import DOCUMENTS
from smartdpp.errors import InputError
from smartdpp.evaluation.checks import some_left
from smartdpp.evaluation.heldout import Heldout


@dataclass(frozen=True)
class Ability(Heldout):
    """Heldout, of the tasks that begin with ``target/`` where ``tasks`` is null, with the three numbers of
    `smartdpp.evaluation.contrast`."""

    contrast: ClassVar[bool] = True

    @property
    def draws(self) -> bool:
        return False

    def heldout(self, tasks: list[str]) -> list[str]:
        if self.tasks is not None:
            return super().heldout(tasks)
        names = sorted(set(tasks))
        if not (wanted := [name for name in names if name.startswith(DOCUMENTS)]):
            raise InputError(
                f"evaluation=ability: no task of the corpus begins with {DOCUMENTS!r}, as corpus=arena's "
                "documents do; name tasks in evaluation.tasks"
            )
        some_left(wanted, names)
        return wanted

    def _is_own(self, task: str) -> bool:
        return task in self.tasks if self.tasks is not None else task.startswith(DOCUMENTS)
