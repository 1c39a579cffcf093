"""From a stored record to a row: field names, chat messages, stable ids.

A record is whatever a file or a dataset holds; a row has exactly the fields below. Text is taken byte for byte and never rendered.
A row's id is the one it came with, else a hash of task, prompt and response with a counter for repeats, so that ids neither depend on
the position in the file nor merge two equal rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from smartdpp.corpus.notes import LEFT_OUT, OTHERWISE, UNREAD, note
from smartdpp.errors import InputError
from smartdpp.store.content import file_hashes
from smartdpp.types import Row

FIELDS = ("id", "task", "dataset", "prompt", "response", "source", "license", "template", "choices", "answer")
REQUIRED = ("task", "prompt", "response")
SCORE = "score"  # a number that came with the row, read only where a mapping says which field it is: see smartdpp.quality.counts.Column
IDENTITY = {field: field for field in (*FIELDS, "messages")}
WAY_OUT = " corpus.on_bad_row=drop leaves such rows out and counts them."
Columns = Mapping[str, str | list[str]]

# what other datasets call them
CONVERSATIONS = ("conversations", "conversation")
PROMPTS = ("instruction", "question", "inputs")
RESPONSES = ("output", "completion", "answer", "targets", "target")
ROLES = {"human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}
TURN = ("role", "content", "from", "value")


def check_names(columns: Mapping[str, str | list[str]] | None, constants: Mapping[str, str] | None) -> None:
    """Raises InputError if a mapping names a field that rows do not have."""
    for parameter, names, known in (("columns", columns, (*IDENTITY, SCORE)), ("constants", constants, FIELDS)):
        unknown = sorted(set(names or {}) - set(known))
        if unknown:
            raise InputError(f"corpus.{parameter} names {', '.join(unknown)}, which rows do not have; the fields are {', '.join(known)}.")


def check_reading(on_bad_row: str, max_line_mib: float) -> None:
    """Raises InputError for a way of reading that does not exist."""
    if on_bad_row not in ("refuse", "drop"):
        raise InputError(
            f"corpus.on_bad_row is {on_bad_row!r}: choose refuse (a row that cannot be read ends the run) or drop (it is counted)."
        )
    if not 0 < max_line_mib <= 1024:
        raise InputError(f"corpus.max_line_mib is {max_line_mib}: choose more than 0 and at most 1024 MiB (4 is the default).")


class BadRow(InputError):
    """One row that cannot be read; those after it may be. ``reason`` is the same for all rows that fail alike."""

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


def recognised(names: Collection[str], columns: Columns, mapped: Collection[str], constants: Collection[str], place: str) -> Columns:
    """``columns`` for a record with these fields: without a prompt or response under our names, the names that common datasets use.

    ShareGPT's conversations are messages; Alpaca's instruction and input, Dolly's instruction and context, a question, inputs are a prompt;
    output, completion, answer, targets are a response. A field that ``mapped`` or ``constants`` gives is left alone. BadRow where two fit.
    """
    ours = dict(columns)
    if "messages" in ours and "messages" not in {*mapped, *names}:
        ours["messages"] = next((name for name in CONVERSATIONS if name in names), "messages")
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
                f"its {field} could be {' or '.join(found)}: say which with corpus.columns='{{{field}: {found[0]}}}'.",
            )
        if found:
            more = [name for name in ("input", "context") if name in names] if found == ["instruction"] else []
            ours[field] = [found[0], *more] if more else found[0]
            if found == ["answer"]:
                ours.pop("answer", None)
    if "prompt" not in {*names, *mapped, *constants} and "input" in names and ours.get("prompt") == "prompt":
        ours["prompt"] = "input"
    return ours


def rows_of(
    records: Iterable[tuple[str, Mapping[str, Any] | BadRow]],
    columns: Columns,
    constants: Mapping[str, str] | None,
    *,
    source: str,
    mapped: Collection[str] | None,
    drop: bool,
    longest: int,
    blank_cells: bool = False,
) -> Iterator[tuple[str, Row]]:
    """Pairs (place, row) of these records; a row without a source has ``source``, its id may still be None.

    ``mapped`` are the fields that the user maps, the others are `recognised`; None: only what ``columns`` says is read, and no field counts
    as unread. A bad row is raised, or with ``drop`` noted. ``longest``: bytes of a row's texts. ``blank_cells``: an empty text is nothing,
    but for prompt and response.
    """
    known: dict[tuple[str, ...], tuple[Columns, str]] = {}
    taken, first = 0, None
    for place, record in records:
        try:
            if isinstance(record, BadRow):
                raise record
            _bounded(record, longest, place)
            ours, said = columns, ""
            if mapped is not None:
                names = tuple(name for name, value in record.items() if value is not None)
                if names not in known:
                    found = recognised(names, columns, mapped, constants or {}, place)
                    known[names] = found, _said(columns, found)
                ours, said = known[names]
            if blank_cells:
                kept = {name for field in ("prompt", "response") for name in _several(ours.get(field, []))}
                record = {name: value if value or name in kept else None for name, value in record.items()}
            row = to_row(record, ours, constants, place, all_fields=mapped is not None)
            _bounded(row, longest, place)  # turns and choices are texts inside of lists until here
        except BadRow as problem:
            if not drop:
                raise InputError(f"{problem}{WAY_OUT}") from None
            note(LEFT_OUT, problem.reason, place)
            first = first or problem
            continue
        if said:
            note(OTHERWISE, said, place)
        taken += 1
        row["source"] = row["source"] or source
        yield place, row
    if first and not taken:
        raise InputError(f"{source}: none of its rows can be read, so corpus.on_bad_row=drop leaves nothing. The first: {first}")


def _said(columns: Columns, ours: Columns) -> str:
    """Which of the record's fields stand for ours, where that was recognised."""
    other = [field for field in ("messages", "prompt", "response") if columns.get(field) != ours.get(field)]
    return ", ".join(f"{field} from {' and '.join(_several(ours[field]))}" for field in other)


