"""A corpus in JSON lines: one file, one gzip, or a folder of either.

Each line is an object with ``task``, ``prompt`` and ``response``; ``id``, ``dataset``, ``source``, ``license``, ``template``, ``choices``
(a list of texts) and ``answer`` are optional. In place of prompt and response a line may hold chat ``messages``
(see `smartdpp.corpus.rows.from_messages`). Lines are read one at a time. Blank lines are skipped.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smartdpp.corpus.rows import IDENTITY, check_names, content_hash, to_row, with_ids
from smartdpp.errors import InputError
from smartdpp.types import Row

SUFFIXES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class Jsonl:
    """``path`` is a file (``.gz`` is unpacked on the fly) or a folder, whose ``.jsonl`` and ``.jsonl.gz`` files are read in sorted order.

    ``columns`` maps our field to the file's where the names differ; ``constants`` gives the value of a field that rows lack
    (``{task: alpaca, license: cc-by-4.0}``). A row without a source gets its file's name.
    """

    path: str
    columns: dict[str, str | list[str]] | None = None
    constants: dict[str, str] | None = None

    def __post_init__(self) -> None:
        check_names(self.columns, self.constants)

    def check(self) -> list[str]:
        try:
            self._files()
        except InputError as error:
            return [str(error)]
        return []

    def fingerprint(self) -> str:
        files = self._files()
        return content_hash(files[0].parent if self._root().is_file() else self._root(), files)

    def rows(self) -> Iterator[Row]:
        return with_ids(self._read)

    def _root(self) -> Path:
        return Path(self.path).expanduser()

    def _files(self) -> list[Path]:
        root = self._root()
        if root.is_file():
            files = [root]
        elif root.is_dir():
            files = sorted(path for path in root.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file())
            if not files:
                found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
                raise InputError(f"corpus.path: the folder {root} holds no .jsonl or .jsonl.gz file (it holds {found}).")
        else:
            raise InputError(f"corpus.path: there is no file or folder {root}.")
        if not any(path.stat().st_size for path in files):
            raise InputError(f"corpus.path: {root} is empty; expected one JSON object per line with task, prompt and response.")
        return files

    def _read(self) -> Iterator[tuple[str, Row]]:
        columns = IDENTITY | (self.columns or {})
        empty = True
        for path in self._files():
            for place, record in _records(path):
                empty = False
                row = to_row(record, columns, self.constants, place)
                row["source"] = row["source"] or path.name
                yield place, row
        if empty:
            raise InputError(
                f"corpus.path: {self._root()} holds no rows; expected one JSON object per line with task, prompt and response."
            )


def _records(path: Path) -> Iterator[tuple[str, dict]]:
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                place = f"{path}, line {number}"
                try:
                    # utf-8-sig: editors on Windows begin a file with a byte order mark
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    record = json.loads(text) if text.strip() else None
                except UnicodeDecodeError as error:
                    raise InputError(f"{place}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
                except (json.JSONDecodeError, RecursionError) as error:
                    reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
                    raise InputError(f"{place}: malformed JSON ({reason}). Each line must be one complete JSON object.") from None
                if not text.strip():
                    continue
                if not isinstance(record, dict):
                    raise InputError(f"{place}: expected a JSON object with task, prompt and response, found a {type(record).__name__}.")
                yield place, record
    except (OSError, EOFError, zlib.error) as error:
        kind = "gzip" if path.suffix == ".gz" else "file"
        raise InputError(f"{path}: the {kind} cannot be read beyond line {number} ({error}). It may be cut short or damaged.") from None
