"""The one error a user's input can cause, and the one that asks for another try."""


class InputError(ValueError):
    """Something the user can mend: what was wrong, where, and what would be right.

    Raised before any work that the mistake would waste. The command line prints the message alone, without a
    traceback.
    """


class NotFinite(InputError):
    """A model gives numbers that are NaN or infinite."""


class Diverged(InputError):
    """A training after which the model's numbers are NaN or infinite. Its cell is `diverged` in a report, by
    this name in error.txt."""


class Shrunk(RuntimeError):
    """A cluster has lost a machine for good and with it the room for what was spread over it; fewer pieces
    may fit."""
