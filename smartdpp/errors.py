"""The one error a user's input can cause, and the one that asks for another try."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something the user can mend: what was wrong, where, and what would be right.

    Raised before any work that the mistake would waste. The command line prints the message alone, without a
    traceback.
    """


def did_you_mean(
    wanted: str | list[str], known: Iterable[str], otherwise: str | None = None, most: int = 1
) -> str:
    """How a message about names that are not known ends: with up to ``most`` for each that are spelled alike,
    or if there are none with ``otherwise``, by default all that are known."""
    known = list(known)
    names = [wanted] if isinstance(wanted, str) else wanted
    close = dict.fromkeys(match for name in names for match in get_close_matches(name, known, most))
    if close:
        return f"did you mean {' or '.join(close)}?"
    return otherwise or f"choose one of {', '.join(known)}"


class NotFinite(InputError):
    """A model gives numbers that are NaN or infinite."""


class Diverged(InputError):
    """A training after which the model's numbers are NaN or infinite. Its cell is `diverged` in a report, by
    this name in error.txt."""


class Shrunk(RuntimeError):
    """A cluster has lost a machine for good and with it the room for what was spread over it; fewer pieces
    may fit."""
