"""The report of a run, of several, or of a study, from the files that runs leave: also while a sweep still
runs.

    python -m smartdpp.report runs/A [runs/B ...]                        runs, or folders of runs
    python -m smartdpp.report experiments/quickstart.yaml [key=value ...] a study; overrides as given to
    run.py
    python -m smartdpp.report experiments/needle.yaml experiments/skew.yaml   several, side by side

It writes report.html (one file, opens offline), report.md, results.csv (one flat row per finished run),
tasks.csv (one row per run and task of the pool) and the figures as PNG. Sections say what they are made of;
what a study's cells do not support has no section.
"""

from smartdpp.report.command import main
from smartdpp.report.compose import write

__all__ = ["main", "write"]
