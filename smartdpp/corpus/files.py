"""The files behind a path, and the records in each: JSON lines, a JSON array, Super-NaturalInstructions, CSV, TSV, parquet, arrow.

Files are parsed by json, pyarrow and pyarrow's codecs, a row or a small batch at a time: memory holds the longest row, which is bounded.
What a file is, is told by its first bytes and its ending.
"""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import io
import json
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from smartdpp.corpus.notes import OTHERWISE, note, note_passed_over, noted
from smartdpp.corpus.rows import BadRow, too_long
from smartdpp.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

LINES, ARRAY, OBJECT, CSV, TSV, PARQUET, ARROW = "JSON lines", "a JSON array", "a JSON object", "CSV", "TSV", "parquet", "arrow"
ENDINGS = {
    ".jsonl": LINES,
    ".ndjson": LINES,
    ".json": ARRAY,
    ".csv": CSV,
    ".tsv": TSV,
    ".parquet": PARQUET,
    ".arrow": ARROW,
    ".feather": ARROW,
}
PACKED = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00", ".zst": b"\x28\xb5\x2f\xfd"}
READABLE = f"{', '.join(ENDINGS)} (also with {', '.join(PACKED)})"
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
CHUNK = 1 << 16  # bytes of a JSON array read at a time
BATCH, AT_ONCE = 256, 1 << 25  # rows of a table decoded at a time, and bytes of them
WHOLE = 64  # a JSON object is read whole, up to so many times the longest row
WRAPPED = ("data", "rows", "examples", "instances", "train")  # the one field of an object that holds its rows

Record = Mapping[str, Any]
Records = Iterator[tuple[str, "Record | BadRow"]]
"""Pairs (place, record), or what is wrong with the row at that place, after which reading can go on."""


def find(paths: str | list[str], usable: Callable[[Record], bool]) -> list[Path]:
    """The files of a path, a glob or several of either, folders searched in sorted order; in a folder, those that hold rows.

    JSON lines of a folder always count; a file of another kind does where its first record is ``usable``. What is passed over is noted.
    InputError where nothing is left.
    """
    given = [paths] if isinstance(paths, str) else list(paths)
    if not given:
        raise InputError("corpus.path is an empty list: name one or more files.")
    found: list[Path] = []
    for path in given:
        for root in _expanded(path):
            found += _in_folder(root, usable) if root.is_dir() else [root]
    if twice := sorted({str(path) for path in found if found.count(path) > 1} if len(set(found)) < len(found) else []):
        note(OTHERWISE, "from files that corpus.path names twice, and that are read twice", twice[0])
    if not any(path.stat().st_size for path in found):
        raise InputError(f"corpus.path: {_shown(given)} is empty; expected rows with task, prompt and response, one JSON object per line.")
    return found


def _shown(given: list[str]) -> str:
    return ", ".join(str(Path(path).expanduser()) for path in given)


def _expanded(path: str) -> list[Path]:
    root = Path(path).expanduser()
    if root.exists():
        return [root]
    if glob.has_magic(path):
        if matches := sorted(map(Path, glob.glob(str(root), recursive=True))):
            return matches
        raise InputError(f"corpus.path: no file matches {root}.")
    if root.is_symlink():
        raise InputError(f"corpus.path: {root} is a link to {os.readlink(root)}, which is not there.")
    raise InputError(f"corpus.path: there is no file or folder {root}.")


def _in_folder(root: Path, usable: Callable[[Record], bool]) -> list[Path]:
    files: list[Path] = []
    for folder, inside, names in os.walk(root):
        here = Path(folder)
        if saved := _saved(here):
            files += saved
            inside.clear()
            continue
        for name in list(inside):
            child = here / name
            why = _skipped(child)
            if why:
                inside.remove(name)
                note_passed_over(f"{child.relative_to(root)}/", why)
        files += [here / name for name in names if (here / name).is_file()]
        for name in names:
            if not (here / name).exists():
                note_passed_over(str((here / name).relative_to(root)), "a link to nothing")
    kept = []
    for path in sorted(files):
        if why := _no_rows(path, usable):
            note_passed_over(str(path.relative_to(root)), why)
        else:
            kept.append(path)
    if not kept:
        found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise InputError(
            f"corpus.path: the folder {root} holds no file with rows (it holds {found}); read are {READABLE}, with fields task, prompt and "
            "response or what corpus.columns maps to them."
        )
    return kept


