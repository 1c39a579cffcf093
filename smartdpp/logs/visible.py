"""Text of the data as people can be shown it: control characters (NUL, escape sequences of terminals) as
their codes.

XML forbids most of them, HTML replaces some and a terminal obeys others.
"""

from __future__ import annotations

import re

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")  # all but tab and line feed


def visible(text: str) -> str:
    """The text with its control characters spelled as ``\\x00``; tabs and line feeds stay."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def one_line(text: str) -> str:
    """As `visible`, with line feeds and tabs spelled too: for a name in a table, a log line or an axis."""
    return visible(text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r"))
