"""A report as Markdown: for the terminal, for a repository's pages, for a diff."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from smartdpp.logs.visible import visible
from smartdpp.report.content import Block, Fold, Picture, Report, Section, Table, Text


def render(report: Report) -> str:
    return _document(report, report.sections) + "\n"


def brief(report: Report) -> str:
    """What the terminal shows: no figures, no long tables."""
    shown = [
        Section(s.title, tuple(b for b in s.blocks if isinstance(b, (Text, Table))))
        for s in report.sections
        if s.brief
    ]
    return _document(report, [section for section in shown if section.blocks])


def _document(report: Report, sections: Iterable[Section]) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in report.facts.items())
    head = [f"# {literal(report.title)}", literal(report.question), facts]
    body = (
        text for s in sections for text in (f"## {literal(s.title)}", *(_block(block) for block in s.blocks))
    )
    return "\n\n".join(text for text in (*head, *body) if text)


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return literal(text)
        case Table(frame=frame):
            return table(block) if len(frame) else ""
        case Picture(drawing, caption):
            picture = f"![{literal(drawing.alt)}]({drawing.name}.png)"
            return f"{picture}\n\n{literal(caption)}" if caption else picture
        case Fold(title, blocks):
            return "\n\n".join([f"### {literal(title)}", *(_block(inner) for inner in blocks)])


def table(block: Table) -> str:
    frame = block.frame

    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(literal(" ".join(str(cell).split())) for cell in cells) + " |"

    rule = "|" + "|".join("---:" if block.numeric(name) else "---" for name in frame) + "|"
    heads = [f"{name} (the paper's)" if name in block.marked else name for name in frame]
    return "\n".join([line(heads), rule, *(line(row) for row in frame.itertuples(index=False))])


def literal(text: str) -> str:
    """Data stays data: what Markdown would interpret is escaped."""
    return re.sub(r"([\\`*\[\]<>|!])", r"\\\1", visible(text))
