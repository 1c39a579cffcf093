"""The command line: run folders, or a study's YAML, to a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from smartdpp.errors import InputError
from smartdpp.logs.terminal import streams
from smartdpp.report.compose import write
from smartdpp.store.disk import DISK_ERRORS
from smartdpp.store.remote import address, folder
from smartdpp.study.cells import Cell, Wanted, cells, state, wanted
from smartdpp.study.results import run_folders
from smartdpp.track import Wandb


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m smartdpp.report", description="Tables and figures of finished runs."
    )
    parser.add_argument(
        "what",
        nargs="+",
        help="run folders, or addresses of them; or a study's YAML and the overrides it was run with",
    )
    parser.add_argument("--out", type=Path, help="folder to write into")
    parser.add_argument(
        "--wandb",
        choices=["offline", "online"],
        help="mirror the report to Weights & Biases, in the study's group",
    )
    streams()
    args = parser.parse_intermixed_args(argv)
    if args.out:
        args.out = args.out.expanduser()
    try:
        if Path(args.what[0]).suffix in (".yaml", ".yml"):
            study = Path(args.what[0]).expanduser()
            report, found, name = wanted(study, args.what[1:]), cells(study, args.what[1:]), study.stem
            out = args.out or study.parent / "results" / study.stem
        else:
            runs = run_folders([folder(what) for what in args.what])
            found = [Cell((run.name,), run, *state(run)) for run in runs]
            name = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
            report = Wanted(title=name)
            out = args.out or (
                runs[0] / "report" if len(runs) == 1 and address(runs[0]) is None else Path("report")
            )
        try:
            text, files, made = write(found, report, out)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise InputError(
                f"cannot write {error.filename or out}: {error.strerror}. Choose another folder with --out "
                "PATH"
            ) from error
        if args.wandb:
            Wandb(mode=args.wandb).log_report(name, made, out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text)
    print(f"\nwritten into {out}: {', '.join(file.name for file in files)}")
    return 0
