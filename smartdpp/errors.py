"""The one error a user's input can cause."""


class InputError(ValueError):
    """Something the user can mend: what was wrong, where, and what would be right.

    Raised before any work that the mistake would waste. The command line prints the message alone, without a traceback.
    """
