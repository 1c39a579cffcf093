"""From a stored record to a row: field names, conversations, stable ids.

A record is whatever a file or a dataset holds; a row has exactly the fields below, and a conversation's
``messages`` and ``tools`` beside them: see `smartdpp.corpus.chat`. Text is taken byte for byte and never
rendered. A row's id is the one it came with, else a hash of task, prompt and response with a counter for
repeats, so that ids neither depend on the position in the file nor merge two equal rows.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from smartdpp.corpus import chat, shapes, trees
from smartdpp.corpus.notes import LEFT_OUT, OTHERWISE, UNREAD, Notes, note, note_place
from smartdpp.corpus.shapes import CONVERSATIONS
from smartdpp.errors import InputError
from smartdpp.store.content import file_hashes
from smartdpp.types import Row

FIELDS = ("id", "task", "dataset", "prompt", "response", "source", "license", "template", "choices", "answer")
REQUIRED = ("task", "prompt", "response")
# a number that came with the row, read only where a mapping says which field it is: see
# smartdpp.quality.counts.Column
SCORE = "score"
CHAT = ("messages", "tools", "system")  # of a conversation
IDENTITY = {field: field for field in (*FIELDS, *CHAT)}
WAY_OUT = " corpus.on_bad_row=drop leaves such rows out and counts them."
MEDIA_OUT = " corpus.media=drop leaves such rows out and counts them."
Columns = Mapping[str, str | list[str]]

# what other datasets call them
PROMPTS = ("instruction", "question", "inputs")
RESPONSES = ("output", "completion", "answer", "targets", "target")

NO_TEXT = ("choices", "messages", "tools", SCORE)  # fields of which several cannot be joined
# what a corpus's fingerprint says, in this order, of records that were read otherwise once: see `marks_of`
MARKS = TURNS, JOINED, RECOGNISED, GROWN = "as turns", "joined", "recognised", "grown"


def check_names(columns: Mapping[str, str | list[str]] | None, constants: Mapping[str, str] | None) -> None:
    """Raises InputError if a mapping names a field that rows do not have."""
    for parameter, names, known in (
        ("columns", columns, (*IDENTITY, SCORE)),
        ("constants", constants, FIELDS),
    ):
        unknown = sorted(set(names or {}) - set(known))
        if unknown:
            raise InputError(
                f"corpus.{parameter} names {', '.join(unknown)}, which rows do not have; the fields are "
                f"{', '.join(known)}."
            )


def check_reading(
    on_bad_row: str, max_line_mib: float, max_bad_share: float = 0, media: str = "refuse"
) -> None:
    """Raises InputError for a way of reading that does not exist."""
    if not 0 <= max_bad_share <= 1:
        raise InputError(
            f"corpus.max_bad_share is {max_bad_share}: choose 0 to 1 (0.01 is the default, one row in a "
            "hundred)."
        )
    if media not in ("refuse", "drop"):
        said = "choose refuse (a row with images or audio ends the run) or drop (it is left out and counted)"
        raise InputError(f"corpus.media is {media!r}: {said}.")
    if on_bad_row not in ("refuse", "drop"):
        raise InputError(
            f"corpus.on_bad_row is {on_bad_row!r}: choose refuse (a row that cannot be read ends the run) "
            "or drop (it is counted)."
        )
    if not 0 < max_line_mib <= 1024:
        raise InputError(
            f"corpus.max_line_mib is {max_line_mib}: choose more than 0 and at most 1024 MiB (4 is the "
            "default)."
        )


class BadRow(InputError):
    """One row that cannot be read; those after it may be. ``reason`` is the same for all rows that fail
    alike."""

    def __init__(self, place: str, reason: str, said: str) -> None:
        super().__init__(f"{place}: {said}")
        self.place, self.reason = place, reason


class ClassName(str):
    """A name that stands for a class's number, of which it still knows."""

    names: list[str]

    def __new__(cls, name: str, names: list[str]) -> ClassName:
        made = super().__new__(cls, name)
        made.names = names
        return made

    @property
    def number(self) -> int:
        return self.names.index(self)


