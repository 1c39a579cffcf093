"""A corpus in your own files: JSON lines first of all, and what else `smartdpp.corpus.files` reads.

A record is an object with ``task``, ``prompt`` and ``response``; ``id``, ``dataset``, ``source``, ``license``, ``template``, ``choices``
(a list of texts) and ``answer`` are optional. In place of prompt and response it may hold chat ``messages``
(see `smartdpp.corpus.rows.from_messages`), or what common datasets call them (see `smartdpp.corpus.rows.recognised`). Rows are read one
at a time. Blank lines are skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from smartdpp.corpus import classes, files
from smartdpp.corpus.notes import note_file
from smartdpp.corpus.originals import Kept
from smartdpp.corpus.rows import IDENTITY, BadRow, check_names, check_reading, content_hash, recognised, rows_of, with_ids
from smartdpp.errors import InputError
from smartdpp.types import Row


@dataclass(frozen=True)
class Jsonl:
    """``path`` is a file, a folder, whose files are read in sorted order, a glob, or a list of them.

    ``columns`` maps our field to the file's where the names differ; ``constants`` gives the value of a field that rows lack
    (``{task: alpaca, license: cc-by-4.0}``). A row without a source gets its file's name. A row that cannot be read ends the reading, or
    with ``on_bad_row="drop"`` is left out and counted. ``max_line_mib`` bounds a row, and with it memory.
    """

    path: str | list[str]
    columns: dict[str, str | list[str]] | None = None
    constants: dict[str, str] | None = None
    on_bad_row: Literal["refuse", "drop"] = "refuse"
    max_line_mib: float = 4

    def __post_init__(self) -> None:
        check_names(self.columns, self.constants)
        check_reading(self.on_bad_row, self.max_line_mib)

    def check(self) -> list[str]:
        try:
            self._files()
        except InputError as error:
            return [str(error)]
        return []

    def fingerprint(self) -> str:
        found = self._files()
        root = Path(self.path).expanduser() if isinstance(self.path, str) else None
        if root and root.exists():
            return content_hash(found[0].parent if root.is_file() else root, found)
        return " ".join(content_hash(path.parent, [path]) for path in found)

    def rows(self) -> Iterator[Row]:
        return with_ids(self._read)

    def originals(self) -> Iterator[Row]:
        """As ``rows``, each with the record that it came from: see `smartdpp.corpus.originals`."""
        return with_ids(partial(self._read, keep=True))

    def _files(self) -> list[Path]:
        return files.find(self.path, self._usable, self._longest)

    @property
    def _longest(self) -> int:
        return int(self.max_line_mib * 2**20)

    def _usable(self, fields: Collection[str]) -> bool:
        """Whether a file whose first records have these fields holds rows."""
        try:
            ours = recognised(fields, self._columns(), self.columns or {}, self.constants or {}, "")
        except BadRow:
            return True  # it is told when it is read
        names = {*fields, *(self.constants or {})}
        held = {
            field: all(name in names for name in ([theirs] if isinstance(theirs, str) else theirs[:1])) or field in names
            for field, theirs in ours.items()
        }
        return held["messages"] or (held["prompt"] and held["response"])

    def _columns(self) -> dict[str, str | list[str]]:
        return IDENTITY | (self.columns or {})

    def _read(self, keep: bool = False) -> Iterator[tuple[str, Row]]:
        empty = True
        read = partial(
            rows_of,
            columns=self._columns(),
            constants=self.constants,
            mapped=set(self.columns or {}),
            drop=self.on_bad_row == "drop",
            longest=self._longest,
        )
        for path in self._files():
            kind, records = files.opened(path, self._longest)
            note_file(kind, path.name)
            names = classes.of_file(path, kind)
            kept = Kept(classes.all_numbered(records, names), kind)
            rows = read(kept, source=path.name, blank_cells=kind in (files.CSV, files.TSV))
            for found in kept.beside(rows) if keep else rows:
                empty = False
                yield found
        if empty:
            shown = self.path if isinstance(self.path, str) else ", ".join(self.path)
            raise InputError(f"corpus.path: {shown} holds no rows; expected one JSON object per line with task, prompt and response.")
