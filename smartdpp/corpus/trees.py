"""Trees of replies, as OpenAssistant's: of each tree the conversation that follows the best-ranked reply.

A tree is a record with its ``replies`` inside of it (or under ``prompt``, as it is exported), or one record a
message, which says whose reply it is. Of several replies that with the smallest ``rank`` is taken, the first
where none is ranked; deleted ones are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from smartdpp.corpus.notes import OTHERWISE, note
from smartdpp.errors import InputError

Record = Mapping[str, Any]
FLAT = {"message_id", "parent_id", "text", "role"}
TREE = "trees of replies: the best-ranked path of each is its conversation"
WITHOUT = "trees without an answer are left out"
ORPHANS = "replies to a message that the file does not hold are left out"
ASIDE = ("replies", "text", "role", "prompt", "rank", "parent_id", "deleted")


def root_of(record: Record) -> Record | None:
    """The first message of the tree that a record is; None where it is no tree."""
    inside = record.get("prompt")
    root = inside if isinstance(inside, dict) else record
    return root if isinstance(root.get("replies"), list) and isinstance(root.get("text"), str) else None


def conversation(record: Record, root: Record, place: str) -> Record | None:
    """The record with ``messages`` in place of its tree; None where nobody answered, which is noted."""
    turns, message = list[dict[str, Any]](), root
    while message:
        turns.append({"role": message.get("role"), "content": message.get("text")})
        replies = message.get("replies")
        there = [
            reply
            for reply in (replies if isinstance(replies, list) else [])
            if isinstance(reply, dict) and not reply.get("deleted")
        ]
        message = min(there, key=_rank, default={})
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    if not turns:
        note(OTHERWISE, WITHOUT, place)
        return None
    note(OTHERWISE, TREE, place)
    identity = (
        record.get("id")
        or root.get("message_tree_id")
        or record.get("message_tree_id")
        or root.get("message_id")
    )
    return {name: value for name, value in record.items() if name not in ASIDE} | {
        "id": identity,
        "messages": turns,
    }


def _rank(reply: Record) -> float:
    """Also of digits in a text; what is no number ranks as nothing does, last."""
    try:
        rank = float(reply.get("rank"))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.inf
    return math.inf if math.isnan(rank) else rank


def is_flat(record: Any) -> bool:
    """Whether it is one message of a tree that comes as a record a message."""
    return isinstance(record, Mapping) and set(record) >= FLAT and "replies" not in record


def grown(records: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The records; where they are the messages of trees, the trees, for which all of a file's are held in
    memory."""
    records = iter(records)
    first = next(records, None)
    if first is None:
        return
    again = chain([first], records)
    if not is_flat(first[1]):
        yield from again
        return
    messages: dict[Any, tuple[str, dict[str, Any]]] = {}
    for place, record in again:
        if not isinstance(record, Mapping):
            yield place, record  # what is wrong with it
        elif (name := _name(record.get("message_id"))) in messages:
            before, _ = messages[name]
            raise InputError(f"{place}: the message_id {str(name)[:80]!r} comes twice: {before}.")
        else:
            messages[name] = place, {**record, "replies": []}
    roots = []
    for place, message in messages.values():
        above = _name(message.get("parent_id"))
        if above is None:
            roots.append((place, message))
        elif above in messages:
            messages[above][1]["replies"].append(message)
        else:
            note(OTHERWISE, ORPHANS, place)
    yield from roots


def _name(given: Any) -> Any:
    """What a message is found by: also a list or an object, which no dictionary takes as a key. NaN is what
    pandas writes where nothing was."""
    try:
        hash(given)
    except TypeError:
        return repr(given)
    return None if given != given else given
