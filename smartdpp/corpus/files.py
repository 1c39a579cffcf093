"""The files behind a path, and the records in each: JSON lines, a JSON array, Super-NaturalInstructions, CSV,
TSV, parquet, arrow.

Files are parsed by json, pyarrow and pyarrow's codecs, a row or a small batch at a time: memory holds the
longest row, which is bounded. What a file is, is told by its first bytes and its ending.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import glob
import gzip
import io
import json
import lzma
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import islice, takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from smartdpp.corpus import shapes
from smartdpp.corpus.notes import OTHERWISE, UNREAD, note, note_passed_over, noted
from smartdpp.corpus.rows import MARKS, PROMPTS, RESPONSES, BadRow, Columns, given, marks_of, too_long
from smartdpp.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

LINES, ARRAY, OBJECT, CSV, TSV, PARQUET, ARROW = (
    "JSON lines",
    "a JSON array",
    "a JSON object",
    "CSV",
    "TSV",
    "parquet",
    "arrow",
)
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
# an object with one of these is a row
OF_A_ROW = {"prompt", "response", "input", "chosen", "replies", *shapes.CHATS, *PROMPTS, *RESPONSES}
LOOKED, NAMED = 5, 8  # rows of a folder's file looked at to tell whether it holds any, and their fields said
FIELDS = 256  # an object of more is a vocabulary or an index, and no row
NO_OBJECT = "not an object"

Record = Mapping[str, Any]
Records = Iterator[tuple[str, "Record | BadRow"]]
"""Pairs (place, record), or what is wrong with the row at that place, after which reading can go on."""


def find(paths: str | list[str], usable: Callable[[Collection[str]], bool], longest: int) -> list[Path]:
    """The files of a path, a glob or several of either, folders searched in sorted order; in a folder, those
    that hold rows.

    JSON lines of a folder always count; a file of another kind does where one of its first records has fields
    that are ``usable``, and where it is damaged, which is told when it is read. ``longest`` bytes of a row
    are looked at. What is passed over is noted. InputError where nothing is left, or a file may not be read.
    """
    given = [paths] if isinstance(paths, str) else list(paths)
    if not given:
        raise InputError("corpus.path is an empty list: name one or more files.")
    try:
        found = [path for name in given for root in _expanded(name) for path in _below(root, usable, longest)]
        again = Counter(path.resolve() for path in found)
        empty = not any(path.stat().st_size for path in found)
    except OSError as error:
        raise InputError(f"corpus.path: {error.filename} cannot be read ({error.strerror}).") from None
    if closed := [path for path in found if not os.access(path, os.R_OK)]:
        raise InputError(
            f"corpus.path: {closed[0]} may not be read by this user: change its permissions, or leave it out."
        )
    if (
        twice := sorted(str(path) for path in found if again[path.resolve()] > 1)
        if len(again) < len(found)
        else []
    ):
        note(OTHERWISE, "from files that corpus.path names twice, and that are read twice", twice[0])
    if empty:
        raise InputError(
            f"corpus.path: {_shown(given)} is empty; expected rows with task, prompt and response, one JSON "
            "object per line."
        )
    return found


def _below(root: Path, usable: Callable[[Collection[str]], bool], longest: int) -> list[Path]:
    return _in_folder(root, usable, longest) if root.is_dir() else [root]


def _shown(given: list[str]) -> str:
    return ", ".join(str(Path(path).expanduser()) for path in given)


def _expanded(path: str) -> list[Path]:
    root = Path(path).expanduser()
    if root.exists():
        return [root]
    if glob.has_magic(path):
        return _matches(root)
    if root.is_symlink():
        raise InputError(f"corpus.path: {root} is a link to {os.readlink(root)}, which is not there.")
    raise InputError(f"corpus.path: there is no file or folder {root}.")


def _matches(pattern: Path) -> list[Path]:
    """What a glob names, without what smartdpp wrote below the folder where it begins, and without what a
    folder among it holds anyway."""
    begin = Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    found = sorted(map(Path, glob.glob(str(pattern), recursive=True)))
    if not found:
        raise InputError(f"corpus.path: no file matches {pattern}.")
    if "**" in pattern.parts:
        for _ in os.walk(begin, onerror=_noting_closed(begin)):
            pass
    made = cache(made_here)
    kept, folders, left = [], set[Path](), ""
    for match in found:
        inside = [
            folder
            for folder in (*reversed(match.parents), match)
            if begin in folder.parents and folder.is_dir()
        ]
        if own := next((folder for folder in inside if made(folder)), None):
            left = f"{own.relative_to(begin)}/"
            note_passed_over(left, str(made(own)))
        elif folders.isdisjoint(match.parents):
            kept.append(match)
            folders |= {match} if match.is_dir() else set()
    if not kept:
        raise InputError(
            f"corpus.path: all that matches {pattern} is passed over ({left}: {made(begin / left)})."
        )
    return kept


def _noting_closed(root: Path) -> Callable[[OSError], None]:
    """For `os.walk`, which leaves out folders that it may not list."""

    def closed(error: OSError) -> None:
        if Path(error.filename) == root:
            raise error
        note_passed_over(f"{Path(error.filename).relative_to(root)}/", f"cannot be read ({error.strerror})")

    return closed


def _in_folder(root: Path, usable: Callable[[Collection[str]], bool], longest: int) -> list[Path]:
    files: list[Path] = []
    for folder, inside, names in os.walk(root, onerror=_noting_closed(root)):
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
        if why := _no_rows(path, usable, longest):
            note_passed_over(str(path.relative_to(root)), why)
        else:
            kept.append(path)
    if not kept:
        found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise InputError(
            f"corpus.path: the folder {root} holds no file with rows (it holds {found}); read are "
            f"{READABLE}, with fields task, prompt and "
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
    """What smartdpp has left in this folder, or that it may not be read; None for a folder that is not its
    own."""
    try:
        if folder.name == "store" and any(
            re.fullmatch(r"[0-9a-f]{16}(\.partial)?", key.name) for key in folder.glob("*/*")
        ):
            return "what smartdpp has stored"
        if folder.name == "runs" and any(re.search(r"-[0-9a-f]{8}$", run.name) for run in folder.iterdir()):
            return "what smartdpp has run"
        if (folder / "report.html").is_file() and (folder / "results.csv").is_file():
            return "a report"
    except PermissionError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _no_rows(path: Path, usable: Callable[[Collection[str]], bool], longest: int) -> str | None:
    """Why a file of a folder is not read; None if it is. One that is damaged is, and told then: its rows may
    be missed."""
    ending = _ending(path)
    if path.name.startswith("."):
        return "hidden"
    if path.name.startswith("original.") and (path.parent / "mixture.jsonl").is_file():
        return "the rows of mixture.jsonl as they came"
    if ending not in ENDINGS:
        return f"its ending is none of {READABLE}"
    about = path.stat()
    if ENDINGS[ending] == LINES or not about.st_size:
        return None
    if path.name in ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"):
        return "about a dataset"
    kind, looked = _glance(path, (about.st_ino, about.st_size, about.st_mtime_ns), longest)
    fields = [found for found in looked if found is not None and found is not NO_OBJECT]
    # a table's columns are known however damaged its rows are
    if any(map(usable, fields)) or (None in looked and not (fields and kind in (CSV, TSV))):
        return None
    if not looked:
        return "no rows"
    return (
        f"no prompt and response among its fields ({_few(fields[0])})"
        if fields
        else "its items are no objects"
    )


def _few(names: Collection[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (", ".join(map(str, islice(names, NAMED))) or "none") + more


@lru_cache(maxsize=4096)
def _glance(path: Path, version: tuple[int, ...], longest: int) -> tuple[str, list[Collection[str] | None]]:
    """What a file is taken for, and of each of its first records the fields, NO_OBJECT, or None where it is
    damaged.

    Remembered while the file stays the same (``version``): a folder is searched several times in a run.
    """
    kind, found = "", list[Collection[str] | None]()
    try:
        if _ending(path) == ".json" and (names := _many_fields(path)):
            return OBJECT, [names]
        with noted():  # looking is not reading
            kind, records = opened(path, longest)
            found += [_fields(record) for _, record in islice(records, LOOKED)]
    except InputError:
        found.append(None)
    return kind, found


def marks(
    paths: Iterable[Path],
    columns: Columns,
    mapped: Collection[str] | None,
    constants: Mapping[str, str] | None,
    longest: int,
) -> list[str]:
    """`smartdpp.corpus.rows.marks_of` the first record of any of these files, in the order of MARKS."""
    theirs = tuple((field, one if isinstance(one, str) else tuple(one)) for field, one in columns.items())
    empty = tuple(field for field in constants or {} if field not in given(constants))
    read = (theirs, None if mapped is None else tuple(mapped), tuple(constants or {}), empty)
    found = set[str]()
    for path in paths:
        about = path.stat()
        found |= _marks(path, (about.st_ino, about.st_size, about.st_mtime_ns), longest, *read)
    return [mark for mark in MARKS if mark in found]


@lru_cache(maxsize=4096)
def _marks(
    path: Path,
    version: tuple[int, ...],
    longest: int,
    columns: tuple[tuple[str, Any], ...],
    mapped: tuple[str, ...] | None,
    constants: tuple[str, ...],
    empty: tuple[str, ...],
) -> set[str]:
    """Remembered while the file stays the same (``version``). A damaged one is told when it is read."""
    try:
        with noted():  # looking is not reading
            kind, records = opened(path, longest)
            first = next((record for _, record in records if not isinstance(record, BadRow)), None)
            if first is None:
                return set()
            typed = kind in (CSV, TSV, PARQUET, ARROW)
            return marks_of(first, dict(columns), mapped, constants, empty, typed)
    except InputError:
        return set()


def _fields(record: Record | BadRow) -> Collection[str] | None:
    if isinstance(record, BadRow):
        return NO_OBJECT if record.reason == NO_OBJECT else None
    return tuple(record)


def _many_fields(path: Path) -> Collection[str]:
    """The first fields of an object that has more than FIELDS of them in its first CHUNK: it need not be read
    to its end, or fit memory."""
    with path.open("rb") as file:
        text = file.read(CHUNK).decode("utf-8-sig", "replace").strip()
    decoder, between = json.JSONDecoder(), re.compile(r"\s*[{,:]\s*")
    names, at = list[str](), 0
    try:
        while len(names) <= FIELDS and (key := between.match(text, at)):
            name, at = decoder.raw_decode(text, key.end())
            value = between.match(text, at)
            if value is None or not isinstance(name, str):
                return ()
            names.append(name)
            _, at = decoder.raw_decode(text, value.end())
    except (ValueError, RecursionError):
        return ()
    return names if len(names) > FIELDS else ()


def _saved(folder: Path) -> list[Path] | None:
    """The files of a dataset that `save_to_disk` left in this folder; of a dictionary of datasets, where it
    has but one."""
    splits = saved_splits(folder)
    if splits is None:
        return None
    if len(splits) != 1:
        raise InputError(
            f"corpus.path: {folder} holds the splits {', '.join(splits)}: name one, as "
            f"corpus.path={folder / next(iter(splits))}."
        )
    return next(iter(splits.values()))


def saved_splits(folder: Path) -> dict[str, list[Path]] | None:
    """By split, the files that `save_to_disk` left in this folder; a dataset without splits is ``train``.
    None where it left nothing."""
    if (folder / "dataset_dict.json").is_file():
        names = _about(folder / "dataset_dict.json").get("splits", [])
        return {
            name: [path for paths in (saved_splits(folder / name) or {}).values() for path in paths]
            for name in names
        }
    state = _about(folder / "state.json") if (folder / "state.json").is_file() else {}
    if "_data_files" not in state:
        return None
    return {"train": [folder / file["filename"] for file in state["_data_files"]]}


def _about(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); it says which files save_to_disk has written."
        ) from None
    return found if isinstance(found, dict) else {}


def unnamed(paths: list[Path]) -> dict[Path, str]:
    """What to call the task of each file's rows where they have none: the file's name, with its folder's
    where two have the same one.

    The files of one split (``train-00000-of-00002``) have one name.
    """
    parts = {path: re.sub(r"[-_.]?\d+-of-\d+$", "", stem(path)) or path.parent.name for path in paths}
    folders: dict[str, set[Path]] = {}
    for path, name in parts.items():
        folders.setdefault(name, set()).add(path.parent)
    return {
        path: f"{path.parent.name}/{name}" if len(folders[name]) > 1 else name for path, name in parts.items()
    }


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
    """What a file is taken for, and its records. A row of more than ``longest`` bytes is a bad one.
    InputError where reading ends."""
    try:
        with path.open("rb") as file:
            head = file.read(6)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    packing = next((suffix for suffix, magic in PACKED.items() if head.startswith(magic)), None)
    ending, number = _ending(path), [0]
    with _damage_told(path, packing, number):
        if head.startswith(b"PAR1") or ending == ".parquet":
            return PARQUET, _parquet(path)
        if head.startswith(b"ARROW1") or ENDINGS.get(ending) == ARROW:
            return ARROW, _arrow(path)
        if ending in (".csv", ".tsv"):
            kind = ENDINGS[ending]
            read = _csv(path, packing, "," if kind == CSV else "\t", longest, number)
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
        raise InputError(
            f"{path}: the {what} cannot be read beyond line {number[0]} ({error}). It may be cut short or "
            "damaged."
        ) from None


@contextmanager
def _opened(path: Path, packing: str | None) -> Iterator[IO[bytes]]:
    import pyarrow as pa

    if packing == ".zst":
        with pa.input_stream(str(path), compression="zstd") as stream, io.BufferedReader(stream) as file:
            yield file
        return
    if packing in (".bz2", ".xz"):
        with path.open("rb") as packed, io.BufferedReader(_Members(packed, packing)) as file:
            yield file
        return
    opens: dict[str | None, Any] = {None: open, ".gz": gzip.open}
    with opens[packing](path, "rb") as file:
        yield file


class _Members(io.RawIOBase):
    """All that a .bz2 or .xz file packs, one member after another.

    The library's own files end without a word at a later member whose beginning is damaged.
    """

    def __init__(self, file: IO[bytes], packing: str) -> None:
        self.file, self.make = file, {".bz2": bz2.BZ2Decompressor, ".xz": lzma.LZMADecompressor}[packing]
        self.member: Any = self.make()

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while True:
            packed = b""
            if self.member.eof:
                if not (packed := self._behind()):
                    return 0
                self.member = self.make()
            elif self.member.needs_input and not (packed := self.file.read(CHUNK)):
                raise EOFError("it ends before the end of what it packs")
            if data := self.member.decompress(packed, len(into)):
                into[: len(data)] = data
                return len(data)

    def _behind(self) -> bytes:
        """What follows a member, without the zeros that may pad it."""
        packed = self.member.unused_data.lstrip(b"\0")
        while not packed and (more := self.file.read(CHUNK)):
            packed = more.lstrip(b"\0")
        return packed


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
            record = json.loads(first)
        except (ValueError, RecursionError):
            return OBJECT
        alone = not any(chunk.strip() for chunk in iter(lambda: file.read(CHUNK), b""))
    return (
        OBJECT if alone and isinstance(record, dict) and (_is_superni(record) or _wrapped(record)) else LINES
    )


def _is_superni(record: Record) -> bool:
    return isinstance(record.get("Instances"), list) and isinstance(record.get("Definition"), str | list)


def _wrapped(record: Record) -> list[str]:
    """The fields of an object that hold rows; none where it is a row of its own."""
    if OF_A_ROW & set(record):
        return []
    values = {name: record.get(name) for name in WRAPPED}
    return [
        name
        for name, value in values.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    ]


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
                yield (
                    place,
                    BadRow(
                        place,
                        "not UTF-8",
                        f"not UTF-8 text ({error.reason} at byte {error.start}){_otherwise(path)}.",
                    ),
                )
                continue
            except (ValueError, RecursionError) as error:
                reason = (
                    f"{error.msg}, column {error.colno}"
                    if isinstance(error, json.JSONDecodeError)
                    else "nested too deeply"
                )
                said = (
                    f"malformed JSON ({reason}). Each line must be one complete JSON "
                    f"object{_otherwise(path)}."
                )
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
    return BadRow(
        place,
        NO_OBJECT,
        f"expected a JSON object with task, prompt and response, found a {type(record).__name__}.",
    )


def _array(path: Path, packing: str | None, longest: int, number: list[int]) -> Records:
    """Items of a JSON array, or of several after each other, each decoded as soon as it is there. One that is
    malformed or too long ends the reading, and so does anything behind the last array."""
    items = 0
    with _opened(path, packing) as file:
        text = _Text(path, file)
        while bracket := text.following():
            if bracket != "[":
                said = f"{bracket!r} after the end of a JSON array; expected nothing more, or another array"
                raise InputError(
                    f"{path}, line {text.line}: {said}. A file of JSON lines cannot begin with an array."
                )
            text.at += 1
            first = True
            while (character := text.following()) != "]":
                if not character:
                    raise InputError(
                        f"{path}: the JSON array is cut short after item {items}, line {text.line}."
                    )
                items += 1
                place = f"{path}, item {items} (line {text.line})"
                if not first:
                    if character != ",":
                        raise InputError(f"{place}: malformed JSON (expected a comma before it).")
                    text.at += 1
                    text.following()
                first = False
                record, length = text.item(place, longest)
                number[0] = text.line
                yield (
                    place,
                    _object_only(record, place) if length <= longest else too_long(place, "item", longest),
                )
            text.at += 1


class _Text:
    """JSON text of a file, in memory from the current item on; ``at`` is the next character's index, ``line``
    its line."""

    decoder, space = json.JSONDecoder(), re.compile(r"\s*")

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file, self.text, self.at, self.line = path, file, "", 0, 1
        self.decode = codecs.getincrementaldecoder("utf-8-sig")().decode

    def more(self) -> bool:
        """Whether the file went on."""
        chunk = self.file.read(max(CHUNK, len(self.text) - self.at))
        try:
            self.text, self.at = self.text[self.at :] + self.decode(chunk, final=not chunk), 0
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}, after line {self.line}: not UTF-8 text ({error.reason})."
            ) from None
        return bool(chunk)

    def following(self) -> str:
        """The next character that is not space; empty at the end."""
        while True:
            self._move(self.space.match(self.text, self.at).end())  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def item(self, place: str, longest: int) -> tuple[Any, int]:
        """The value that begins here, and how many characters it takes."""
        while True:
            try:
                record, end = self.decoder.raw_decode(self.text, self.at)
                break
            except RecursionError:
                raise InputError(f"{place}: malformed JSON (nested too deeply).") from None
            except ValueError as error:
                if len(self.text) - self.at > longest:
                    raise InputError(
                        str(too_long(place, "item", longest)) + " Or its JSON is malformed."
                    ) from None
                if not self.more():
                    reason = getattr(error, "msg", str(error))
                    raise InputError(
                        f"{place}: malformed JSON ({reason}), or the file is cut short."
                    ) from None
        length = end - self.at
        self._move(end)
        return record, length

    def _move(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end


def _object(path: Path, packing: str | None, longest: int, number: list[int]) -> Records:
    """One JSON object for a whole file: Super-NaturalInstructions' tasks, rows under one of WRAPPED, or a
    single row."""
    with _opened(path, packing) as file:
        content = file.read(WHOLE * longest + 1)
    if len(content) > WHOLE * longest:
        raise InputError(
            f"{path}: one JSON object of more than {WHOLE * longest / 2**20:g} MiB: write its rows as JSON "
            "lines."
        )
    try:
        whole = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = (
            f"{error.msg}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else str(error)
        )
        raise InputError(
            f"{path}: malformed JSON ({reason}); expected JSON lines, an array of objects, or one object."
        ) from None
    if not isinstance(whole, dict):
        raise InputError(
            f"{path}: expected JSON lines or an array of objects, found a {type(whole).__name__}."
        )
    if _is_superni(whole):
        yield from _superni(path, whole)
        return
    fields = _wrapped(whole)
    if not fields:
        yield f"{path}, line 1", whole
        return
    field, *others = fields
    for other in others:
        note(UNREAD, other, str(path))
    for i, record in enumerate(whole[field], start=1):
        place = f"{path}, {field}, item {i}"
        yield place, _object_only(record, place)


def _superni(path: Path, whole: Record) -> Records:
    """Rows of a task of Super-NaturalInstructions: the definition and the input are the prompt, the file's
    name is the task."""
    definition = (
        whole["Definition"]
        if isinstance(whole["Definition"], str)
        else "\n".join(map(str, whole["Definition"]))
    )
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


def _csv(path: Path, packing: str | None, delimiter: str, longest: int, number: list[int]) -> Records:
    """Every cell is text: numbers keep their digits and NA is two letters. An empty cell is empty text.

    Read strictly: a stray quote makes bad rows of all lines it reaches over, where a lenient reader makes one
    cell of them.
    """
    csv.field_size_limit(max(csv.field_size_limit(), longest))  # the module's own is 128 KiB
    kind, shown, row = "CSV" if delimiter == "," else "TSV", str(path), 0
    with _opened(path, packing) as file:
        lines = _CsvLines(path, file, longest, number)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        names: list[str] | None = None
        while True:
            before, rows = lines.next_row(), 1
            try:
                cells = next(reader, None)
                wrong = "" if cells is None else lines.garbled
            except csv.Error as error:
                cells, wrong = (
                    [],
                    f"a quote that is not in its place ({error}): write a quote inside a cell in quotes "
                    "twice",
                )
                rows = number[0] - before  # of none is known where it would have ended
            if cells is None:
                return
            if not cells and not wrong:
                continue  # a blank line
            if names is None:
                names = _head(path, kind, cells, wrong)
                continue
            for _ in range(rows):
                row += 1
                place = f"{shown}, row {row}"
                if wrong or len(cells) != len(names):
                    yield place, _bad_row(place, names, cells, wrong, (before + 1, number[0]))
                else:
                    yield place, dict(zip(names, cells, strict=True))


class _CsvLines:
    """Lines of a file for `csv.reader`, which asks for as many as a row has.

    InputError where a row has more than ``longest`` characters.
    """

    def __init__(self, path: Path, file: IO[bytes], longest: int, number: list[int]) -> None:
        # bytes that are not UTF-8 come as surrogates, so that the row which holds them is told
        self.text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")  # type: ignore[arg-type]
        self.path, self.longest, self.number, self.room, self.garbled = path, longest, number, longest, ""

    def next_row(self) -> int:
        """To be called before each row; the lines before it."""
        self.room, self.garbled = self.longest, ""
        return self.number[0]

    def __iter__(self) -> Iterator[str]:
        number = self.number
        # many lines at once: asking the file for each takes most of the time
        while block := self.text.read(CHUNK) + self.text.readline(self.longest + 1):
            sound = _is_utf8(block)
            for line in io.StringIO(block, newline=""):
                self.room -= len(line)
                if self.room < 0:
                    place = f"{self.path}, line {number[0] + 1}"
                    raise InputError(
                        str(too_long(place, "row", self.longest)) + " Or a quote is never closed."
                    )
                if not (sound or _is_utf8(line)):
                    self.garbled = "bytes that are not UTF-8"
                number[0] += 1
                yield line


def _is_utf8(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _head(path: Path, kind: str, names: list[str], wrong: str) -> list[str]:
    """The columns that a table's first line names."""
    if wrong:
        raise InputError(f"{path}: cannot be read as {kind} (its head holds {wrong}).")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}: its head names {', '.join(twice)} twice; columns need names of their own.")
    return names


