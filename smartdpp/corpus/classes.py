"""Class columns of a table: their names are read, and the number behind a name is kept, as an answer may be
the index of a choice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smartdpp.corpus import files
from smartdpp.corpus.rows import BadRow, ClassName


def of_file(path: Path, kind: str) -> dict[str, list[str]]:
    """The names of each class column of a file that `smartdpp.corpus.files` has opened as ``kind``; of a
    table alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if kind == files.PARQUET:
        reads = [pq.read_schema]
    elif kind == files.ARROW:
        reads = [_stream, _file]
    else:
        return {}
    for read in reads:
        try:
            return files.class_names(read(path))
        except (pa.ArrowException, OSError):
            continue  # damage is told where the rows are read
    return {}


def _stream(path: Path) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        return reader.schema


def _file(path: Path) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        return reader.schema


def all_numbered(records: files.Records, names: Mapping[str, list[str]]) -> files.Records:
    return (
        (place, record if isinstance(record, BadRow) else numbered(record, names))
        for place, record in records
    )


def numbered(record: Mapping[str, Any], names: Mapping[str, list[str]]) -> Mapping[str, Any]:
    """The record with the number of its class beside each name of one."""
    if not names:
        return record

    def one(column: str, value: Any) -> Any:
        known = names.get(column, [])
        return ClassName(value, known) if isinstance(value, str) and value in known else value

    return {column: one(column, value) for column, value in record.items()}