def recognised(
    names: Collection[str], columns: Columns, mapped: Collection[str], constants: Collection[str], place: str
) -> Columns:
    """``columns`` for a record with these fields: without a prompt or response under our names, the names
    that common datasets use.

    ShareGPT's conversations are messages, functions their tools; Alpaca's instruction and input, Dolly's
    instruction and context, a question, inputs are a prompt; output, completion, answer, targets are a
    response. A field that ``mapped`` or ``constants`` gives is left alone. BadRow where two fit.
    """
    ours = dict(columns)
    if "messages" in ours and "messages" not in {*mapped, *names}:
        ours["messages"] = next((name for name in CONVERSATIONS if name in names), "messages")
    if "tools" in ours and "tools" not in {*mapped, *names} and "functions" in names:
        ours["tools"] = "functions"
    if any(name in names for name in _several(ours.get("messages", []))) and "response" not in names:
        return ours
    for field, usual in (("prompt", PROMPTS), ("response", RESPONSES)):
        if field in names or field in mapped or field in constants:
            continue
        found = [name for name in usual if name in names and not (name == "answer" and "choices" in names)]
        if len(found) > 1:
            raise BadRow(
                place,
                f"several fields for {field}",
                f"its {field} could be {' or '.join(found)}: say which with corpus.columns='{{{field}: "
                f"{found[0]}}}'.",
            )
        if found:
            more = (
                [name for name in ("input", "context") if name in names] if found == ["instruction"] else []
            )
            ours[field] = [found[0], *more] if more else found[0]
            if found == ["answer"]:
                ours.pop("answer", None)
    if "prompt" not in {*names, *mapped, *constants} and "input" in names and ours.get("prompt") == "prompt":
        ours["prompt"] = "input"
    return ours


def given(constants: Mapping[str, Any] | None) -> set[str]:
    """The fields that constants give a value; an empty one fills what nothing else does, and keeps no field
    from being `recognised`."""
    return {field for field, value in (constants or {}).items() if value not in (None, "")}


def marks_of(
    record: Mapping[str, Any],
    columns: Columns,
    mapped: Collection[str] | None,
    constants: Collection[str],
    empty: Collection[str],
    typed: bool,
) -> set[str]:
    """Which of MARKS hold of a file's first record, read by `rows_of` with these parameters (``empty``: the
    constants that are): another way of reading is another corpus.

    TURNS: `smartdpp.corpus.shapes.was_pasted`. JOINED: several of its fields are one text, the whole of which
    one that is a number or a list once was; where columns are ``typed``, texts stay texts. RECOGNISED: an
    empty constant once kept a field from it. GROWN: it is a message of a tree, of which a row of
    `smartdpp.corpus.hub` once had another beside it.
    """
    asked = columns if mapped is None else {field: columns[field] for field in mapped}
    found = set[str]()
    if (mapped is not None or "messages" in asked) and shapes.was_pasted(
        record, {field: theirs for field, theirs in asked.items() if isinstance(theirs, str)}
    ):
        found.add(TURNS)
    readings: list[Columns | None] = [columns]
    if mapped is not None:
        if _is_shaped(mapped):
            found |= {GROWN} if trees.is_flat(record) else set()
            record = shapes.plain(record, "") or record
        held = [name for name, value in record.items() if value is not None]
        # what is null in this record may be something in the next
        full = set(constants) - set(empty)
        readings = [_recognised(names, columns, mapped, full) for names in (held, record)]
        if empty and readings != [_recognised(names, columns, mapped, constants) for names in (held, record)]:
            found.add(RECOGNISED)
    for theirs in (_several(one) for ours in readings for one in (ours or {}).values()):
        if len(theirs) > 1 and not (typed and all(isinstance(record.get(name), str) for name in theirs)):
            found.add(JOINED)
    return found


def _recognised(
    names: Collection[str], columns: Columns, mapped: Collection[str], constants: Collection[str]
) -> Columns | None:
    try:
        return recognised(names, columns, mapped, constants, "")
    except BadRow:
        return None  # it is told when it is read


class Tally:
    """What becomes of rows that cannot be read, over all files of a reading: raised, or with ``drop`` noted,
    up to a ``share`` of all.

    Rows with images or audio have a way of their own, ``drop_media``, and no limit.
    """

    def __init__(self, drop: bool, share: float, drop_media: bool) -> None:
        self.drop, self.share, self.drop_media = drop, share, drop_media
        self.taken, self.media, self.bad, self.first = 0, 0, Counter[str](), ""

    def problem(self, row: BadRow) -> None:
        media = row.reason == chat.HOLDS_MEDIA
        if media and not self.drop_media:
            raise InputError(f"{row}{MEDIA_OUT}") from None
        if not media and not self.drop:
            raise InputError(f"{row}{WAY_OUT}") from None
        note(LEFT_OUT, row.reason, row.place)
        self.first = self.first or str(row)
        if media:
            self.media += 1
        else:
            self.bad[row.reason] += 1

    def after(self, notes: Notes, taken: int) -> None:
        """Counts what another tally has left out before it, of rows of which ``taken`` were kept by both."""
        self.taken, counts = taken, notes.counts[LEFT_OUT]
        self.bad = Counter({reason: n for reason, n in counts.items() if reason != chat.HOLDS_MEDIA})

    def end(self, source: str) -> None:
        """To be called when everything has been read. InputError where nothing is left, or too much was left
        out."""
        bad = self.bad.total()
        if bad + self.media and not self.taken:
            way = "corpus.on_bad_row" if bad else "corpus.media"
            raise InputError(
                f"{source}: none of its rows can be read, so {way}=drop leaves nothing. The first: "
                f"{self.first}"
            )
        if bad > self.share * (read := bad + self.media + self.taken):
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.bad.most_common())
            raise InputError(
                f"{source}: {bad} of {read} rows ({bad / read:.1%}) cannot be read ({reasons}), more than "
                "corpus.max_bad_share="
                f"{self.share:g} lets corpus.on_bad_row=drop leave out. The first: {self.first} Mend them, "
                "or raise corpus.max_bad_share."
            )