def _bounded(record: Mapping[str, Any], longest: int, place: str) -> None:
    length = sum(len(value) for value in record.values() if isinstance(value, str))
    choices = record.get("choices")
    length += sum(len(text) for text in choices if isinstance(text, str)) if isinstance(choices, list) else 0
    if length > longest:
        raise too_long(place, "row", longest)


def too_long(place: str, what: str, longest: int) -> BadRow:
    said = f"the {what} is longer than {longest / 2**20:.3g} MiB, the most that corpus.max_line_mib allows: raise it (a tokenizer of bytes "
    return BadRow(place, "longer than corpus.max_line_mib", f"{said}needs about 270 times that in memory) or cut the text.")


def to_row(record: Mapping[str, Any], columns: Columns, constants: Mapping[str, str] | None, place: str, *, all_fields: bool = True) -> Row:
    """The row behind one record; its id may still be None.

    ``columns`` maps our field to the record's (fields not in it are not read, and counted if ``all_fields``), or to several whose texts are
    joined by a blank line where they are not empty (``{prompt: [instruction, input]}``), ``constants`` gives the value of a field the
    record lacks, ``place`` says where the record is ("data.jsonl, line 3"). A record without a response may hold chat ``messages``
    instead. A number is its digits, and a list of one text that text. BadRow naming the place.
    """
    row: Row = {field: _value(record, columns[field]) if field in columns else None for field in FIELDS}
    from_chat = row["response"] is None and "messages" in columns and _value(record, columns["messages"]) is not None
    if from_chat:
        row["prompt"], row["response"] = from_messages(_value(record, columns["messages"]), place)
    row |= {field: value for field, value in (constants or {}).items() if row[field] is None}
    if all_fields:
        _note_unread(record, columns, from_chat, place)
    if row["choices"] is not None:
        row["choices"], row["answer"] = _choices(row["choices"], row["answer"], place)
    for field in FIELDS:
        if field != "choices" and row[field] is not None and type(row[field]) is not str:
            row[field] = _text(field, row[field], place)

    missing = [field for field in REQUIRED if row[field] is None or (field == "task" and row[field] == "")]
    if missing:
        raise BadRow(
            place,
            f"without {' and '.join(missing)}",
            f"the row has no {' and no '.join(missing)}; its fields are {', '.join(map(str, record)) or 'none'}. "
            "Map other names with corpus.columns='{prompt: their_name}', or give a constant with corpus.constants='{task: name}'.",
        )
    for field, value in row.items():
        if value is not None:
            _check_text(field, value, place)
    row[SCORE] = _value(record, columns[SCORE]) if SCORE in columns else None
    if row[SCORE] is not None and not (type(row[SCORE]) in (int, float) and math.isfinite(row[SCORE])):
        said = f"{columns[SCORE]}, mapped to score, must be a finite number, found {str(row[SCORE])[:40]!r}."
        raise BadRow(place, "with a score that is no number", said)
    return row


