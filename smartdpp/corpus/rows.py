"""From a stored record to a row: field names, chat messages, stable ids.

A record is whatever a file or a dataset holds; a row has exactly the fields below. Text is taken byte for byte and never rendered.
A row's id is the one it came with, else a hash of task, prompt and response with a counter for repeats, so that ids neither depend on
the position in the file nor merge two equal rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from smartdpp.errors import InputError
from smartdpp.types import Row

FIELDS = ("id", "task", "dataset", "prompt", "response", "source", "license", "template", "choices", "answer")
REQUIRED = ("task", "prompt", "response")
SCORE = "score"  # a number that came with the row, read only where a mapping says which field it is: see smartdpp.quality.counts.Column
IDENTITY = {field: field for field in (*FIELDS, "messages")}


def check_names(columns: Mapping[str, str | list[str]] | None, constants: Mapping[str, str] | None) -> None:
    """Raises InputError if a mapping names a field that rows do not have."""
    for parameter, names, known in (("columns", columns, (*IDENTITY, SCORE)), ("constants", constants, FIELDS)):
        unknown = sorted(set(names or {}) - set(known))
        if unknown:
            raise InputError(f"corpus.{parameter} names {', '.join(unknown)}, which rows do not have; the fields are {', '.join(known)}.")


def to_row(record: Mapping[str, Any], columns: Mapping[str, str | list[str]], constants: Mapping[str, str] | None, place: str) -> Row:
    """The row behind one record; its id may still be None.

    ``columns`` maps our field to the record's (fields not in it are not read), or to several whose texts are joined by a blank line where
    they are not empty (``{prompt: [instruction, input]}``), ``constants`` gives the value of a field the record
    lacks, ``place`` says where the record is ("data.jsonl, line 3"). A record without a response may hold chat ``messages`` instead.
    Raises InputError naming the place.
    """
    row: Row = {field: _value(record, columns[field]) if field in columns else None for field in FIELDS}
    if row["response"] is None and "messages" in columns and _value(record, columns["messages"]) is not None:
        row["prompt"], row["response"] = from_messages(_value(record, columns["messages"]), place)
    row |= {field: value for field, value in (constants or {}).items() if row[field] is None}
    if type(row["id"]) is int:
        row["id"] = str(row["id"])

    missing = [field for field in REQUIRED if row[field] is None or (field == "task" and row[field] == "")]
    if missing:
        raise InputError(
            f"{place}: the row has no {' and no '.join(missing)}; its fields are {', '.join(map(str, record)) or 'none'}. "
            "Map other names with corpus.columns='{prompt: their_name}', or give a constant with corpus.constants='{task: name}'."
        )
    for field, value in row.items():
        if value is not None:
            _check_text(field, value, place)
    row[SCORE] = _value(record, columns[SCORE]) if SCORE in columns else None
    if row[SCORE] is not None and not (type(row[SCORE]) in (int, float) and math.isfinite(row[SCORE])):
        raise InputError(f"{place}: {columns[SCORE]}, mapped to score, must be a finite number, found {str(row[SCORE])[:40]!r}.")
    return row


def _value(record: Mapping[str, Any], theirs: str | list[str]) -> Any:
    if isinstance(theirs, str):
        return record.get(theirs)
    texts = [record.get(name) for name in theirs]
    wrong = next((text for text in texts if not isinstance(text, str | None)), None)
    return wrong if wrong is not None else "\n\n".join(text for text in texts if text)  # what is no text is refused with the field's name


def from_messages(messages: Any, place: str) -> tuple[str, str]:
    """Prompt and response of a chat: the response is the last assistant message, the prompt everything before it.

    A single user turn is its content alone. Several turns (or a system message) are joined as
    ``System: …\\n\\nUser: …\\n\\nAssistant: …\\n\\nUser: …``. Turns after the last assistant message are not part of the example.
    """
    if not isinstance(messages, list) or not all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str) for turn in messages
    ):
        raise InputError(f"{place}: messages must be a list of {{role, content}} with both of them text.")
    last = max((i for i, turn in enumerate(messages) if turn["role"] == "assistant"), default=None)
    if last is None:
        raise InputError(f"{place}: messages hold no assistant turn, so the row has no response.")
    before, response = messages[:last], messages[last]["content"]
    if [turn["role"] for turn in before] == ["user"]:
        return before[0]["content"], response
    return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in before), response


def with_ids(read: Callable[[], Iterable[tuple[str, Row]]]) -> Iterator[Row]:
    """Rows of ``read()``, pairs (place, row), each with a distinct id.

    Remembers one small digest a row. Raises InputError naming both places of a given id that comes twice (the first is found by reading
    again).
    """
    seen: set[bytes] = set()
    repeats: dict[str, int] = {}
    for place, row in read():
        given = row["id"]
        if given is None:
            content = _digest(json.dumps([row[field] for field in REQUIRED])).hex()
            if _digest(content) in seen:
                repeats[content] = repeats.get(content, 1) + 1
                content = f"{content}-{repeats[content]}"
            row["id"] = content
        key = _digest(row["id"])
        if key in seen:
            first = next((p for p, r in read() if r["id"] == row["id"]), "a row whose id was made from its content")
            raise InputError(f"The id {row['id']!r} comes twice: {first} and {place}. Make ids distinct, or leave them out.")
        seen.add(key)
        yield row


def content_hash(root: Path, files: Iterable[Path]) -> str:
    """sha256 over the names (relative to ``root``) and contents of files."""
    import hashlib

    from smartdpp.content import file_hashes

    paths = list(files)
    total = hashlib.sha256()
    for path, found in zip(paths, file_hashes(paths), strict=True):
        total.update(json.dumps([str(path.relative_to(root)), found]).encode())
    return total.hexdigest()


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def _check_text(field: str, value: Any, place: str) -> None:
    texts = value if field == "choices" and isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str) or (field == "choices" and texts is not value):
            expected = "a list of texts" if field == "choices" else "text"
            raise InputError(f"{place}: {field} must be {expected}, found {type(text).__name__} {str(text)[:40]!r}.")
        # JSON can spell half of a surrogate pair ("\ud800"), which no encoding, file or tokenizer accepts
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"{place}: {field} holds a lone surrogate, which is not valid text (often an emoji cut in half).")
