"""Whether what a report reads of a run can be read, so that one damaged run is told and the others are
reported."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from smartdpp.metrics import METRICS, TOWARDS
from smartdpp.run.folder import artifacts
from smartdpp.store import disk, remote
from smartdpp.strategies.mixture import read_tasks

TEXTS = ("run", "strategy")
COUNTS = ("n", "seed", "select_seed", "train_seed")
# how keys begin whose values are numbers or null
NUMBERS = ("seconds/", "made_in/", "peak_gib/", "diversity_", "judge_", "score", *METRICS, *TOWARDS)


def damage(run: Path) -> str | None:
    """Why a finished run cannot be reported, in words with the file; what is gone from the store with its
    folder is no damage.

    Files are compared with their recorded hashes where they have one, and read where they have none. Of runs
    at an address only the files in the run's own folder are looked at, as the others are not here.
    """
    try:
        return of_run(run) or next((said for said in map(_of_artifact, *_lists(run)) if said), None)
    except OSError as error:
        return disk.unreadable(error, run)


def of_run(run: Path) -> str | None:
    """As ``damage``, of the files in the run's own folder. OSError for one that cannot be read."""
    import yaml

    row = disk.read_object(run / remote.RESULT)
    if isinstance(row, str):
        return row
    if said := _row(row):
        return f"{remote.RESULT}: {said}"
    if (listed := run / "artifacts.json").exists():
        paths = disk.read_object(listed)
        if isinstance(paths, str):
            return paths
        if not all(isinstance(path, str) for path in paths.values()):
            return "artifacts.json holds something else than paths"
    if (config := run / ".hydra" / "config.yaml").exists():
        try:
            text = config.read_text(encoding="utf-8")
            found = configuration(text)
            if not (isinstance(found, dict) and "strategy" in found and text.endswith("\n")):
                return ".hydra/config.yaml holds no configuration: it was cut or overwritten"
        except (yaml.YAMLError, ValueError, RecursionError):
            return ".hydra/config.yaml is no YAML: it was cut or overwritten"
    return None


@lru_cache(maxsize=1024)
def configuration(text: str) -> Any:
    """A run's config.yaml as plain values, for reading: a report looks at it twice, and YAML is slow."""
    import yaml

    return yaml.safe_load(text)


def _row(row: dict[str, Any]) -> str | None:
    def number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

    for names, kind, right in ((TEXTS, str, "a text"), (COUNTS, int, "a whole number")):
        for name in names:
            if not isinstance(row.get(name), kind) or isinstance(row[name], bool):
                return f"{name} is {_shown(row.get(name))}, not {right}"
    if row.get("budget") is not None and not number(row["budget"]):
        return f"budget is {_shown(row['budget'])}, not a number"
    others = str(row.get("evaluations")).split(",")  # whose columns begin with their names
    for name, value in row.items():
        of_measure = name.startswith("diversity_") and isinstance(value, bool)  # a column of numbers takes it
        if f"{name}/".partition("/")[0] in others:
            name = name.partition("/")[2]
        if (
            name.startswith(NUMBERS)
            and not name.endswith("_metric")
            and value is not None
            and not number(value)
            and not of_measure
        ):
            return f"{name} is {_shown(value)}, not a number"
    return None if "score" in row else "score is missing"


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:40]


def _lists(run: Path) -> tuple[list[str], list[Path]]:
    """The run's artifacts that are folders of this machine: their names, and where they lie."""
    found = {
        name: path for name, path in artifacts(run).items() if remote.address(path) is None and path.is_dir()
    }
    return list(found), list(found.values())


def _of_artifact(name: str, folder: Path) -> str | None:
    meta = disk.read_object(folder / disk.META) if (folder / disk.META).exists() else {}
    if isinstance(meta, str):
        return f"{folder}: {meta}"
    checks = CHECKS.get("embedding" if "embedding" in name else "mixture" if "mixture" in name else name, {})
    if isinstance(meta.get("files"), dict):
        # of X few rows are read
        read = {name: meta["files"][name] for name in checks if name in meta["files"] and name != "X.npy"}
        said = disk.damage(folder) or next(disk.changed(folder, read), None)
        return f"{folder}: {said}" if said else None
    for file, check in checks.items():
        if (path := folder / file).exists():
            try:
                sound = check(path)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, EOFError):
                sound = False
            if not sound:
                return f"{folder}: {file} is cut or overwritten"
    return None


def _tasks(path: Path) -> bool:
    tasks = read_tasks(path)
    return bool(len(tasks) and tasks["share"].map(math.isfinite).all())


def _diversity(path: Path) -> bool:
    measured = json.loads(path.read_bytes())
    return isinstance(measured, dict) and all(
        isinstance(value, (int, float)) for value in measured.get("curve") or []
    )


def _scores(path: Path) -> bool:
    scores = json.loads(path.read_bytes())
    numbers = [value for task in scores["tasks"].values() for value in (task["n"], *task.values())]
    return bool(scores["tasks"] and isinstance(scores["mean"], dict)) and all(
        v is None or isinstance(v, (int, float)) for v in numbers
    )


def _lines(path: Path) -> bool:
    with path.open(encoding="utf-8", newline="\n") as lines:
        return all(isinstance(json.loads(line)["task"], str) for line in lines)


def _some_lines(path: Path) -> bool:
    return path.stat().st_size > 0 and _lines(path)


def _rows(path: Path) -> bool:
    import numpy as np

    return np.load(path, mmap_mode="r", allow_pickle=False) is not None


CHECKS: dict[str, dict[str, Callable[[Path], bool]]] = {
    "mixture": {"tasks.csv": _tasks, "mixture.jsonl": _lines, "rows.npy": _rows},
    "diversity": {"diversity.json": _diversity},
    "scores": {"scores.json": _scores, "samples.jsonl": _some_lines},
    "base scores": {"scores.json": _scores, "samples.jsonl": _some_lines},
    "embedding": {"X.npy": _rows},
}
