"""A run's folder: where what it lists lies."""

from __future__ import annotations

from pathlib import Path

from smartdpp.store.disk import read_json


def artifacts(run: Path) -> dict[str, Path]:
    """Where a run's artifacts lie: beside runs/ in store/, also when the whole root was moved or is read from
    another folder.

    Their files are read through ``remote.file``: the root may be on no disk of this machine.
    """
    store = run.absolute().parent.parent / "store"
    listed = read_json(run / "artifacts.json") if (run / "artifacts.json").is_file() else {}
    return {name: store / Path(path).parent.name / Path(path).name for name, path in listed.items()}