def _skipped(folder: Path) -> str | None:
    """Why a folder inside a corpus's is not part of it."""
    if folder.is_symlink():
        return "a link to a folder"
    if folder.name.startswith("."):
        return "hidden"
    return made_here(folder)


def made_here(folder: Path) -> str | None:
    """What smartdpp has left in this folder; None for a folder that is not its own."""
    if folder.name == "store" and any(re.fullmatch(r"[0-9a-f]{16}(\.partial)?", key.name) for key in folder.glob("*/*")):
        return "what smartdpp has stored"
    if folder.name == "runs" and any(re.search(r"-[0-9a-f]{8}$", run.name) for run in folder.iterdir()):
        return "what smartdpp has run"
    if (folder / "report.html").is_file() and (folder / "results.csv").is_file():
        return "a report"
    return None


def _no_rows(path: Path, usable: Callable[[Record], bool]) -> str | None:
    """Why a file of a folder is not read; None if it is."""
    ending = _ending(path)
    if path.name.startswith("."):
        return "hidden"
    if ending not in ENDINGS:
        return f"its ending is none of {READABLE}"
    if ENDINGS[ending] == LINES or not path.stat().st_size:
        return None
    if path.name in ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"):
        return "about a dataset"
    try:
        with noted():  # looking is not reading
            _, first = next(opened(path, 1 << 28)[1], ("", None))
    except InputError as error:
        return str(error) if ending == ".json" else None  # a damaged table is told when it is read
    if first is None:
        return "no rows"
    if isinstance(first, BadRow) or usable(first):
        return None
    return f"no prompt and response among its fields ({', '.join(map(str, first))})"


def _saved(folder: Path) -> list[Path] | None:
    """The files of a dataset that `save_to_disk` left in this folder; of a dictionary of datasets, where it has but one."""
    splits = saved_splits(folder)
    if splits is None:
        return None
    if len(splits) != 1:
        raise InputError(
            f"corpus.path: {folder} holds the splits {', '.join(splits)}: name one, as corpus.path={folder / next(iter(splits))}."
        )
    return next(iter(splits.values()))


def saved_splits(folder: Path) -> dict[str, list[Path]] | None:
    """By split, the files that `save_to_disk` left in this folder; a dataset without splits is ``train``. None where it left nothing."""
    if (folder / "dataset_dict.json").is_file():
        names = _about(folder / "dataset_dict.json").get("splits", [])
        return {name: [path for paths in (saved_splits(folder / name) or {}).values() for path in paths] for name in names}
    state = _about(folder / "state.json") if (folder / "state.json").is_file() else {}
    if "_data_files" not in state:
        return None
    return {"train": [folder / file["filename"] for file in state["_data_files"]]}


def _about(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); it says which files save_to_disk has written.") from None
    return found if isinstance(found, dict) else {}


def is_csv(path: Path, *kinds: str) -> bool:
    return ENDINGS.get(_ending(path)) in (kinds or (CSV, TSV))


def is_known(path: Path) -> bool:
    return _ending(path) in ENDINGS and path.is_file()


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(path.suffix) if path.suffix in PACKED else path.name).suffix.lower()


def stem(path: Path) -> str:
    """A file's name without the endings that say how it is read."""
    name = path.name.removesuffix(path.suffix) if path.suffix in PACKED else path.name
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in ENDINGS else name


