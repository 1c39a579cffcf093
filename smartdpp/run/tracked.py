"""Mirroring a finished run is work of its own: tracked.json, written last, says where a run's result was
mirrored to.

So what a kill or a failure prevented is made up for when the command is given again, and another tracker,
mode or project gets the run without anything of it being done anew.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.logs.redact import redacted
from smartdpp.store import remote
from smartdpp.store.disk import file_hash, read_json, write_json

if TYPE_CHECKING:
    from smartdpp.types import Tracker

log = logging.getLogger(__name__)


def missing(run: Path, tracker: Tracker) -> bool:
    """Whether the run's result is not yet where this tracker mirrors to."""
    place = _place(tracker)
    return place is not None and place not in places(run)


def places(run: Path) -> list[dict[str, Any]]:
    """Where the run's result was mirrored to. A result that was made again since then is nowhere."""
    file = run / remote.TRACKED
    try:
        record = read_json(file)
        return list(record["places"]) if record["result"] == file_hash(run / remote.RESULT) else []
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: it is mirrored once more
        return []


def mirror(run: Path, tracker: Tracker) -> bool:
    """Mirrors the run's result and records that; returns whether it is there now. For the holder of the run's
    lock.

    What a tracker raises is told and loses nothing: the run's own files are complete.
    """
    if (place := _place(tracker)) is None:
        return False
    said = ", ".join(str(value) for value in place.values() if value)
    try:
        there = tracker.log(run)
    except Exception as error:
        log.debug("%s", run, exc_info=True)
        log.warning(
            "not mirrored to %s (%s: %s). The results are complete; the same command tries again, and so "
            "does python -m smartdpp.track %s",
            *(said, type(error).__name__, " ".join(str(error).split()), remote.shown(run)),
        )
        return False
    if there:
        remote.send(run, remote.RESULT)  # all of it lies there before it is said to
        others = [other for other in places(run) if other != place]
        write_json(
            run / remote.TRACKED, {"result": file_hash(run / remote.RESULT), "places": [*others, place]}
        )
        log.info("%-17s%s", "mirrored", said)
    return there


def _place(tracker: Tracker) -> dict[str, Any] | None:
    place = tracker.place()
    return None if place is None else redacted(place)
