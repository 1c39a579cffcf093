"""A report as one HTML page: style, script and figures are inside it, and it asks for nothing.

The template escapes all it is given. The page's own policy lets it load nothing and run no script but its
own, known by its hash: a prompt that holds a script is shown, not run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

from smartdpp.logs.visible import visible
from smartdpp.report.content import Block, Fold, Picture, Report, Table


def render(report: Report) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = files("smartdpp.report")
    script, style = ((here / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((here / "page.html.j2").read_text(encoding="utf-8"))
    html = template.render(
        report=report,
        cells=sum(report.states.values()),
        anchors=[re.sub(r"\W+", "-", section.title.lower()).strip("-") for section in report.sections],
        kind=_kind,
        svg=lambda picture: Markup(picture.drawing.svg()),  # made by an XML writer, which escapes
        rows=_rows,
        script=Markup(script),
        style=Markup(style),
        policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{sha}'",
    )
    return visible(html)


def _kind(block: Block) -> str:
    match block:
        case Table(frame=frame) if frame.empty:
            return "nothing"
        case Table():
            return "table"
        case Picture():
            return "picture"
        case Fold():
            return "fold"
        case _:
            return "text"


def _rows(table: Table) -> list[dict[str, Any]]:
    return [
        {"quiet": i in table.quiet, "cells": list(zip(table.frame.columns, row, strict=True))}
        for i, row in enumerate(table.frame.astype(str).itertuples(index=False))
    ]