def _bad_row(place: str, names: list[str], cells: list[str], wrong: str, lines: tuple[int, int]) -> BadRow:
    if not wrong:
        said = f"{len(cells)} cells for {len(names)} columns."
        return BadRow(place, "with more or fewer cells than columns", said)
    first, last = lines
    where = f"line {first}" if first == last else f"lines {first} to {last}"
    return BadRow(place, f"with {wrong.partition(' (')[0]}", f"{where}: {wrong}.")


def _parquet(path: Path) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            size = min(
                (_rows_at_once(group.total_byte_size, group.num_rows) for group in groups), default=BATCH
            )
            yield from _batches(path, file.schema_arrow, file.iter_batches(batch_size=size))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as parquet ({str(error).partition(chr(10))[0]}). It may be cut short "
            "or damaged."
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
        raise InputError(
            f"{path}: cannot be read as arrow ({str(error).partition(chr(10))[0]}). It may be cut short or "
            "damaged."
        ) from None


def _rows_at_once(size: int, rows: int) -> int:
    """So many rows of a batch of ``size`` bytes that long ones take no more than AT_ONCE."""
    return max(1, min(BATCH, AT_ONCE * rows // max(size, 1)))


def _batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Records:
    import pyarrow as pa

    names = class_names(schema)
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    number = 0
    for batch in batches:
        size = _rows_at_once(batch.nbytes, batch.num_rows)
        for begin in range(0, batch.num_rows, size):
            for record in batch.slice(begin, size).to_pylist():
                number += 1
                record |= {name: _without_gaps(record[name]) for name in nested}
                yield f"{path}, row {number}", named(record, names)


def _without_gaps(value: Any) -> Any:
    """Without the fields that are null inside of a table's column: there every object has the fields of
    all."""
    if isinstance(value, dict):
        return {name: _without_gaps(inside) for name, inside in value.items() if inside is not None}
    return [_without_gaps(inside) for inside in value] if isinstance(value, list) else value


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names behind the numbers of ClassLabel columns, which `datasets` keeps beside the columns."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    return labels(Features.from_arrow_schema(schema))


def labels(features: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """As `class_names`, from a dataset's features."""
    from datasets import ClassLabel

    return {
        column: feature.names
        for column, feature in (features or {}).items()
        if isinstance(feature, ClassLabel)
    }


def named(record: Record, names: Mapping[str, list[str]]) -> Record:
    """The record with names in place of its class numbers; -1 is none."""
    if not names:
        return record

    def name(column: str, value: Any) -> Any:
        if column not in names or not isinstance(value, int):
            return value
        return names[column][value] if 0 <= value < len(names[column]) else None

    return {column: name(column, value) for column, value in record.items()}
