"""The records that rows came from, unchanged: all their fields, as the file had them."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.corpus import files
from smartdpp.corpus.rows import BadRow, ClassName
from smartdpp.errors import InputError
from smartdpp.store import disk
from smartdpp.types import Row

if TYPE_CHECKING:
    import pyarrow as pa

# of a row: the record it came from, what its file was taken for, a table's schema
RECORD, KIND, TYPES = "record", "kind", "types"
COLUMNS = dict.fromkeys((RECORD, KIND, TYPES), "string")
FILE = "records.parquet"  # beside the corpus's data.parquet, row for row
NAME = "original"  # of the file beside the mixture
RANK, GAIN = "smartdpp_rank", "smartdpp_gain"  # beside a chosen record's own fields
WRITTEN = {
    ".json": files.ARRAY,
    ".jsonl": files.LINES,
    ".ndjson": files.LINES,
    ".csv": files.CSV,
    ".tsv": files.TSV,
    ".parquet": files.PARQUET,
}
ENDING = {
    files.ARRAY: ".json",
    files.CSV: ".csv",
    files.TSV: ".tsv",
    files.PARQUET: ".parquet",
    files.ARROW: ".parquet",
}
ROW_GROUP = 1024  # records in memory at a time
LONGEST = 2**22  # bytes of a row that are looked at where only its columns are asked for


class Kept:
    """Records on their way to become rows, which come one by one: the latest record is that of the row at
    hand. ``paths``: the files of this kind that they are from."""

    def __init__(self, records: files.Records, kind: str, *paths: Path) -> None:
        self.records, self.kind = records, kind
        types = _shared(paths) if kind in (files.PARQUET, files.ARROW) else None
        self.types = types and base64.b64encode(types.serialize()).decode()

    def __iter__(self) -> files.Records:
        for place, record in self.records:
            self.latest = record
            yield place, record

    def beside(self, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
        """The rows with RECORD, KIND and TYPES."""
        for place, row in rows:
            assert not isinstance(self.latest, BadRow)
            yield (
                place,
                {
                    **row,
                    RECORD: {name: _stored(value) for name, value in self.latest.items()},
                    KIND: self.kind,
                    TYPES: self.types,
                },
            )


def _stored(value: Any) -> Any:
    return value.number if isinstance(value, ClassName) else value


def packed(row: Row) -> Row:
    """The row with its record as text, for a file of rows."""
    return row | {RECORD: _json(row[RECORD], escaped=True)} if row.get(RECORD) is not None else row


@contextmanager
def keeping(path: Path) -> Iterator[Callable[[Row], None]]:
    """A function that appends a packed row's record to FILE, which is not there in the end where no row had
    one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, waiting, some = pa.schema(dict.fromkeys(COLUMNS, pa.string())), list[Row](), False
    with pq.ParquetWriter(path, schema, compression="zstd") as file:

        def keep(row: Row) -> None:
            nonlocal some
            some = some or row.get(RECORD) is not None
            waiting.append({name: row.get(name) for name in schema.names})
            if len(waiting) == ROW_GROUP:
                file.write_table(pa.Table.from_pylist(waiting, schema=schema))
                waiting.clear()

        yield keep
        file.write_table(pa.Table.from_pylist(waiting, schema=schema))
    if not some:
        path.unlink()


def put(table: pa.Table, out: Path) -> Path:
    """The records of FILE's rows, in their order, as NAME with the ending of the format they came in; JSON
    lines where they came in several, or in one that cannot be told from a row of it."""
    records = [json.loads(text) for text in table[RECORD].to_pylist()]
    kinds, types = set(table[KIND].to_pylist()), set(table[TYPES].to_pylist())
    ending = ENDING.get(kinds.pop(), ".jsonl") if len(kinds) == 1 and len(types) == 1 else ".jsonl"
    try:
        write(records, out / f"{NAME}{ending}", _deserialized(types.pop()) if ending == ".parquet" else None)
    except InputError:
        ending = ".jsonl"
        write(records, out / f"{NAME}{ending}")
    return out / f"{NAME}{ending}"