def _note_unread(record: Mapping[str, Any], columns: Columns, from_chat: bool, place: str) -> None:
    read = {name for field, theirs in columns.items() if field != "messages" or from_chat for name in _several(theirs)}
    if from_chat:
        read -= {name for field in ("prompt", "response") for name in _several(columns.get(field, []))}
    for name, value in record.items():
        if name not in read and value is not None:
            note(UNREAD, str(name), place)


def _several(theirs: str | list[str]) -> list[str]:
    return [theirs] if isinstance(theirs, str) else theirs


def _value(record: Mapping[str, Any], theirs: str | list[str]) -> Any:
    if isinstance(theirs, str):
        return record.get(theirs)
    texts = [record.get(name) for name in theirs]
    wrong = next((text for text in texts if not isinstance(text, str | None)), None)
    return wrong if wrong is not None else "\n\n".join(text for text in texts if text)  # what is no text is refused with the field's name


def _text(field: str, value: Any, place: str) -> str | None:
    """The text behind a number or a list of one; None for what pandas writes where nothing was (NaN). BadRow for anything else."""
    if isinstance(value, ClassName):
        return str(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    if type(value) is float and math.isnan(value):
        return None
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        if field != "id":
            note(OTHERWISE, f"{field} is a number, read as its digits", place)
        return str(value)
    hint = ""
    if isinstance(value, list):
        hint = " Give one row for each."
        if value and isinstance(value[0], dict):
            hint = " A tree of replies (as OASST's) cannot be read: write one row for each exchange, with prompt and response or messages."
    raise BadRow(place, f"whose {field} is no text", f"{field} must be text, found {type(value).__name__} {str(value)[:40]!r}.{hint}")


def _choices(choices: Any, answer: Any, place: str) -> tuple[Any, Any]:
    """Choices as texts, the answer as one of them or an index from 0. ARC's ``{text: [...], label: [A, B]}`` is a list of texts too."""
    if isinstance(choices, dict) and isinstance(choices.get("text"), list) and isinstance(choices.get("label"), list):
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
                f"answer {answer} is the text of choice {index}, and the index of another: write it as text in quotes.",
            )
    return choices, answer


def _by_number(answer: ClassName, choices: list[Any]) -> str | int:
    """A class's name where the choices are the names of the classes; else its number says which choice it is (MMLU's A to D)."""
    texts = [choice for choice in choices if isinstance(choice, str)]
    if set(texts) <= set(answer.names) or set(answer.names) <= set(texts):
        return str(answer)
    number = answer.number
    return choices[number] if number < len(choices) else number  # its text, as a number could be the text of another choice