def rows_of(
    records: Iterable[tuple[str, Mapping[str, Any] | BadRow]],
    columns: Columns,
    constants: Mapping[str, str] | None,
    *,
    source: str,
    mapped: Collection[str] | None,
    tally: Tally,
    longest: int,
    unnamed: str,
    blank_cells: bool = False,
) -> Iterator[tuple[str, Row]]:
    """Pairs (place, row) of these records; a row without a source has ``source``, its id may still be None.

    ``mapped`` are the fields that the user maps, the others are `recognised`; None: only what ``columns``
    says is read, and no field counts as unread. A bad row goes to ``tally``. ``longest``: bytes of a row's
    texts. ``unnamed``: the task of records of which the first has none. ``blank_cells``: an empty text is
    nothing, but for prompt and response.
    """
    known: dict[tuple[str, ...], tuple[Columns, str]] = {}
    shaped = mapped is not None and _is_shaped(mapped)
    named = "task" in (columns if mapped is None else mapped) or "task" in (constants or {})
    first = True
    for place, record in records if mapped is None else whole(records, mapped):
        try:
            if isinstance(record, BadRow):
                raise record
            _bounded(record, longest, place)
            if shaped and (record := shapes.plain(record, place)) is None:  # type: ignore[assignment]
                continue
            ours, said = columns, ""
            if mapped is not None:
                names = tuple(name for name, value in record.items() if value is not None)
                if names not in known:
                    found = recognised(names, columns, mapped, given(constants), place)
                    known[names] = found, _said(columns, found)
                ours, said = known[names]
            if blank_cells:
                kept = {name for field in ("prompt", "response") for name in _several(ours.get(field, []))}
                record = {name: value if value or name in kept else None for name, value in record.items()}
            if first:
                first, named = False, named or record.get("task") is not None
            if not named and record.get("task") is None:
                note(OTHERWISE, f"without a task: one task, called {unnamed}", place)
                record = {**record, "task": unnamed}
                ours = {**ours, "task": "task"} if "task" not in ours else ours
            row = to_row(record, ours, constants, place, all_fields=mapped is not None)
            # turns and choices are texts inside of lists until here
            _bounded(row, longest, place, _checked_turns(row, place) if "messages" in row else 0)
        except BadRow as problem:
            tally.problem(problem)
            continue
        if said:
            note(OTHERWISE, said, place)
        tally.taken += 1
        row["source"] = row["source"] or source
        yield place, row


