"""The figures of a run and of a study.

One figure, one statement. Every axis names its unit and every title or legend its n; each figure has a text
that says it in words, and each point a text for the mouse.
"""

from pathlib import Path

from smartdpp.figures.drawing import Drawing
from smartdpp.figures.one_run import of_run
from smartdpp.figures.study import of_study
from smartdpp.figures.style import BLUE, COLORS, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, VERMILION

__all__ = [
    "BLUE",
    "COLORS",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "SKY",
    "STYLE",
    "VERMILION",
    "Drawing",
    "of_run",
    "of_study",
    "run_figures",
]


def run_figures(run: Path, out: Path | None = None) -> list[Path]:
    """Draws one run into ``out`` (run/figures/): task shares, loss per held-out task, and the diversity curve
    where one was measured.

    A figure whose artifact is not there is left out; what was drawn is returned.
    """
    return [drawing.png(out or run / "figures") for drawing in of_run(run)]
