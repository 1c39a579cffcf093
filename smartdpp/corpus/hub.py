"""Any dataset that the `datasets` library reads: a name on the hub, or a local folder in the hub's layout.

Nothing from a dataset is executed: loading scripts are never trusted. Rows are streamed, so the corpus artifact is the only copy on disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartdpp.corpus.rows import IDENTITY, check_names, content_hash, to_row, with_ids
from smartdpp.errors import InputError
from smartdpp.types import Row


@dataclass(frozen=True)
class Hub:
    """``columns`` maps our fields to the dataset's columns, and only those are read (``{prompt: inputs, response: targets}``); null means
    the columns already carry our names. ``constants`` gives the value of a field that rows lack: ``{task: alpaca}`` for a dataset that is
    one task. ``revision`` should be a commit: a branch can move, and cached artifacts would not notice.
    """

    path: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str | list[str]] | None = None
    constants: dict[str, str] | None = None
    streaming: bool = True

    def __post_init__(self) -> None:
        check_names(self.columns, self.constants)

    def check(self) -> list[str]:
        folder = self._folder()
        problems = []
        if folder is None:
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.path) or self.path.startswith("."):
                problems.append(f"corpus.path: {self.path!r} is neither a folder here nor a dataset's name on the hub (owner/name).")
        else:
            if not any(path.is_file() for path in folder.rglob("*")):
                problems.append(f"corpus.path: the folder {folder} holds no file; expected the hub's layout, as data/train-*.parquet.")
            if self.revision is not None:
                problems.append(f"corpus.revision={self.revision!r} means nothing for the local folder {folder}: leave it null.")
        if self.columns and not {"prompt", "response"} <= set(self.columns) and "messages" not in self.columns:
            problems.append("corpus.columns must map prompt and response, or messages: only the columns named there are read.")
        return problems

    def fingerprint(self) -> str:
        folder = self._folder()
        if folder is None:
            return f"{self.path}@{self.revision or 'main'}"
        return content_hash(folder, sorted(path for path in folder.rglob("*") if path.is_file()))

    def rows(self) -> Iterator[Row]:
        return with_ids(self.read)

    def read(self) -> Iterator[tuple[str, Row]]:
        """Pairs (place, row), ids not yet made; for corpora composed of several datasets."""
        columns = self.columns or IDENTITY
        folder = self._folder()
        source = folder.name if folder else self.path
        for index, record in enumerate(self._records()):
            place = f"{self.path} ({self.split}), row {index}"
            named = [name for theirs in (self.columns or {}).values() for name in ([theirs] if isinstance(theirs, str) else theirs)]
            absent = sorted(set(named) - set(record))
            if absent:
                raise InputError(f"corpus.columns: {self.path} has no column {', '.join(absent)}; its columns are {', '.join(record)}.")
            row = to_row(record, columns, self.constants, place)
            row["source"] = row["source"] or source
            yield place, row

    def _folder(self) -> Path | None:
        folder = Path(self.path).expanduser()
        return folder if folder.is_dir() else None

    def _records(self) -> Iterator[dict[str, Any]]:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        path = str(self._folder() or self.path)
        try:
            yield from load_dataset(path, self.name, split=self.split, revision=self.revision, streaming=self.streaming)
        except (OSError, ValueError, RuntimeError, DatasetsError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError(
                f"corpus.path: cannot read {self.path} (name {self.name}, split {self.split}, revision {self.revision}): {reason}"
            ) from error