def whole(records: Iterable[tuple[str, Any]], mapped: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The records of which one row each can be made: see `smartdpp.corpus.trees.grown`."""
    return trees.grown(records) if _is_shaped(mapped) else iter(records)


def _is_shaped(mapped: Collection[str]) -> bool:
    """Whether records are looked at as a whole, as the user says of no field what is asked and answered
    there."""
    return not {"prompt", "response", "messages"} & set(mapped)


def _said(columns: Columns, ours: Columns) -> str:
    """Which of the record's fields stand for ours, where that was recognised."""
    other = [field for field in ("messages", "prompt", "response") if columns.get(field) != ours.get(field)]
    return ", ".join(f"{field} from {' and '.join(_several(ours[field]))}" for field in other)


def _bounded(record: Mapping[str, Any], longest: int, place: str, length: int = 0) -> None:
    length += sum(len(value) for value in record.values() if isinstance(value, str))
    choices = record.get("choices")
    length += sum(len(text) for text in choices if isinstance(text, str)) if isinstance(choices, list) else 0
    if length > longest:
        raise too_long(place, "row", longest)


def too_long(place: str, what: str, longest: int) -> BadRow:
    said = (
        f"the {what} is longer than {longest / 2**20:.3g} MiB, the most that corpus.max_line_mib allows: "
        "raise it (a tokenizer of bytes "
    )
    return BadRow(
        place,
        "longer than corpus.max_line_mib",
        f"{said}needs about 270 times that in memory) or cut the text.",
    )


def to_row(
    record: Mapping[str, Any],
    columns: Columns,
    constants: Mapping[str, str] | None,
    place: str,
    *,
    all_fields: bool = True,
) -> Row:
    """The row behind one record; its id may still be None.

    ``columns`` maps our field to the record's (fields not in it are not read, and counted if ``all_fields``),
    or to several whose texts are joined by a blank line where they are not empty (``{prompt: [instruction,
    input]}``), ``constants`` gives the value of a field the record lacks, ``place`` says where the record is
    ("data.jsonl, line 3"). A record without a response may hold ``messages`` instead. A number is its digits,
    and a list of one text that text, also where it is one of several. BadRow naming the place.
    """
    row: Row = {field: _value(record, columns, field, place) for field in FIELDS}
    messages = _value(record, columns, "messages", place) if row["response"] is None else None
    if messages is not None:
        _read_conversation(row, messages, record, columns, place)
    row |= {field: value for field, value in (constants or {}).items() if row[field] is None}
    if all_fields:
        _note_unread(record, columns, messages is not None, place)
    if row["choices"] is not None:
        row["choices"], row["answer"] = _choices(row["choices"], row["answer"], place)
    for field in FIELDS:
        if field != "choices" and row[field] is not None and type(row[field]) is not str:
            if _is_number(row[field]):
                _note_digits(field, place)
            row[field] = _text(field, row[field], place)

    missing = [field for field in REQUIRED if row[field] is None or (field == "task" and row[field] == "")]
    if missing:
        raise BadRow(
            place,
            f"without {' and '.join(missing)}",
            f"the row has no {' and no '.join(missing)}; its fields are "
            f"{', '.join(map(str, record)) or 'none'}. "
            "Map other names with corpus.columns='{prompt: their_name}', or give a constant with "
            "corpus.constants='{task: name}'.",
        )
    for field in FIELDS:
        if row[field] is not None:
            _check_text(field, row[field], place)
    row[SCORE] = _value(record, columns, SCORE, place)
    # a float holds whole numbers of at most 309 digits
    if row[SCORE] is not None and not (_is_number(row[SCORE]) and abs(row[SCORE]) <= sys.float_info.max):
        said = f"{columns[SCORE]}, mapped to score, must be a finite number, found {str(row[SCORE])[:40]!r}."
        raise BadRow(place, "with a score that is no number", said)
    return row


def _read_conversation(
    row: Row, messages: Any, record: Mapping[str, Any], columns: Columns, place: str
) -> None:
    tools, system = (_value(record, columns, field, place) for field in ("tools", "system"))
    if beside := [name for name in chat.BESIDE if record.get(name)]:
        said = f"its turns refer to {', '.join(beside)}, which cannot be read."
        raise BadRow(place, chat.HOLDS_MEDIA, said)
    found = chat.read(messages, tools, system, place, partial(BadRow, place))
    row["prompt"], row["response"] = found.prompt, found.response
    if found.messages is not None:
        row |= {"messages": found.messages, "tools": found.tools}
        note(OTHERWISE, "conversations of several turns, a system turn or tools: kept as turns", place)


def _checked_turns(row: Row, place: str) -> int:
    """How long a conversation's turns and tools are, beside prompt and response.

    BadRow where they cannot be written as JSON.
    """
    others = [turn for turn in row["messages"] if turn["role"] in ("system", "tool") or len(turn) > 2]
    if not others and not row["tools"]:
        return 0
    try:
        text = json.dumps([others, row["tools"]], ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise BadRow(
            place, "with turns that are no JSON", f"messages or tools are no JSON ({error})."
        ) from None
    _check_text("messages", text, place)
    return len(text)


def _note_unread(record: Mapping[str, Any], columns: Columns, from_chat: bool, place: str) -> None:
    read = {
        name
        for field, theirs in columns.items()
        if field not in CHAT or from_chat
        for name in _several(theirs)
    }
    if from_chat:
        read -= {name for field in ("prompt", "response") for name in _several(columns.get(field, []))}
    for name, value in record.items():
        if name not in read and value is not None:
            note(UNREAD, str(name), place)


def _several(theirs: str | list[str]) -> list[str]:
    return [theirs] if isinstance(theirs, str) else theirs


def _value(record: Mapping[str, Any], columns: Columns, field: str, place: str) -> Any:
    """What the record has for a field; of several that hold something their texts, joined."""
    theirs = columns.get(field)
    if theirs is None or isinstance(theirs, str):
        return None if theirs is None else record.get(theirs)
    held = [value for value in map(record.get, theirs) if not _is_nothing(value)]
    others = [value for value in held if not isinstance(value, str)]
    if len(held) == 1 and others:
        return held[0]  # read as it is where it comes alone
    if len(held) > 1 and field in NO_TEXT:
        names = " and ".join(theirs)
        note(OTHERWISE, f"{field} from the first of {names}, several of which are there", place)
        return (others or held)[0]
    texts = [value if isinstance(value, str) else _text(field, value, place) for value in held]
    if any(map(_is_number, others)):
        _note_digits(field, place)
    return "\n\n".join(text for text in texts if text)


def _is_nothing(value: Any) -> bool:
    """Whether nothing stands there, in the ways of JSON, CSV and pandas."""
    return value is None or (isinstance(value, str) and not value) or _is_nan(value)


def _is_nan(value: Any) -> bool:
    return type(value) is float and math.isnan(value)


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _note_digits(field: str, place: str) -> None:
    if field != "id":
        note(OTHERWISE, f"{field} is a number, read as its digits", place)


def _text(field: str, value: Any, place: str) -> str | None:
    """The text behind a number or a list of one; None for what pandas writes where nothing was (NaN). BadRow
    for anything else."""
    if isinstance(value, ClassName):
        return str(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    if _is_nan(value):
        return None
    if _is_number(value):
        return str(value)
    hint = ""
    if isinstance(value, list):
        hint = " Give one row for each."
        if value and isinstance(value[0], dict):
            hint = (
                " A tree of replies (as OASST's) is read as a conversation where corpus.columns maps "
                "neither prompt nor response."
            )
    raise BadRow(
        place,
        f"whose {field} is no text",
        f"{field} must be text, found {type(value).__name__} {str(value)[:40]!r}.{hint}",
    )


def _choices(choices: Any, answer: Any, place: str) -> tuple[Any, Any]:
    """Choices as texts, the answer as one of them or an index from 0. ARC's ``{text: [...], label: [A, B]}``
    is a list of texts too."""
    if (
        isinstance(choices, dict)
        and isinstance(choices.get("text"), list)
        and isinstance(choices.get("label"), list)
    ):
        names, choices = [str(name) for name in choices["label"]], choices["text"]
        if len(names) == len(choices) and str(answer) in names:
            answer = choices[names.index(str(answer))]
    if isinstance(answer, ClassName) and isinstance(choices, list):
        return choices, _by_number(answer, choices)
    if type(answer) is int and isinstance(choices, list) and str(answer) in choices:
        index = choices.index(str(answer))
        if index != answer:
            raise BadRow(
                place,
                "with an ambiguous answer",
                f"answer {answer} is the text of choice {index}, and the index of another: write it as text "
                "in quotes.",
            )
    return choices, answer


def _by_number(answer: ClassName, choices: list[Any]) -> str | int:
    """A class's name where the choices are the names of the classes; else its number says which choice it is
    (MMLU's A to D)."""
    texts = [choice for choice in choices if isinstance(choice, str)]
    if set(texts) <= set(answer.names) or set(answer.names) <= set(texts):
        return str(answer)
    number = answer.number
    # its text, as a number could be the text of another choice
    return choices[number] if number < len(choices) else number


def with_ids(read: Callable[[], Iterable[tuple[str, Row]]]) -> Iterator[Row]:
    """Rows of ``read()``, pairs (place, row), each with a distinct id.

    Remembers one small digest a row. Raises InputError naming both places of a given id that comes twice (the
    first is found by reading again).
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
            first = next(
                (p for p, r in read() if r["id"] == row["id"]), "a row whose id was made from its content"
            )
            raise InputError(
                f"The id {row['id']!r} comes twice: {first} and {place}. Make ids distinct, or leave them "
                "out."
            )
        seen.add(key)
        note_place(place)
        yield row


def content_hash(root: Path, files: Iterable[Path]) -> str:
    """sha256 over the names (relative to ``root``) and contents of files."""
    import hashlib

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
            said = f"{field} must be {expected}, found {type(text).__name__} {str(text)[:40]!r}."
            raise BadRow(place, f"whose {field} is no text", said)
        # JSON can spell half of a surrogate pair ("\ud800"), which no encoding, file or tokenizer accepts
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            said = f"{field} holds a lone surrogate, which is not valid text (often an emoji cut in half)."
            raise BadRow(place, "with a lone surrogate", said)
