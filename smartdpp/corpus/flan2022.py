"""FLAN 2022 as SMART uses it (arXiv 2403.08370): five submixtures, about 1,840 tasks and 17.6 million
examples.

The datasets are `kowndinya23/{submixture}-submix-4096` with columns inputs, targets, task_source, task_name
and template_type. The template type (zero- or few-shot, with or without options) is kept: SMART splits a
task's budget over its template pools.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from smartdpp.corpus.hub import Hub
from smartdpp.corpus.rows import check_reading, with_ids
from smartdpp.errors import InputError
from smartdpp.types import Row

SUBMIXTURES = ("flan2021", "t0", "niv2", "cot", "dialog")
COLUMNS: dict[str, str | list[str]] = {
    "prompt": "inputs",
    "response": "targets",
    "dataset": "task_source",
    "task": "task_name",
    "template": "template_type",
}


@dataclass(frozen=True)
class Flan2022:
    """``path`` is a folder that holds local copies, one folder per dataset under its name
    (``niv2-submix-4096``); null reads the hub.

    ``revisions`` pins a submixture to a commit (``{cot: 1a2b3c}``).
    """

    submixtures: list[str] = field(default_factory=lambda: list(SUBMIXTURES))
    path: str | None = None
    split: str = "train"
    revisions: dict[str, str] | None = None
    streaming: bool = True
    on_bad_row: Literal["refuse", "drop"] = "refuse"
    max_line_mib: float = 4
    max_bad_share: float = 0.01

    def __post_init__(self) -> None:
        check_reading(self.on_bad_row, self.max_line_mib, self.max_bad_share)
        names = list(self.submixtures)
        if not names or len(set(names)) < len(names) or not set(names) <= set(SUBMIXTURES):
            raise InputError(
                f"corpus.submixtures is {names}: give one or more of {', '.join(SUBMIXTURES)}, each once."
            )
        if not set(self.revisions or {}) <= set(names):
            raise InputError(
                f"corpus.revisions names {sorted(set(self.revisions or {}) - set(names))}, not among "
                f"corpus.submixtures {names}."
            )

    def check(self) -> list[str]:
        if self.path is not None:
            absent = [hub.path for hub in self._hubs() if not Path(hub.path).is_dir()]
            if absent:
                return [
                    f"corpus.path: {self.path} must hold a folder for each submixture; there is no "
                    f"{', '.join(absent)}."
                ]
        return [problem for hub in self._hubs() for problem in hub.check()]

    def fingerprint(self) -> str:
        return " ".join(hub.fingerprint() for hub in self._hubs())

    def rows(self) -> Iterator[Row]:
        # ids are made over all submixtures together, so that equal rows in two of them stay distinct
        return with_ids(lambda: (row for hub in self._hubs() for row in hub.read()))

    def _hubs(self) -> list[Hub]:
        return [
            Hub(
                path=f"kowndinya23/{name}-submix-4096"
                if self.path is None
                else str(Path(self.path).expanduser() / f"{name}-submix-4096"),
                split=self.split,
                revision=(self.revisions or {}).get(name),
                columns=COLUMNS,
                constants={"source": f"kowndinya23/{name}-submix-4096"},
                streaming=self.streaming,
                on_bad_row=self.on_bad_row,
                max_line_mib=self.max_line_mib,
                max_bad_share=self.max_bad_share,
            )
            for name in self.submixtures
        ]