def from_messages(messages: Any, place: str) -> tuple[str, str]:
    """Prompt and response of a chat: the response is the last assistant message, the prompt everything before it.

    A single user turn is its content alone. Several turns (or a system message) are joined as
    ``System: …\\n\\nUser: …\\n\\nAssistant: …\\n\\nUser: …``. Turns after the last assistant message are not part of the example.
    A turn is {role, content} or ShareGPT's {from, value}; messages may also be a JSON text of them. BadRow where a turn holds more than
    text, or where the response has weight 0, which says that it is not to be trained on.
    """
    if isinstance(messages, str):
        with suppress(ValueError, RecursionError):
            messages = json.loads(messages)
    if isinstance(messages, dict) and messages and all(isinstance(values, list) for values in messages.values()):
        messages = [
            dict(zip(messages, turn, strict=False)) for turn in zip(*messages.values(), strict=False)
        ]  # columns, as datasets had it
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise BadRow(place, "whose messages are no turns", "messages must be a list of {role, content} with both of them text.")
    turns = [_turn(turn, number, place) for number, turn in enumerate(messages, start=1)]
    if not any(role == "assistant" for role, _ in turns):
        turns = [(ROLES.get(role.lower(), role.lower()), content) for role, content in turns]
    last = max((i for i, (role, _) in enumerate(turns) if role == "assistant"), default=None)
    if last is None:
        raise BadRow(place, "without an assistant turn", "messages hold no assistant turn, so the row has no response.")
    _note_turns(messages[: last + 1], place)
    before, response = turns[:last], turns[last][1]
    if last + 1 < len(turns):
        note(OTHERWISE, "turns after the last answer are left out", place)
    if sum(role != "system" for role, _ in before) > 1:
        note(
            OTHERWISE,
            "conversations of several turns: earlier ones are pasted into the prompt as text, the last answer is trained on",
            place,
        )
    if [role for role, _ in before] == ["user"]:
        return before[0][1], response
    return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in before), response


def _turn(turn: Mapping[str, Any], number: int, place: str) -> tuple[str, str]:
    """Role and content."""
    role = turn["role"] if "role" in turn else turn.get("from")
    content = turn["content"] if "content" in turn else turn.get("value")
    if isinstance(content, list) and content:
        parts = [part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else part for part in content]
        if not all(isinstance(part, str) for part in parts):
            kinds = sorted({str(part.get("type")) for part in parts if isinstance(part, dict)} - {"text"})
            raise BadRow(
                place,
                "with a turn that holds more than text",
                f"turn {number} ({role}) holds {', '.join(kinds) or 'parts'} beside text, which cannot be read.",
            )
        content = "".join(map(str, parts))
    if isinstance(role, str) and isinstance(content, str):
        return role, content
    if isinstance(role, str) and content is None:
        calls = next((f"but {name}, which cannot be written as text yet" for name in ("tool_calls", "function_call") if turn.get(name)), "")
        why = "with tool calls" if calls else "with a turn without content"
        said = f"turn {number} ({role}) has no content{', ' if calls else ''}{calls}; messages must be a list of {{role, content}} with "
        raise BadRow(place, why, f"{said}both of them text.")
    raise BadRow(place, "whose messages are no turns", "messages must be a list of {role, content} with both of them text.")


def _note_turns(turns: Sequence[Mapping[str, Any]], place: str) -> None:
    """What turns say beside their text is counted; a weight of 0 on the response is refused."""
    weight = turns[-1].get("weight")
    if type(weight) in (int, float, bool) and weight == 0:
        raise BadRow(
            place, "whose answer has weight 0", "its last assistant turn has weight 0, which says that it is not to be trained on."
        )
    names = {name for turn in turns for name, value in turn.items() if name not in TURN and value not in (None, "", [], {})}
    if "weight" in names and all(
        turn.get("weight") in (None, 1) for turn in turns if turn.get("role", turn.get("from")) in ("assistant", "gpt")
    ):
        names.remove("weight")  # the response counts whole, which is what happens
    for name in names:
        note(UNREAD, f"{name} of turns", place)


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
