"""A figure with the words that belong to it: a text for readers who do not see it, and one for each point
under the mouse.

The same figure becomes a PNG for Markdown and slides, and an SVG to stand inside an HTML page.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from smartdpp.figures.style import style
from smartdpp.logs.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
POINT = "point"  # the class of what has a text under the mouse


@dataclass(frozen=True)
class Drawing:
    name: str  # of its file, without the ending
    alt: str  # what the figure shows, for those who do not see it
    figure: Figure
    hover: dict[str, str] = field(default_factory=dict)  # an artist's gid to what is said of it

    def png(self, folder: Path) -> Path:
        """Writes the figure at 150 dots per inch."""
        path = folder / f"{self.name}.png"
        folder.mkdir(parents=True, exist_ok=True)
        with style():
            self.figure.savefig(path, dpi=150, metadata={"Software": None})
        return path

    def svg(self) -> str:
        """The figure as an element for an HTML page: ids of its own, no styles that reach beyond it, texts as
        <title>."""
        buffer = io.StringIO()
        with style():
            self.figure.savefig(
                buffer, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
            )
        ElementTree.register_namespace("", SVG)
        ElementTree.register_namespace("xlink", XLINK)
        root = ElementTree.fromstring(visible(buffer.getvalue()))
        for parent in list(root.iter()):
            for child in list(parent):
                if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                    parent.remove(child)
        self._name_points(root)
        self._own_ids(root)
        root.attrib.pop("height")
        width = float(root.attrib.pop("width").removesuffix("pt"))
        # as wide as there is room for, and never too small to read: a narrow window scrolls inside the figure
        root.set("style", f"width: 100%; min-width: {0.62 * width:.0f}px; max-width: {1.2 * width:.0f}px")
        root.set("role", "img")
        root.set("aria-label", visible(self.alt))
        return ElementTree.tostring(root, encoding="unicode")

    def _name_points(self, root: ElementTree.Element) -> None:
        for element in root.iter(f"{{{SVG}}}g"):
            if text := self.hover.get(element.get("id", "")):
                title = ElementTree.Element(f"{{{SVG}}}title")
                title.text = visible(text)
                element.insert(0, title)
                element.set("class", POINT)
                element.set("tabindex", "0")

    def _own_ids(self, root: ElementTree.Element) -> None:
        """Several figures share a page: what is referred to gets the figure's name before its id, the other
        ids go."""
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', ElementTree.tostring(root, encoding="unicode")))
        for element in root.iter():
            for name, value in list(element.attrib.items()):
                if name == "id":
                    if value in used:
                        element.set(name, f"{self.name}-{value}")
                    else:
                        del element.attrib[name]
                elif name == f"{{{XLINK}}}href":
                    element.set(name, f"#{self.name}-{value.removeprefix('#')}")
                elif "url(#" in value:
                    element.set(name, value.replace("url(#", f"url(#{self.name}-"))


class Hover:
    """Hands out gids and keeps what is to be said of them."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def __call__(self, *lines: str) -> str:
        gid = f"hover-{len(self.texts)}"
        self.texts[gid] = "\n".join(line for line in lines if line)
        return gid
