"""The text that a judge is asked with: a file of yours, or the one beside this module."""

from __future__ import annotations

import re
from pathlib import Path

from smartdpp.errors import InputError
from smartdpp.types import Question

PLACES = ("instruction", "first", "second")
OURS = Path(__file__).parent / "template.txt"


def read(path: str | None) -> str:
    """The template's text. InputError where it cannot be read or lacks a place."""
    file = Path(path).expanduser() if path else OURS
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(f"evaluation.judge.template={path}: it cannot be read ({said})") from None
    if lacking := [f"{{{name}}}" for name in PLACES if f"{{{name}}}" not in text]:
        raise InputError(
            f"evaluation.judge.template={path}: it has no {', '.join(lacking)}, where the instruction and "
            "the two answers are put"
        )
    return text.strip()


def problems(path: str | None) -> list[str]:
    try:
        read(path)
    except InputError as error:
        return [str(error)]
    return []


def filled(template: str, instruction: str, first: str, second: str) -> str:
    """All places at once, so that ``{second}`` inside an answer stays what it is."""
    texts = dict(zip(PLACES, (instruction, first, second), strict=True))
    return re.sub(r"\{(instruction|first|second)\}", lambda found: texts[found[1]], template)


def both_orders(template: str, question: Question) -> tuple[str, str]:
    """The question with the model's answer shown first, and shown second."""
    instruction, answer, reference = question
    return filled(template, instruction, answer, reference), filled(template, instruction, reference, answer)
