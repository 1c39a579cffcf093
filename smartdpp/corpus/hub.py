"""Any dataset that the `datasets` library reads: a name on the hub, a local folder in its layout, what
`save_to_disk` left, or a file.

Nothing from a dataset is executed: loading scripts are never trusted. Rows are streamed, so the corpus
artifact is the only copy on disk. Of a local folder, `datasets` says which files make up a split, and
`smartdpp.corpus.files` reads them: no column's type is guessed from its first rows, so a column that begins
with nulls, files with different columns, numbers and NA in CSV come as they stand.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from smartdpp.corpus import classes, files
from smartdpp.corpus.notes import note_file, noted
from smartdpp.corpus.originals import Kept
from smartdpp.corpus.rows import (
    GROWN,
    IDENTITY,
    JOINED,
    MARKS,
    RECOGNISED,
    TURNS,
    Tally,
    check_names,
    check_reading,
    content_hash,
    given,
    rows_of,
    whole,
    with_ids,
)
from smartdpp.errors import InputError
from smartdpp.store.content import commit
from smartdpp.types import Row

OURS = ("json", "csv", "parquet", "arrow")  # builders of `datasets` whose files we read
# of a builder's configuration: not how a file is read
ASIDE = ("name", "version", "data_dir", "data_files", "description", "features")


@dataclass(frozen=True)
class Hub:
    """``columns`` maps our fields to the dataset's columns, and only those are read (``{prompt: inputs,
    response: targets}``); null means the columns already carry our names, or those of
    `smartdpp.corpus.rows.recognised`. ``constants`` gives the value of a field that rows lack: ``{task:
    alpaca}`` for a dataset that is one task. ``revision`` should be a commit: a branch can move, and cached
    artifacts would not notice. ``split`` may be a slice (``train[:10%]``) or a sum. Rows without a task are
    one task, by the dataset's name. ``on_bad_row``, ``max_bad_share``, ``media`` and ``max_line_mib`` as in
    `smartdpp.corpus.jsonl`.
    """

    path: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str | list[str]] | None = None
    constants: dict[str, str] | None = None
    streaming: bool = True
    on_bad_row: Literal["refuse", "drop"] = "refuse"
    max_line_mib: float = 4
    max_bad_share: float = 0.01
    media: Literal["refuse", "drop"] = "refuse"

    def __post_init__(self) -> None:
        check_names(self.columns, self.constants)
        check_reading(self.on_bad_row, self.max_line_mib, self.max_bad_share, self.media)

    def check(self) -> list[str]:
        local = self._local()
        problems = []
        if local is None:
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.path) or self.path.startswith("."):
                problems.append(
                    f"corpus.path: {self.path!r} is neither a folder here nor a dataset's name on the hub "
                    "(owner/name)."
                )
        else:
            if local.is_dir() and not any(_own(local)):
                problems.append(
                    f"corpus.path: the folder {local} holds no file; expected the hub's layout, as "
                    "data/train-*.parquet."
                )
            if self.revision is not None:
                problems.append(
                    f"corpus.revision={self.revision!r} means nothing for the local folder {local}: leave "
                    "it null."
                )
        if (
            self.columns
            and not {"prompt", "response"} <= set(self.columns)
            and "messages" not in self.columns
        ):
            problems.append(
                "corpus.columns must map prompt and response, or messages: only the columns named there are "
                "read."
            )
        return problems

    def fingerprint(self) -> str:
        local = self._local()
        if local is None:
            content = f"{self.path}@{self._commit() or 'main'}"
        else:
            content = (
                content_hash(local, sorted(_own(local)))
                if local.is_dir()
                else content_hash(local.parent, [local])
            )
        return " ".join([content, *self._marks(local)])

    def _marks(self, local: Path | None) -> list[str]:
        """How its records are read otherwise than once; of a dataset on the hub only its columns' names can
        tell."""
        columns = self.columns or {}
        several = any(not isinstance(theirs, str) and len(theirs) > 1 for theirs in columns.values())
        possible = {
            TURNS: not columns or "messages" in columns,
            JOINED: not columns or several,
            RECOGNISED: not columns and len(given(self.constants)) < len(self.constants or {}),
            GROWN: not columns,
        }
        if local is None or not any(possible.values()):
            return [mark for mark in MARKS if possible[mark]]
        paths = filter(files.is_known, _own(local) if local.is_dir() else [local])
        return files.marks(paths, columns or IDENTITY, self._mapped(), self.constants, self._longest)

    def _mapped(self) -> tuple[str, ...] | None:
        """For `rows_of`: only columns that are given are read, or all are recognised."""
        return None if self.columns else ()

    def rows(self) -> Iterator[Row]:
        return with_ids(self.read)

    def originals(self) -> Iterator[Row]:
        """As ``rows``, each with the record that it came from: see `smartdpp.corpus.originals`."""
        return with_ids(partial(self.read, keep=True))

    def read(self, keep: bool = False) -> Iterator[tuple[str, Row]]:
        """Pairs (place, row), ids not yet made; for corpora composed of several datasets."""
        local = self._local()
        splits = self._splits(local) if local else None
        tally = Tally(self.on_bad_row == "drop", self.max_bad_share, self.media == "drop")
        source = (local.name if local.is_dir() else local.parent.name or local.name) if local else self.path
        records = self._told() if splits is None else self._sliced(*splits)
        mapped = self._mapped()
        kind, paths = self._kind(splits[0]) if keep and splits else (files.PARQUET, [])
        kept = Kept(records if mapped is None else whole(records, mapped), kind, *paths)
        rows = rows_of(
            kept,
            self.columns or IDENTITY,
            self.constants,
            source=source,
            mapped=mapped,
            tally=tally,
            unnamed=files.stem(Path(source)) if local else source,
            longest=self._longest,
            blank_cells=splits is not None
            and any(files.is_csv(path) for paths in splits[0].values() for path in paths),
        )
        yield from kept.beside(rows) if keep else rows
        tally.end(source)

    @property
    def _longest(self) -> int:
        return int(self.max_line_mib * 2**20)

    def _commit(self) -> str | None:
        return commit(self.path, self.revision, dataset=True) or self.revision

    def _local(self) -> Path | None:
        path = Path(self.path).expanduser()
        return path if path.exists() else None

    def _splits(self, local: Path) -> tuple[dict[str, list[Path]], dict[str, list[str]]] | None:
        """The files of every split and the names of class columns that a card gives; None for what only
        `datasets` can read."""
        if local.is_file():
            return {"train": [local]}, {}
        if (saved := files.saved_splits(local)) is not None:
            return saved, {}
        from datasets import load_dataset_builder

        with self._refused():
            builder = load_dataset_builder(str(local), self.name)
        found = {
            str(split): [Path(str(path)) for path in paths if _is_own(Path(str(path)), local)]
            for split, paths in (builder.config.data_files or {}).items()
        }
        every = [path for paths in found.values() for path in paths]
        plain = type(builder.config)()
        differing = {
            field.name
            for field in dataclasses.fields(builder.config)
            if field.name not in ASIDE and getattr(builder.config, field.name) != getattr(plain, field.name)
        }
        if differing == {"sep"} and all(files.is_csv(path, files.TSV) for path in every):
            differing = set()
        if (
            builder.name not in OURS
            or differing
            or not every
            or not all(files.is_known(path) for path in every)
        ):
            return None
        return found, files.labels(builder.info.features)

    def _sliced(self, splits: dict[str, list[Path]], names: Mapping[str, list[str]]) -> files.Records:
        """The records of the split, slice or sum of them that ``split`` names."""
        from datasets import ReadInstruction

        wanted = self._wanted()
        if absent := [name for name in wanted.values() if name not in splits]:
            there = ", ".join(splits)
            raise InputError(
                f"corpus.split: {self.path} (split {self.split}) has no split {', '.join(absent)}; there "
                f"are {there}."
            )
        if "[" not in self.split:
            for name in wanted.values():
                yield from self._of(splits[name], names)
            return
        with noted():  # counting is not reading
            sizes = {
                name: sum(1 for _ in self._of(splits[name], names)) for name in dict.fromkeys(wanted.values())
            }
        try:
            parts = ReadInstruction.from_spec(self.split).to_absolute(sizes)
        except (ValueError, AssertionError) as error:
            raise InputError(
                f"corpus.split={self.split}: {error}; "
                f"{', '.join(f'{n} has {size} rows' for n, size in sizes.items())}."
            ) from None
        for part in parts:
            yield from islice(self._of(splits[part.splitname], names), part.from_ or 0, part.to)

    def _wanted(self) -> dict[str, str]:
        """The splits that ``split`` sums, each by itself or its slice."""
        return {name: re.split(r"\[", name)[0].strip() for name in self.split.split("+")}

    def _kind(self, splits: Mapping[str, list[Path]]) -> tuple[str, list[Path]]:
        """What the files that are read are taken for, JSON lines where they are of several kinds, and the
        files."""
        paths = [path for name in dict.fromkeys(self._wanted().values()) for path in splits.get(name, [])]
        kinds = {files.opened(path, self._longest)[0] for path in paths}
        return (kinds.pop(), paths) if len(kinds) == 1 else (files.LINES, [])

    def _of(self, paths: list[Path], names: Mapping[str, list[str]]) -> files.Records:
        for path in paths:
            kind, found = files.opened(path, self._longest)
            note_file(kind, path.name)
            known = {**names, **classes.of_file(path, kind)}
            for number, (place, record) in enumerate(found):
                if isinstance(record, files.BadRow):
                    yield place, record
                    continue
                if number == 0 and kind not in (files.LINES, files.ARRAY, files.OBJECT):
                    self._require_columns(record)
                yield place, classes.numbered(files.named(record, names), known)

    def _told(self) -> files.Records:
        for index, record in enumerate(self._records()):
            if index == 0:
                self._require_columns(record)
            yield f"{self.path} ({self.split}), row {index}", record

    def _require_columns(self, record: Mapping[str, Any]) -> None:
        theirs = [
            name
            for mapped in (self.columns or {}).values()
            for name in ([mapped] if isinstance(mapped, str) else mapped)
        ]
        if absent := sorted(set(theirs) - set(record)):
            raise InputError(
                f"corpus.columns: {self.path} has no column {', '.join(absent)}; its columns are "
                f"{', '.join(record)}."
            )

    def _records(self) -> Iterator[Mapping[str, Any]]:
        """As `datasets` reads them, with the names of classes."""
        from datasets import load_dataset

        path = str(self._local() or self.path)
        streaming = self.streaming and not set("[+") & set(self.split)  # which datasets does not slice
        with self._refused():
            found = load_dataset(
                path,
                self.name,
                split=self.split,
                revision=None if self._local() else self._commit(),
                streaming=streaming,
            )
            names = files.labels(found.features)
            for record in found:
                yield classes.numbered(files.named(record, names), names)

    def _refused(self) -> Any:
        from contextlib import contextmanager

        import pyarrow as pa
        from datasets.exceptions import DatasetsError

        @contextmanager
        def refused() -> Iterator[None]:
            try:
                yield
            except (OSError, TypeError, ValueError, RuntimeError, DatasetsError, pa.ArrowException) as error:
                if isinstance(error, InputError):
                    raise
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                raise InputError(
                    f"corpus.path: cannot read {self.path} (name {self.name}, split {self.split}, revision "
                    f"{self.revision}): {reason}"
                ) from error

        return refused()


def _own(folder: Path) -> Iterator[Path]:
    """The folder's files, without what smartdpp wrote below it."""
    for here, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if not files.made_here(Path(here) / name)]
        yield from (Path(here) / name for name in names if (Path(here) / name).is_file())


def _is_own(path: Path, folder: Path) -> bool:
    """Whether smartdpp did not write it; both as they lie on the disk, as `datasets` resolves some paths and
    not others."""
    root = folder.resolve()
    ways = {path.absolute(), path.resolve()}  # a link's own folder counts, and that of what it leads to
    above = {parent for way in ways for parent in way.parents if root in parent.parents}
    return not any(files.made_here(parent) for parent in above)
