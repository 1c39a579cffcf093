"""``smartdpp export RUN_OR_MIXTURE --as FORM OUT``: a mixture as a folder that trainers load as it is.

    smartdpp export runs/smart-minilm-b230-s0-22238c00 --as messages chosen/
    python -m smartdpp.export store/mixture/b58cc407... --as jsonl chosen/ --with rank,gain,task,reason

FORM is jsonl or parquet (the records as they came, all their fields), alpaca, sharegpt or messages. OUT gets
train.jsonl (or train.parquet), a dataset_info.json for LLaMA-Factory, and a README.md that says how datasets,
TRL, LLaMA-Factory, axolotl and open-instruct read it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smartdpp.corpus import files, originals
from smartdpp.errors import InputError
from smartdpp.export.card import card, dataset_info, shape
from smartdpp.export.rows import FORMS, shaped
from smartdpp.logs.terminal import streams
from smartdpp.run.folder import artifacts
from smartdpp.store.disk import read_json, write_text

BESIDE = ("rank", "gain", "task", "reason")


def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="smartdpp export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mixture", help="a run's folder, or a mixture's in store/")
    parser.add_argument("out", help="a folder that is not there yet")
    parser.add_argument("--as", dest="form", choices=FORMS, default="jsonl")
    parser.add_argument(
        "--with",
        dest="beside",
        default="",
        metavar="FIELDS",
        help=f"of {','.join(BESIDE)}, each as smartdpp_FIELD",
    )
    streams()
    given = parser.parse_args(argv)
    try:
        beside = [name for name in given.beside.split(",") if name]
        n = export(Path(given.mixture).expanduser(), given.form, Path(given.out).expanduser(), beside)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{n} rows written to {given.out}; its README.md says how trainers read it")
    return 0


def export(mixture: Path, form: str, out: Path, beside: Sequence[str] = ()) -> int:
    """Writes the folder and returns how many rows it has. InputError says what is wrong before anything is
    written."""
    if unknown := [name for name in beside if name not in BESIDE]:
        raise InputError(f"--with {','.join(unknown)}: choose of {', '.join(BESIDE)}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already: name a folder that is not, or is empty.")
    folder = _mixture(mixture)
    lines = [json.loads(line) for line in (folder / "mixture.jsonl").open(encoding="utf-8")]
    kept = originals.found(folder) if form in ("jsonl", "parquet") else None
    rows = shaped(form, lines, None if kept is None else _records(kept))
    strategy = str(read_json(folder / "meta.json")["params"]["strategy"].get("_target_", "")).rpartition(".")[
        2
    ]
    for row, line, extra in zip(rows, lines, _beside(lines, strategy), strict=True):
        row |= {f"smartdpp_{name}": extra[name] if name == "reason" else line[name] for name in beside}
    data = out / ("train.parquet" if form == "parquet" else "train.jsonl")
    out.mkdir(parents=True, exist_ok=True)
    types = originals.schema(str(kept)) if kept and (kept.suffix, form) == (".parquet", "parquet") else None
    try:
        originals.write(rows, data, types)
    except InputError:
        out.rmdir()
        raise
    of = shape(rows)
    write_text(out / "dataset_info.json", json.dumps(dataset_info(data.name, of), indent=2) + "\n")
    write_text(out / "README.md", card(data.name, of, len(rows), strategy))
    return len(rows)


def _mixture(path: Path) -> Path:
    """The folder of a mixture, or of a run's."""
    if (path / "artifacts.json").is_file():
        path = artifacts(path).get("mixture", path)
    if not (path / "mixture.jsonl").is_file() or not (path / "meta.json").is_file():
        raise InputError(
            f"{path}: this is neither a run that has chosen its mixture nor a mixture; name runs/NAME or "
            "store/mixture/KEY."
        )
    return path


def _records(path: Path) -> list[dict[str, Any]]:
    return [
        dict(record)
        for _, record in files.opened(path, originals.LONGEST * 64)[1]
        if not isinstance(record, files.BadRow)
    ]


def _beside(lines: Sequence[dict[str, Any]], strategy: str) -> list[dict[str, Any]]:
    """Why each was chosen, in a sentence."""
    of_task: dict[str, int] = {}
    found = []
    for line in lines:
        task = line["task"]
        of_task[task] = of_task.get(task, 0) + 1
        why = f"{strategy}: pick {line['rank'] + 1}, {of_task[task]} of task {task}, gain {line['gain']:.4g}"
        found.append({"reason": why})
    return found