def opened(path: Path, longest: int) -> tuple[str, Records]:
    """What a file is taken for, and its records. A row of more than ``longest`` bytes is a bad one. InputError where reading ends."""
    with path.open("rb") as file:
        head = file.read(6)
    packing = next((suffix for suffix, magic in PACKED.items() if head.startswith(magic)), None)
    ending, number = _ending(path), [0]
    with _damage_told(path, packing, number):
        if head.startswith(b"PAR1") or ending == ".parquet":
            return PARQUET, _parquet(path)
        if head.startswith(b"ARROW1") or ENDINGS.get(ending) == ARROW:
            return ARROW, _arrow(path)
        if ending in (".csv", ".tsv"):
            kind = ENDINGS[ending]
            read = _csv(path, packing, "," if kind == CSV else "\t", longest)
        else:
            kind = _json_kind(path, packing, ending, longest)
            read = {LINES: _lines, ARRAY: _array, OBJECT: _object}[kind](path, packing, longest, number)

    def told() -> Records:
        with _damage_told(path, packing, number):
            yield from read

    return kind, told()


@contextmanager
def _damage_told(path: Path, packing: str | None, number: list[int]) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        what = {None: "file", ".gz": "gzip"}.get(packing, str(packing))
        raise InputError(f"{path}: the {what} cannot be read beyond line {number[0]} ({error}). It may be cut short or damaged.") from None


