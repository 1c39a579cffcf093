"""The records that rows came from, unchanged: all their fields, as the file had them."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.corpus import files
from smartdpp.corpus.rows import BadRow, ClassName
from smartdpp.errors import InputError
from smartdpp.store import disk
from smartdpp.types import Row

if TYPE_CHECKING:
    import pyarrow as pa

RECORD, KIND = "record", "kind"  # of a row: the record it came from, and what its file was taken for
RANK, GAIN = "smartdpp_rank", "smartdpp_gain"  # beside a chosen record's own fields
WRITTEN = {
    ".json": files.ARRAY,
    ".jsonl": files.LINES,
    ".ndjson": files.LINES,
    ".csv": files.CSV,
    ".tsv": files.TSV,
    ".parquet": files.PARQUET,
}
LONGEST = 2**22  # bytes of a row that are looked at where only its columns are asked for


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


def check(path: Path) -> None:
    """InputError where the ending says no format that `write` knows, or the folder is not there."""
    if path.suffix.lower() not in WRITTEN:
        raise InputError(f"out={path}: the ending says the format: choose one of {', '.join(WRITTEN)}.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"out={path}: there is no folder {path.parent}; make it, or choose another.")


def write(records: Sequence[Mapping[str, Any]], path: Path, schema: pa.Schema | None = None) -> None:
    """The records in the format of the file's ending, all of it or nothing. ``schema``: that of the table they came from, if any.

    InputError for what the format cannot hold.
    """
    kind, names = WRITTEN[path.suffix.lower()], list(dict.fromkeys(name for record in records for name in record))
    if kind == files.PARQUET:
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(_table(records, names, schema), buffer)
        disk.write_bytes(path, buffer.getvalue())
    elif kind in (files.CSV, files.TSV):
        cells = [[_cell(record.get(name), name) for name in names] for record in records]
        text = io.StringIO()
        csv.writer(text, delimiter="," if kind == files.CSV else "\t", lineterminator="\n").writerows([names, *cells])
        disk.write_bytes(path, text.getvalue().encode())
    elif kind == files.ARRAY:
        disk.write_bytes(path, ("[\n" + ",\n".join(map(_json, records)) + "\n]\n").encode("utf-8", "surrogatepass"))
    else:
        disk.write_bytes(path, "".join(_json(record) + "\n" for record in records).encode("utf-8", "surrogatepass"))


def schema(path: str) -> pa.Schema | None:
    """The columns' types of a table; None for files of other kinds, and for folders whose files differ."""
    import pyarrow as pa

    found = [_schema(file) for file in files.find(path, lambda fields: True, LONGEST)]
    same = all(isinstance(one, pa.Schema) and one.equals(found[0]) for one in found)
    return found[0] if same else None


def _schema(path: Path) -> pa.Schema | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for read in (pq.read_schema, lambda at: pa.ipc.open_file(at).schema, lambda at: pa.ipc.open_stream(at).schema):
        try:
            return read(path)
        except (pa.ArrowException, OSError):
            continue
    return None


def _table(records: Sequence[Mapping[str, Any]], names: list[str], schema: pa.Schema | None) -> pa.Table:
    import pyarrow as pa

    arrays = []
    try:
        for name in names:
            known = schema is not None and name in schema.names
            kind = schema.field(name).type if known and schema is not None else None
            arrays.append(_array([record.get(name) for record in records], kind))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be a column of parquet ({str(error).splitlines()[0]}): write JSON lines (.jsonl).") from None
    return pa.Table.from_arrays(arrays, names).replace_schema_metadata(_metadata(schema, names))


def _array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """Of this type; what JSON has no word for (times, decimals) may come as text."""
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        if kind is None or any(value is not None and not isinstance(value, str) for value in values):
            raise
        return pa.array(values, pa.string()).cast(kind)


def _metadata(schema: pa.Schema | None, names: list[str]) -> dict[bytes, bytes] | None:
    """What `datasets` keeps beside the columns (names of classes), where all of its columns are there."""
    metadata = (schema.metadata or {}) if schema is not None else {}
    about = json.loads(metadata.get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features")
    if not features or not set(features) <= set(names):
        return None
    own = {RANK: {"dtype": "int64", "_type": "Value"}, GAIN: {"dtype": "float64", "_type": "Value"}}
    about["info"]["features"] = {name: features[name] if name in features else own[name] for name in names if name in {**features, **own}}
    return {b"huggingface": json.dumps(about).encode()} if set(about["info"]["features"]) == set(names) else None


def _cell(value: Any, name: str) -> str:
    if isinstance(value, (list, dict)):
        raise InputError(f"{name} holds lists or objects, which CSV cannot: write JSON lines (.jsonl) or parquet.")
    return "" if value is None else str(value)


def _json(record: Mapping[str, Any]) -> str:
    """What JSON has no word for (times, decimals) as text, bytes in base64."""

    def plain(value: Any) -> str:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

    return json.dumps(record, ensure_ascii=False, default=plain)
