"""What a reading of a corpus took files for, passed over, left out or did not look at: counted, with the
first places of each.

A loader calls `note` wherever it does not keep something as it stands; whoever reads opens `noted` around it,
or nothing is collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from smartdpp.logs.visible import one_line

LEFT_OUT, UNREAD, OTHERWISE = "rows_left_out", "fields_not_read", "read_otherwise"
PLACES = {LEFT_OUT: 10, UNREAD: 5, OTHERWISE: 5}  # kept of each
KINDS = (LEFT_OUT, UNREAD, OTHERWISE)


@dataclass
class Notes:
    """Each: what, how often, and its first places."""

    files: dict[str, list[str]] = field(default_factory=dict)  # what files were taken for, by kind
    passed_over: dict[str, str] = field(default_factory=dict)  # files of a folder that were not read, and why
    counts: dict[str, dict[str, int]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    first: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    place: str = ""  # of the row that came last

    def record(self) -> dict[str, Any]:
        """For dropped.json."""
        return {
            "files": self.files,
            "passed_over": self.passed_over,
            **{
                kind: {
                    what: {"rows": n, "first": self.first[kind, what]} for what, n in sorted(counts.items())
                }
                for kind, counts in self.counts.items()
            },
        }

    def facts(self) -> dict[str, Any]:
        """For the stage's record: the same without places."""
        return {
            "files": {kind: len(files) for kind, files in self.files.items()},
            "passed_over": sorted(self.passed_over),
            **{kind: dict(sorted(counts.items())) for kind, counts in self.counts.items()},
        }


_collecting: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextmanager
def noted() -> Iterator[Notes]:
    """The notes of everything that is read meanwhile."""
    token = _collecting.set(Notes())
    try:
        yield _collecting.get()  # type: ignore[misc]
    finally:
        _collecting.reset(token)


def note(kind: str, what: str, place: str) -> None:
    if (notes := _collecting.get()) is None:
        return
    notes.counts[kind][what] = notes.counts[kind].get(what, 0) + 1
    if len(places := notes.first.setdefault((kind, what), [])) < PLACES[kind]:
        places.append(place)


def note_place(place: str) -> None:
    if (notes := _collecting.get()) is not None:
        notes.place = place


def note_file(kind: str, name: str) -> None:
    if (notes := _collecting.get()) is not None:
        notes.files.setdefault(kind, []).append(name)


def note_passed_over(name: str, why: str) -> None:
    if (notes := _collecting.get()) is not None:
        notes.passed_over[name] = why


def said(facts: dict[str, Any]) -> list[str]:
    """Sentences for the stage's line, from `Notes.facts`; empty where everything was read as it stands."""

    def some(names: list[str], most: int = 6) -> str:
        more = f" and {len(names) - most} more" if len(names) > most else ""
        return ", ".join(map(one_line, names[:most])) + more

    sentences = []
    if facts["files"]:
        kinds = [f"{kind}" if n == 1 else f"{n} files of {kind}" for kind, n in facts["files"].items()]
        sentences.append(f"taken for {' and '.join(kinds)}")
    if facts["passed_over"]:
        sentences.append(f"passed over {some(facts['passed_over'])}")
    if facts[LEFT_OUT]:
        reasons = ", ".join(f"{n} {what}" for what, n in facts[LEFT_OUT].items())
        sentences.append(
            f"{_rows(sum(facts[LEFT_OUT].values()))} left out as unreadable ({reasons}; first places in "
            "dropped.json)"
        )
    if facts[UNREAD]:
        sentences.append(
            f"fields not read: {some([f'{what} ({_rows(n)})' for what, n in facts[UNREAD].items()])}"
        )
    return sentences + [f"{_rows(n)}: {what}" for what, n in facts[OTHERWISE].items()]


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n} rows"