@contextmanager
def _opened(path: Path, packing: str | None) -> Iterator[IO[bytes]]:
    import pyarrow as pa

    if packing == ".zst":
        with pa.input_stream(str(path), compression="zstd") as stream, io.BufferedReader(stream) as file:
            yield file
        return
    opens: dict[str | None, Any] = {None: open, ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    with opens[packing](path, "rb") as file:
        yield file


def _json_kind(path: Path, packing: str | None, ending: str, longest: int) -> str:
    with _opened(path, packing) as file:
        start = file.read(CHUNK).removeprefix(codecs.BOM_UTF8).lstrip()
        if start.startswith(b"["):
            return ARRAY
        if ending != ".json" or not start.startswith(b"{"):
            return LINES
    with _opened(path, packing) as file:
        first = b""
        while not first.strip():
            first = file.readline(longest + 1).removeprefix(codecs.BOM_UTF8)
    try:
        json.loads(first)
        return LINES
    except (ValueError, RecursionError):
        return OBJECT


def _lines(path: Path, packing: str | None, longest: int, number: list[int]) -> Records:
    with _opened(path, packing) as file:
        while line := file.readline(longest + 1):
            number[0] += 1
            place = f"{path}, line {number[0]}"
            if len(line) > longest and not line.endswith(b"\n"):
                while (rest := file.readline(CHUNK)) and not rest.endswith(b"\n"):
                    pass
                yield place, too_long(place, "line", longest)
                continue
            try:
                # utf-8-sig: editors on Windows begin a file with a byte order mark
                text = line.decode("utf-8-sig" if number[0] == 1 else "utf-8")
                record = json.loads(text) if text.strip() else None
            except UnicodeDecodeError as error:
                yield place, BadRow(place, "not UTF-8", f"not UTF-8 text ({error.reason} at byte {error.start}){_otherwise(path)}.")
                continue
            except (ValueError, RecursionError) as error:
                reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
                said = f"malformed JSON ({reason}). Each line must be one complete JSON object{_otherwise(path)}."
                yield place, BadRow(place, "malformed JSON", said)
                continue
            if text.strip():
                yield place, _object_only(record, place)


def _otherwise(path: Path) -> str:
    """What else a file that is not JSON lines may be."""
    with path.open("rb") as file:
        if path.suffix in PACKED and not file.read(6).startswith(PACKED[path.suffix]):
            return f"; {path.name} is called {path.suffix} but is not packed so"
    return "" if _ending(path) in ENDINGS else f"; {path.name} is none of {READABLE}"


def _object_only(record: Any, place: str) -> Record | BadRow:
    if isinstance(record, dict):
        return record
    return BadRow(place, "not an object", f"expected a JSON object with task, prompt and response, found a {type(record).__name__}.")


def _array(path: Path, packing: str | None, longest: int, number: list[int]) -> Records:
    """Items of a JSON array, each decoded as soon as it is there. One that is malformed or too long ends the reading."""
    decoder, space = json.JSONDecoder(), re.compile(r"\s*")
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    text, at, line, items = "", 0, 1, 0
    with _opened(path, packing) as file:

        def more() -> bool:
            nonlocal text, at
            chunk = file.read(max(CHUNK, len(text) - at))
            try:
                text, at = text[at:] + decode(chunk, final=not chunk), 0
            except UnicodeDecodeError as error:
                raise InputError(f"{path}, after line {line}: not UTF-8 text ({error.reason}).") from None
            return bool(chunk)

        def following() -> str:
            """The next character that is not space; empty at the end."""
            nonlocal at, line
            while True:
                end = space.match(text, at).end()  # type: ignore[union-attr]
                line += text.count("\n", at, end)
                at = end
                if at < len(text):
                    return text[at]
                if not more():
                    return ""

        following()
        at += 1  # the bracket
        while (character := following()) != "]":
            items += 1
            place = f"{path}, item {items} (line {line})"
            if not character:
                raise InputError(f"{path}: the JSON array is cut short after item {items - 1}, line {line}.")
            if items > 1:
                if character != ",":
                    raise InputError(f"{place}: malformed JSON (expected a comma before it).")
                at += 1
                following()
            while True:
                try:
                    record, end = decoder.raw_decode(text, at)
                    break
                except (ValueError, RecursionError) as error:
                    if isinstance(error, RecursionError):
                        raise InputError(f"{place}: malformed JSON (nested too deeply).") from None
                    if len(text) - at > longest:
                        raise InputError(str(too_long(place, "item", longest)) + " Or its JSON is malformed.") from None
                    if not more():
                        reason = getattr(error, "msg", str(error))
                        raise InputError(f"{place}: malformed JSON ({reason}), or the file is cut short.") from None
            line += text.count("\n", at, end)
            number[0] = line
            yield place, _object_only(record, place) if end - at <= longest else too_long(place, "item", longest)
            at = end


def _object(path: Path, packing: str | None, longest: int, number: list[int]) -> Records:
    """One JSON object for a whole file: Super-NaturalInstructions' tasks, rows under one of WRAPPED, or a single row."""
    with _opened(path, packing) as file:
        content = file.read(WHOLE * longest + 1)
    if len(content) > WHOLE * longest:
        raise InputError(f"{path}: one JSON object of more than {WHOLE * longest / 2**20:g} MiB: write its rows as JSON lines.")
    try:
        whole = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(f"{path}: malformed JSON ({reason}); expected JSON lines, an array of objects, or one object.") from None
    if not isinstance(whole, dict):
        raise InputError(f"{path}: expected JSON lines or an array of objects, found a {type(whole).__name__}.")
    if "Instances" in whole and "Definition" in whole:
        yield from _superni(path, whole)
        return
    field = next((name for name in WRAPPED if isinstance(whole.get(name), list)), None)
    if field is None:
        yield f"{path}, line 1", whole
        return
    for i, record in enumerate(whole[field], start=1):
        place = f"{path}, {field}, item {i}"
        yield place, _object_only(record, place)


def _superni(path: Path, whole: Record) -> Records:
    """Rows of a task of Super-NaturalInstructions: the definition and the input are the prompt, the file's name is the task."""
    definition = whole["Definition"] if isinstance(whole["Definition"], str) else "\n".join(map(str, whole["Definition"]))
    for i, instance in enumerate(whole["Instances"], start=1):
        place = f"{path}, instance {i}"
        if not isinstance(instance, dict):
            yield place, _object_only(instance, place)
            continue
        output = instance.get("output")
        if isinstance(output, list) and len(output) > 1:
            note(OTHERWISE, "the first of several right answers is taken", place)
            output = output[:1]
        yield place, {"task": stem(path), "instruction": definition, **instance, "output": output}


def _csv(path: Path, packing: str | None, delimiter: str, longest: int) -> Records:
    """Every cell is text: numbers keep their digits and NA is two letters. An empty cell is empty text."""
    import pyarrow as pa
    from pyarrow import csv

    if not path.stat().st_size:
        return
    bad: list[tuple[int, BadRow]] = []

    def skip(row: Any) -> str:
        said = f"{row.actual_columns} cells for {row.expected_columns} columns."
        bad.append((row.number - 1, BadRow(f"{path}, row {row.number - 1}", "with more or fewer cells than columns", said)))
        return "skip"

    reading = csv.ReadOptions(use_threads=False, block_size=longest + 1)
    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    try:
        with (
            _opened(path, packing) as file,
            csv.open_csv(file, csv.ReadOptions(use_threads=False, block_size=longest + 1), parsing) as head,
        ):
            names = head.schema.names
        bad.clear()
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InputError(f"{path}: its head names {', '.join(twice)} twice; columns need names of their own.")
        texts = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, null_values=[])
        number, skipped = 0, set[int]()
        with _opened(path, packing) as file, csv.open_csv(file, reading, parsing, texts) as batches:
            for batch in batches:
                skipped |= {row for row, _ in bad}
                for record in batch.to_pylist():
                    number += 1
                    while number in skipped:
                        number += 1
                    yield f"{path}, row {number}", record
                yield from _emptied(bad)
        yield from _emptied(bad)
    except pa.ArrowInvalid as error:
        reason = str(error).partition("\n")[0]
        if "Empty CSV" in reason:
            return
        if "straddling" in reason:
            raise InputError(str(too_long(f"{path}", "longest row", longest)) + " Or a quote is never closed.") from None
        raise InputError(f"{path}: cannot be read as {'CSV' if delimiter == ',' else 'TSV'} ({reason}).") from None