def found(folder: Path) -> Path | None:
    """What `put` left in a mixture's folder."""
    return next((path for path in sorted(folder.glob(f"{NAME}.*")) if path.suffix in WRITTEN), None)


def _deserialized(types: str | None) -> pa.Schema | None:
    import pyarrow as pa

    return types and pa.ipc.read_schema(pa.py_buffer(base64.b64decode(types)))


def check(path: Path) -> None:
    """InputError where the ending says no format that `write` knows, or the folder is not there."""
    if path.suffix.lower() not in WRITTEN:
        raise InputError(f"out={path}: the ending says the format: choose one of {', '.join(WRITTEN)}.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"out={path}: there is no folder {path.parent}; make it, or choose another.")


def write(records: Sequence[Mapping[str, Any]], path: Path, schema: pa.Schema | None = None) -> None:
    """The records in the format of the file's ending, all of it or nothing. ``schema``: that of the table
    they came from, if any.

    InputError for what the format cannot hold.
    """
    kind = WRITTEN[path.suffix.lower()]
    names = list(dict.fromkeys(name for record in records for name in record))
    if kind == files.PARQUET:
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(_table(records, names, schema), buffer)
        disk.write_bytes(path, buffer.getvalue())
    elif kind in (files.CSV, files.TSV):
        cells = [[_cell(record.get(name), name) for name in names] for record in records]
        text = io.StringIO()
        csv.writer(text, delimiter="," if kind == files.CSV else "\t", lineterminator="\n").writerows(
            [names, *cells]
        )
        disk.write_bytes(path, text.getvalue().encode())
    elif kind == files.ARRAY:
        disk.write_bytes(path, ("[\n" + ",\n".join(map(_json, records)) + "\n]\n").encode())
    else:
        disk.write_bytes(path, "".join(_json(record) + "\n" for record in records).encode())


def schema(path: str) -> pa.Schema | None:
    """The columns' types of a table; None for files of other kinds, and for folders whose files differ."""
    return _shared(files.find(path, lambda fields: True, LONGEST))


def _shared(paths: Sequence[Path]) -> pa.Schema | None:
    import pyarrow as pa

    found = [_schema(path) for path in paths]
    same = all(isinstance(one, pa.Schema) and one.equals(found[0]) for one in found)
    return found[0] if found and same else None


def _schema(path: Path) -> pa.Schema | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for read in (
        pq.read_schema,
        lambda at: pa.ipc.open_file(at).schema,
        lambda at: pa.ipc.open_stream(at).schema,
    ):
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
        raise InputError(
            f"{name} cannot be a column of parquet ({str(error).splitlines()[0]}): write JSON lines (.jsonl)."
        ) from None
    return pa.Table.from_arrays(arrays, names).replace_schema_metadata(_metadata(schema, names))


def _array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """Of this type; what JSON has no word for (times, decimals) may come as text."""
    import pyarrow as pa

    binary = kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
    if binary and any(isinstance(value, str) for value in values):
        values = [base64.b64decode(value) if isinstance(value, str) else value for value in values]
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
    about["info"]["features"] = {
        name: features[name] if name in features else own[name]
        for name in names
        if name in {**features, **own}
    }
    return (
        {b"huggingface": json.dumps(about).encode()} if set(about["info"]["features"]) == set(names) else None
    )


def _cell(value: Any, name: str) -> str:
    if isinstance(value, (list, dict)):
        raise InputError(
            f"{name} holds lists or objects, which CSV cannot: write JSON lines (.jsonl) or parquet."
        )
    return "" if value is None else str(value)


def _json(record: Mapping[str, Any], *, escaped: bool = False) -> str:
    """What JSON has no word for (times, decimals) as text, bytes in base64."""

    def plain(value: Any) -> str:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

    text = json.dumps(record, ensure_ascii=escaped, default=plain)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and no file hold
        return json.dumps(record, default=plain)
    return text
