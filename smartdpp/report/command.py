"""The command line: run folders, or a study's YAML, to a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from smartdpp.errors import InputError
from smartdpp.logs.terminal import streams
from smartdpp.report import arena
from smartdpp.report.compose import write
from smartdpp.store.disk import DISK_ERRORS
from smartdpp.store.remote import address, folder
from smartdpp.study.cells import Cell, Wanted, cells, state, wanted
from smartdpp.study.results import run_folders
from smartdpp.study.settings import short
from smartdpp.track import Wandb

YAML = (".yaml", ".yml")
Made = TypeVar("Made")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m smartdpp.report", description="Tables and figures of finished runs."
    )
    parser.add_argument(
        "what",
        nargs="+",
        help="run folders, or addresses of them; or a study's YAML and the overrides it was run with; or "
        "several such studies, side by side",
    )
    parser.add_argument("--out", type=Path, help="folder to write into")
    parser.add_argument(
        "--earlier",
        type=Path,
        metavar="FOLDER",
        help="a report of studies side by side, made elsewhere: its settings that have no world here stay",
    )
    parser.add_argument(
        "--wandb",
        choices=["offline", "online"],
        help="mirror the report to Weights & Biases, in the study's group",
    )
    streams()
    args = parser.parse_intermixed_args(argv)
    args.out, args.earlier = (path and path.expanduser() for path in (args.out, args.earlier))
    try:
        if args.earlier and not _studies(args.what):
            raise InputError("--earlier is for studies side by side: give the YAML of one at least")
        if len(studies := _studies(args.what)) > 1 or args.earlier:
            if args.wandb:
                raise InputError("--wandb mirrors one study's report; give one study")
            several = [
                arena.Study(name, wanted(path, overrides), cells(path, overrides))
                for name, (path, overrides) in zip(_distinct(studies), studies, strict=True)
            ]
            out = args.out or studies[0][0].parent / "results" / "arena"
            text, files = _written(lambda: arena.write(several, out, args.earlier), out)
            print(text)
            print(f"\nwritten into {out}: {', '.join(file.name for file in files)}")
            return 0
        if studies and ("=" in args.what[0] or Path(args.what[0]).suffix in YAML):
            ((study, overrides),) = studies
            report, found, name = wanted(study, overrides), cells(study, overrides), study.stem
            out = args.out or study.parent / "results" / study.stem
        else:
            runs = run_folders([folder(what) for what in args.what])
            found = [Cell((run.name,), run, *state(run)) for run in runs]
            name = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
            report = Wanted(title=name)
            out = args.out or (
                runs[0] / "report" if len(runs) == 1 and address(runs[0]) is None else Path("report")
            )
        text, files, made = _written(lambda: write(found, report, out), out)
        if args.wandb:
            Wandb(mode=args.wandb).log_report(name, made, out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text)
    print(f"\nwritten into {out}: {', '.join(file.name for file in files)}")
    return 0


def _studies(what: Sequence[str]) -> list[tuple[Path, list[str]]]:
    """Each study's YAML with its overrides: those in front of the first one are all studies'."""
    of_all: list[str] = []
    found: list[tuple[Path, list[str]]] = []
    for word in what:
        if "=" not in word and Path(word).suffix in YAML:
            found.append((Path(word).expanduser(), list(of_all)))
        else:
            (found[-1][1] if found else of_all).append(word)
    return found


def _distinct(studies: Sequence[tuple[Path, list[str]]]) -> list[str]:
    """The studies' names; of one that is there several times with what each of its mentions sets otherwise.
    Where that does not tell them apart, with all single values that they have not in common, and then with
    lists too."""
    ways: list[list[str]] = [[], [], []]
    for path, overrides in studies:
        others = [more for there, more in studies if there.stem == path.stem and more is not overrides]
        own = [word for word in overrides if not all(word in more for more in others)]
        by_all = [word for word in own if all(_key(word) in map(_key, more) for more in others)]
        single = [word for word in own if "," not in word]
        for names, words in zip(ways, (by_all, single, own), strict=True):
            names.append(", ".join([path.stem, *map(_told, words)]))
    return next((names for names in ways if len(set(names)) == len(names)), ways[-1])


def _told(override: str) -> str:
    key, _, value = override.partition("=")
    return f"{short(key)} {value}"


def _key(override: str) -> str:
    return override.partition("=")[0]


def _written(write: Callable[[], Made], out: Path) -> Made:
    """What ``write`` returns; a folder that cannot be written into is one sentence."""
    try:
        return write()
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise InputError(
            f"cannot write {error.filename or out}: {error.strerror}. Choose another folder with --out PATH"
        ) from error
