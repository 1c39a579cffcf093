"""What a report consists of, said once and written twice: as Markdown and as an HTML page.

Cells of tables and texts are plain strings that may hold data (task names, prompts, messages): whoever writes
them out escapes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from smartdpp.figures import Drawing

NUMBER, ABSENT = re.compile(r"[-+]?\.?\d"), re.compile(r"(not available)?$")


def _all_numbers(cells: Iterable[str]) -> bool:
    found = {bool(NUMBER.match(cell)) for cell in cells if not ABSENT.match(cell)}
    return found == {True}


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Table:
    """Strings only. A column whose cells all begin with a number sorts as numbers."""

    frame: pd.DataFrame
    marked: tuple[str, ...] = ()  # columns that are not ours: the paper's numbers
    quiet: tuple[int, ...] = ()  # rows, by position, to compare with rather than results: the base model's

    def numeric(self, column: str) -> bool:
        return column in self._numeric

    @cached_property
    def _numeric(self) -> frozenset[str]:
        """The columns of numbers, found once: every cell is written by it."""
        return frozenset(name for name in self.frame if _all_numbers(map(str, self.frame[name])))


@dataclass(frozen=True)
class Picture:
    drawing: Drawing
    caption: str = ""


@dataclass(frozen=True)
class Fold:
    """Blocks under a heading that opens and closes."""

    title: str
    blocks: tuple[Text | Table | Picture, ...]


Block = Text | Table | Picture | Fold


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]
    brief: bool = True  # also printed in the terminal


@dataclass(frozen=True)
class Card:
    """One number of the first screen."""

    heading: str
    value: str
    about: str


@dataclass(frozen=True)
class Report:
    title: str
    question: str
    facts: dict[str, str]  # what holds for all runs: model, corpus, machine
    cards: tuple[Card, ...]
    states: dict[str, int]  # state to number of cells
    sections: tuple[Section, ...]

    def tables(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Every table that has rows, by the titles above it; with a number where several share them."""
        for section in self.sections:
            yield from _tables(section.title, section.blocks)

    def drawings(self) -> Iterator[tuple[str, Drawing]]:
        """Every figure, by the titles above it and its own name."""
        for section in self.sections:
            yield from _drawings(section.title, section.blocks)


def _tables(title: str, blocks: tuple[Block, ...]) -> Iterator[tuple[str, pd.DataFrame]]:
    found = 0
    for block in blocks:
        if isinstance(block, Fold):
            yield from _tables(f"{title}/{block.title}", block.blocks)
        elif isinstance(block, Table) and len(block.frame):
            found += 1
            yield f"{title}/table" + (f" {found}" if found > 1 else ""), block.frame


def _drawings(title: str, blocks: tuple[Block, ...]) -> Iterator[tuple[str, Drawing]]:
    for block in blocks:
        if isinstance(block, Fold):
            yield from _drawings(f"{title}/{block.title}", block.blocks)
        elif isinstance(block, Picture):
            yield f"{title}/{block.drawing.name}", block.drawing
