"""Work that was done before under another configuration: its files are taken over instead of made again.

A key follows from the configuration, so that a plan knows it before anything is chosen. Two configurations
can choose the same rows in the same order, and only their ``content`` tells: a fact of an artifact that
stands for all that decides what is in it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smartdpp.store import disk, remote
from smartdpp.store.artifact import Artifact
from smartdpp.store.disk import disk_errors
from smartdpp.store.locks import lock
from smartdpp.store.remote import META

# what making it took, as meta.json has it
SPENT = ("seconds", "peak_gib", "start_gib", "peak_gpu_gib", "energy_wh")


def once(artifact: Artifact, content: Callable[[], str], build: Callable[[Path], dict[str, Any]]) -> bool:
    """``artifact.produce(build)``, unless work of this content is finished or under way under another key:
    then that one's files.

    Its facts get ``content`` and ``taken_from``, the other's key or None.
    """
    if artifact.finished:
        return True
    found = content()
    with disk_errors(artifact.path), lock(artifact.path.with_name(f"same-{found}")):
        return artifact.produce(
            lambda out: (
                taken_over(artifact, found, out) or build(out) | {"content": found, "taken_from": None}
            )
        )


def taken_over(artifact: Artifact, content: str, out: Path) -> dict[str, Any] | None:
    """Fills ``out`` with the files of a finished artifact of the same stage and content and returns its
    facts; None if there is none.

    ``taken_from`` among the facts is its key, ``spent`` what it took when it was made. An interrupted build's
    files in ``out`` go.
    """
    stage = artifact.path.parent
    for name, text in sorted(remote.each(stage, META).items()):
        try:
            record = json.loads(text)
            same = name == record["key"] and record["facts"].get("content") == content
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # damaged; where it is needed that is said
        if same:
            made = remote.whole(stage / name)
            try:
                if disk.damage(made, whole="files" in record):
                    continue
            except OSError:  # another's, that we may not read
                continue
            _fill(out, made)
            return record["facts"] | {
                "taken_from": name,
                "spent": {key: record[key] for key in SPENT if key in record},
            }
    return None


def _fill(out: Path, made: Path) -> None:
    """Hard links where the file system has them: files of an artifact are never written again."""
    for old in out.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    for path in sorted(path for path in made.rglob("*") if path.is_file() and path.name != META):
        to = out / path.relative_to(made)
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, to)
        except OSError:
            shutil.copyfile(path, to)