def _emptied(bad: list[tuple[int, BadRow]]) -> Records:
    while bad:
        _, problem = bad.pop(0)
        yield problem.place, problem


def _parquet(path: Path) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            size = min((_rows_at_once(group.total_byte_size, group.num_rows) for group in groups), default=BATCH)
            yield from _batches(path, file.schema_arrow, file.iter_batches(batch_size=size))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as parquet ({str(error).partition(chr(10))[0]}). It may be cut short or damaged."
        ) from None


def _arrow(path: Path) -> Records:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                reader: Any = pa.ipc.open_stream(source)
                batches: Iterable[pa.RecordBatch] = reader
            except pa.ArrowInvalid:
                source.seek(0)
                reader = pa.ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            yield from _batches(path, reader.schema, batches)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: cannot be read as arrow ({str(error).partition(chr(10))[0]}). It may be cut short or damaged.") from None


def _rows_at_once(size: int, rows: int) -> int:
    """So many rows of a batch of ``size`` bytes that long ones take no more than AT_ONCE."""
    return max(1, min(BATCH, AT_ONCE * rows // max(size, 1)))


def _batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Records:
    names = class_names(schema)
    number = 0
    for batch in batches:
        size = _rows_at_once(batch.nbytes, batch.num_rows)
        for begin in range(0, batch.num_rows, size):
            for record in batch.slice(begin, size).to_pylist():
                number += 1
                yield f"{path}, row {number}", named(record, names)


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names behind the numbers of ClassLabel columns, which `datasets` keeps beside the columns."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    return labels(Features.from_arrow_schema(schema))


def labels(features: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """As `class_names`, from a dataset's features."""
    from datasets import ClassLabel

    return {column: feature.names for column, feature in (features or {}).items() if isinstance(feature, ClassLabel)}


def named(record: Record, names: Mapping[str, list[str]]) -> Record:
    """The record with names in place of its class numbers; -1 is none."""
    if not names:
        return record

    def name(column: str, value: Any) -> Any:
        if column not in names or not isinstance(value, int):
            return value
        return names[column][value] if 0 <= value < len(names[column]) else None

    return {column: name(column, value) for column, value in record.items()}
