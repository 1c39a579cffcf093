"""What is chosen from: a `datasets.Dataset`, a pandas DataFrame, a list of dicts or a path; and a part of it,
of the same kind."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.comparison.sets import draw
from smartdpp.corpus import classes, clusters, files
from smartdpp.corpus.build import Limits, of_turns
from smartdpp.corpus.clusters import CLUSTER
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.corpus.notes import noted, said
from smartdpp.corpus.originals import KIND, RECORD, TYPES
from smartdpp.corpus.rows import IDENTITY, MEDIA_OUT, WAY_OUT, Tally, check_names, rows_of, with_ids
from smartdpp.errors import InputError, did_you_mean
from smartdpp.types import Row

log = logging.getLogger(__name__)
LONGEST = 2**30  # characters of a row: it is in memory already
New = Mapping[str, Sequence[Any]]
Part = Callable[[np.ndarray, New], Any]
Read = tuple[list[Row], Part, bool]
Mapped = Mapping[str, "str | list[str]"] | None


@dataclass(frozen=True)
class Data:
    """The rows that may be chosen, and where each of them is in what was given."""

    rows: list[Row]  # n, as a corpus of these records has them, without those of an empty prompt or response
    at: np.ndarray  # int64[n], a row's place in what was given
    total: int  # records given
    part: Part  # places and new fields, in order -> the chosen part, of the kind given
    named: bool  # whether a field said the task


def read(
    data: Any,
    task: str | None = None,
    columns: Mapped = None,
    constants: Mapping[str, str] | None = None,
    responses: bool = True,
    n_clusters: int | None = None,
) -> Data:
    """``task`` is the field that says a row's task; None: ``task`` where there is one, else the file that
    it is in, else all are one task.
    "cluster": tasks by the prompts' words, ``n_clusters`` of them (see `smartdpp.corpus.clusters`).

    ``columns`` and ``constants`` as in `smartdpp.corpus.jsonl`. ``responses``: whether rows need one.
    InputError for what cannot be read, and where nothing is left.
    """
    columns = dict(columns or {}) | ({} if task in (None, CLUSTER) else {"task": task})
    with noted() as notes, _in_our_words():
        check_names(columns, constants)
        if isinstance(data, (str, Path)):
            rows, part, named = _of_path(str(data), columns, dict(constants or {}))
        else:
            rows, part, named = _in_memory(*_opened(data), columns, dict(constants or {}))
        if task == CLUSTER:
            rows, named = list(clusters.named(lambda: iter(rows), n_clusters, 0)), True
    for sentence in said(notes.facts()):
        log.info("%s", sentence)
    rows = [of_turns(row, Limits()) for row in rows]
    whole = [bool(row["prompt"].strip() and (row["response"].strip() or not responses)) for row in rows]
    at = np.flatnonzero(whole)
    if not len(at):
        raise InputError(
            f"there is no row to choose from: {len(rows)} were read, each with an empty prompt or response."
        )
    if len(at) < len(rows):
        log.warning(
            "%d of %d rows have an empty prompt or response and cannot be chosen",
            len(rows) - len(at),
            len(rows),
        )
    return Data([rows[i] for i in at], at, len(rows), part, named)


def drawn(source: Data, most: int, seed: int) -> Data:
    """At most so many of its rows, by a draw that hangs on their ids and the seed alone, as comparisons of
    files draw."""
    order = sorted(range(len(source.rows)), key=lambda i: draw(source.rows[i]["id"], seed))[:most]
    return replace(source, rows=[source.rows[i] for i in order], at=source.at[order])


def texts(rows: Any, *, name: str) -> list[Row]:
    """Rows of which a prompt is enough: texts, or any kind of data. InputError where there are none."""
    if isinstance(rows, (list, tuple)) and not rows:
        raise InputError(f"{name} is empty: give at least one example of the target.")
    if isinstance(rows, (list, tuple)) and all(isinstance(row, str) for row in rows):
        rows = [{"prompt": text} for text in rows]
    if isinstance(rows, (str, Path)) and not Path(rows).expanduser().exists():
        raise InputError(
            f"{name}={str(rows)!r}: there is no such file; in words it is a list of texts, [{str(rows)!r}]."
        )
    try:
        return read(rows, constants={"task": "query", "response": ""}, responses=False).rows
    except InputError as error:  # columns= and constants= are the data's
        said = re.sub(r"Map other names with columns=.*", "Call the one that holds it prompt.", str(error))
        said = re.sub(r"say which with columns=\{'(\w+)'.*?\}", r"call the one that is meant \1", said)
        raise InputError(f"{name}: {said}") from None


def _of_path(path: str, columns: dict[str, Any], constants: dict[str, str]) -> Read:
    first = files.find(path, lambda fields: True, LONGEST)[0]
    fields = [
        record for _, record in islice(files.opened(first, LONGEST)[1], 1) if isinstance(record, Mapping)
    ]
    _require(columns, fields)
    rows = list(Jsonl(path, columns or None, constants).originals())
    named = _names_task(columns, constants, fields) or len({row["task"] for row in rows}) > 1  # of files
    records = [row.pop(RECORD) for row in rows]
    for row in rows:
        del row[KIND], row[TYPES]
    return rows, partial(_of_list, records), named


def _in_memory(
    records: Callable[[], files.Records], part: Part, columns: dict[str, Any], constants: dict[str, str]
) -> Read:
    some = [record for _, record in islice(records(), 100) if isinstance(record, Mapping)]
    if not some:
        raise InputError("there is no row to choose from: what was given is empty.")
    _require(columns, some)
    named = _names_task(columns, constants, some)

    def rows() -> Iterator[tuple[str, Row]]:
        return rows_of(
            records(),
            IDENTITY | columns,
            constants if named else {"task": "all", **constants},
            source="memory",
            mapped=set(columns),
            tally=Tally(drop=False, share=0, drop_media=False),
            longest=LONGEST,
            unnamed="all",
        )

    found, total = list(with_ids(rows)), sum(1 for _ in records())
    if len(found) < total:  # which of them a row is, is its number
        raise InputError(
            f"{total - len(found)} of {total} records are no rows of their own (answers labelled false, "
            "trees without an answer, or "
            "messages of trees): leave them out, or give a file."
        )
    return found, part, named


def _names_task(
    columns: Mapping[str, Any], constants: Mapping[str, str], fields: Iterable[Mapping[str, Any]]
) -> bool:
    return (
        "task" in columns
        or "task" in constants
        or any(record.get("task") not in (None, "") for record in fields)
    )


def _require(columns: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """InputError for a field that the first records lack."""
    there = list(dict.fromkeys(str(name) for record in records for name in record))
    for ours, theirs in columns.items():
        for name in [theirs] if isinstance(theirs, str) else theirs:
            if there and name not in there:
                raise InputError(
                    f"{ours}={name!r}: the rows have no such field; {did_you_mean(name, there)}."
                )


def _opened(data: Any) -> tuple[Callable[[], files.Records], Part]:
    """How records come out of the data, and how a part of it is made. A library whose data this is has been
    imported."""
    pandas, datasets = sys.modules.get("pandas"), sys.modules.get("datasets")
    if pandas and isinstance(data, pandas.DataFrame):
        return partial(_of_frame, data), lambda at, new: data.iloc[at].assign(**new)
    if datasets and isinstance(data, datasets.Dataset):
        return partial(_of_dataset, data), partial(_part_of_dataset, data)
    if datasets and isinstance(data, datasets.DatasetDict):
        raise InputError(
            f"this dataset has the splits {', '.join(data)}: give one of them, as "
            f"dataset[{next(iter(data), 'train')!r}]."
        )
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        for number, record in enumerate(data):
            if not isinstance(record, Mapping):
                raise InputError(
                    f"row {number} is a {type(record).__name__}; each must be a dict with prompt and "
                    "response, or messages."
                )
        return lambda: ((f"row {i}", record) for i, record in enumerate(data)), partial(_of_list, data)
    raise InputError(
        f"a {type(data).__name__} cannot be read; give a datasets.Dataset, a pandas DataFrame, a list of "
        "dicts, or the path "
        "of a file or folder."
    )


def _of_list(records: Sequence[Mapping[str, Any]], at: np.ndarray, new: New) -> list[dict[str, Any]]:
    return [{**records[i], **{name: values[j] for name, values in new.items()}} for j, i in enumerate(at)]


def _of_frame(data: Any) -> files.Records:
    for number, record in enumerate(data.to_dict("records")):
        yield f"row {number}", {str(name): _plain(value) for name, value in record.items()}


def _plain(value: Any) -> Any:
    """What a cell of a frame holds, nothing where nothing is."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | list):
        return [_plain(item) for item in (value if isinstance(value, list) else value.tolist())]
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value else value


def _of_dataset(data: Any) -> files.Records:
    names = files.labels(data.features)
    for number, record in enumerate(data):
        yield f"row {number}", classes.numbered(files.named(record, names), names)


def _part_of_dataset(data: Any, at: np.ndarray, new: New) -> Any:
    part = data.remove_columns([name for name in new if name in data.column_names]).select(at)
    for name, values in new.items():
        part = part.add_column(name, values)
    return part


@contextmanager
def _in_our_words() -> Iterator[None]:
    """What a corpus says of its options, said of a function's."""
    try:
        yield
    except InputError as error:
        said = str(error).replace(WAY_OUT, "").replace(MEDIA_OUT, "").replace("corpus.", "")
        raise InputError(
            re.sub(r"(columns|constants)='\{(\w+): (\w+)\}'", r"\1={'\2': '\3'}", said)
        ) from None
