"""The records that rows came from, unchanged: all their fields, as the file had them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smartdpp.corpus import files
from smartdpp.corpus.rows import BadRow, ClassName
from smartdpp.types import Row

RECORD, KIND = "record", "kind"  # of a row: the record it came from, and what its file was taken for


class Kept:
    """Records on their way to become rows, which come one by one: the latest record is that of the row at hand."""

    def __init__(self, records: files.Records, kind: str) -> None:
        self.records, self.kind = records, kind

    def __iter__(self) -> files.Records:
        for place, record in self.records:
            self.latest = record
            yield place, record

    def beside(self, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
        """The rows with RECORD and KIND."""
        for place, row in rows:
            assert not isinstance(self.latest, BadRow)
            yield place, {**row, RECORD: {name: _stored(value) for name, value in self.latest.items()}, KIND: self.kind}


def _stored(value: Any) -> Any:
    return value.number if isinstance(value, ClassName) else value
