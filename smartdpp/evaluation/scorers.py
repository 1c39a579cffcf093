"""What reasoning-gym itself says of an answer to one of its rows: partial credit, and other answers that are
right too.

A row's id says which example it is (``family/seed-i``), so the example is made again with all that its scorer
looks at. Where that gives another question (the corpus has settings of its own), the row's text alone is
given to the scorer. Either way a scorer counts only if it calls the row's own response right.
"""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from functools import lru_cache
from typing import Any

from smartdpp.corpus.procedural import FAMILIES, SETTINGS
from smartdpp.types import Row

SOURCE = "reasoning-gym "
ID = re.compile(r"(?:target/)?(\w+)/(\d+)-(\d+)")
ARITHMETIC = re.compile(r"(?!.*\*\s*\*)[\d\s+\-*/().]*", re.DOTALL)
SIZE = 100_000  # of a generator, some of which refuse an index beyond it; no example depends on it
HUGE = re.compile(r"[eE][+-]?\d{4}")  # a number whose digits would fill the memory


def task_score(row: Row, text: str) -> float | None:
    """From 0 to 1; None for a row of which no scorer is known."""
    match = ID.fullmatch(row["id"]) if (row.get("source") or "").startswith(SOURCE) else None
    # other families may run an answer as Python
    if match is None or match[1] not in FAMILIES:
        return None
    family, seed, i = match[1], int(match[2]), int(match[3])
    if i >= SIZE:
        return None
    entry = _example(family, seed, i)
    if entry["question"].strip() != row["prompt"]:
        entry = {"question": row["prompt"], "answer": row["response"], "metadata": {}}
    if str(entry["answer"]) != row["response"] or _scored(family, seed, row["response"], entry) != 1:
        return None
    return _scored(family, seed, text, entry)


@lru_cache
def _generator(family: str, seed: int) -> Any:
    import reasoning_gym

    settings = SETTINGS.get(family, {})
    return reasoning_gym.create_dataset(family, **settings, seed=seed * 1_000_000, size=SIZE)


def _example(family: str, seed: int, i: int) -> dict[str, Any]:
    with redirect_stdout(io.StringIO()):  # bf's compiler prints a dot per program
        return dict(_generator(family, seed)[i])


def _scored(family: str, seed: int, text: str, entry: dict[str, Any]) -> float:
    """0 for what the scorer cannot read. Countdown's hands an answer to sympy, which runs it as Python:
    nothing but arithmetic gets there."""
    text = text.strip()
    if HUGE.search(text) or (family == "countdown" and not ARITHMETIC.fullmatch(text)):
        text = ""
    try:
        return float(_generator(family, seed).score_answer(text, entry))
    except Exception:  # of any kind: some scorers read an answer as a number without looking
        return 0.0
