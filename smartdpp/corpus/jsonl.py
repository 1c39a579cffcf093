"""A corpus in your own files: JSON lines first of all, and what else `smartdpp.corpus.files` reads.

A record is an object with ``task``, ``prompt`` and ``response``; ``id``, ``dataset``, ``source``,
``license``, ``template``, ``choices`` (a list of texts) and ``answer`` are optional. In place of prompt and
response it may hold the ``messages`` of a conversation (see `smartdpp.corpus.chat`), two answers or a tree of
them (see `smartdpp.corpus.shapes`), or what common datasets call them (see
`smartdpp.corpus.rows.recognised`). Rows are read one at a time. Blank lines are skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from smartdpp.bounds import Seed
from smartdpp.corpus import classes, clusters, files
from smartdpp.corpus.clusters import CLUSTER
from smartdpp.corpus.notes import note_file
from smartdpp.corpus.originals import Kept
from smartdpp.corpus.rows import (
    GROWN,
    IDENTITY,
    BadRow,
    Tally,
    check_names,
    check_reading,
    content_hash,
    given,
    recognised,
    rows_of,
    whole,
    with_ids,
)
from smartdpp.corpus.shapes import ANSWERED
from smartdpp.errors import InputError
from smartdpp.types import Row


@dataclass(frozen=True)
class Jsonl:
    """``path`` is a file, a folder, whose files are read in sorted order, a glob, or a list of them.

    ``columns`` maps our field to the file's where the names differ; ``constants`` gives the value of a field
    that rows lack (``{task: alpaca, license: cc-by-4.0}``), an empty one where nothing else
    is recognised as it. A row without a source gets its file's name. A row that cannot be read ends the
    reading, or with ``on_bad_row="drop"`` is left out and counted, up to the share ``max_bad_share`` of all
    rows; ``media="drop"`` leaves out those with images or audio. ``max_line_mib`` bounds a row, and with it
    memory.

    ``task`` is a field that names the task, or "cluster": the prompts' words make the tasks, ``clusters`` of
    them (see `smartdpp.corpus.clusters`). None: the field ``task``; a file whose first record has none is a
    task of its own, by its name.
    """

    path: str | list[str]
    columns: dict[str, str | list[str]] | None = None
    constants: dict[str, str] | None = None
    on_bad_row: Literal["refuse", "drop"] = "refuse"
    max_line_mib: float = 4
    max_bad_share: float = 0.01
    media: Literal["refuse", "drop"] = "refuse"
    task: str | None = None
    clusters: int | None = None
    cluster_seed: Seed = 0

    def __post_init__(self) -> None:
        check_names(self.columns, self.constants)
        check_reading(self.on_bad_row, self.max_line_mib, self.max_bad_share, self.media)
        if self.task is not None and ("task" in (self.columns or {}) or "task" in (self.constants or {})):
            raise InputError(
                "corpus.task says what the task is, and corpus.columns or corpus.constants does too: leave "
                "one out."
            )
        if self.clusters is not None and (self.clusters < 2 or self.task != CLUSTER):
            raise InputError(
                f"corpus.clusters is {self.clusters}: choose 2 or more, together with corpus.task={CLUSTER}."
            )

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
            content = content_hash(found[0].parent if root.is_file() else root, found)
        else:
            content = " ".join(content_hash(path.parent, [path]) for path in found)
        marks = files.marks(found, self._columns(), self._mapped(), self.constants, self._longest)
        return " ".join([content, *(mark for mark in marks if mark != GROWN)])

    def rows(self) -> Iterator[Row]:
        return self._rows()

    def originals(self) -> Iterator[Row]:
        """As ``rows``, each with the record that it came from: see `smartdpp.corpus.originals`."""
        return self._rows(keep=True)

    def _rows(self, keep: bool = False) -> Iterator[Row]:
        read = partial(self._read, keep)
        if self.task == CLUSTER:
            return clusters.named(lambda: with_ids(read), self.clusters, self.cluster_seed)
        return with_ids(read)

    def _files(self) -> list[Path]:
        return files.find(self.path, self._usable, self._longest)

    @property
    def _longest(self) -> int:
        return int(self.max_line_mib * 2**20)

    def _usable(self, fields: Collection[str]) -> bool:
        """Whether a file whose first records have these fields holds rows."""
        if any(shape <= set(fields) for shape in ANSWERED):
            return True
        try:
            ours = recognised(fields, self._columns(), self._mapped(), given(self.constants), "")
        except BadRow:
            return True  # it is told when it is read
        names = {*fields, *(self.constants or {})}
        held = {
            field: all(name in names for name in ([theirs] if isinstance(theirs, str) else theirs[:1]))
            or field in names
            for field, theirs in ours.items()
        }
        return held["messages"] or (held["prompt"] and held["response"])

    def _columns(self) -> dict[str, str | list[str]]:
        return IDENTITY | self._mapped()

    def _mapped(self) -> dict[str, str | list[str]]:
        return (self.columns or {}) | ({"task": self.task} if self.task not in (None, CLUSTER) else {})  # type: ignore[dict-item]

    def _read(self, keep: bool = False) -> Iterator[tuple[str, Row]]:
        tally = Tally(self.on_bad_row == "drop", self.max_bad_share, self.media == "drop")
        read = partial(
            rows_of,
            columns=self._columns(),
            constants=self.constants,
            mapped=set(self._mapped()),
            tally=tally,
            longest=self._longest,
        )
        paths = self._files()
        tasks = files.unnamed(paths)
        for path in paths:
            kind, records = files.opened(path, self._longest)
            note_file(kind, path.name)
            names = classes.of_file(path, kind)
            kept = Kept(whole(classes.all_numbered(records, names), self._mapped()), kind, path)
            rows = read(
                kept,
                source=path.name,
                unnamed=tasks[path],
                blank_cells=kind in (files.CSV, files.TSV),
            )
            yield from kept.beside(rows) if keep else rows
        shown = self.path if isinstance(self.path, str) else ", ".join(self.path)
        tally.end(shown)
        if not tally.taken:
            said = "expected one JSON object per line with task, prompt and response."
            raise InputError(f"corpus.path: {shown} holds no rows; {said}")
