"""The selection as it grows, kept on disk now and then so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import logging
import os
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.types import Selection

log = logging.getLogger(__name__)
EVERY = 20.0  # seconds between checkpoints


class Picks:
    """index and gain of every pick. ``problem`` is the hash of what they solve: a checkpoint of another
    problem is refused."""

    def __init__(
        self, budget: int, *, progress: bool = False, checkpoint: Path | None = None, problem: str = ""
    ) -> None:
        self.index: list[int] = []
        self.gain: list[float] = []
        self.checkpoint, self.problem, self.saved = checkpoint, problem, time.monotonic()
        self.bar = None
        if progress:
            from tqdm import tqdm

            # what takes less needs no bar
            self.bar = tqdm(total=budget, desc="selecting", unit="row", delay=1)

    def append(self, j: int, gain: float) -> None:
        self.index.append(j)
        self.gain.append(gain)
        if self.bar is not None:
            self.bar.update()
        if self.checkpoint is not None and time.monotonic() - self.saved >= EVERY:
            self.save()

    def save(self) -> None:
        """Writes the picks so far beside the checkpoint and renames: a kill leaves the old file or the new
        one."""
        assert self.checkpoint is not None
        draft = self.checkpoint.with_name(self.checkpoint.name + ".draft")
        with open(draft, "wb") as file:
            np.savez(
                file,
                index=np.array(self.index, dtype=np.int64),
                gain=np.array(self.gain),
                identity=np.array(self.problem),
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.checkpoint)  # after a power cut too the one there is whole, be it the old one
        self.saved = time.monotonic()

    def resume(self) -> np.ndarray:
        """int64[k]: the picks of an earlier run of the same problem, none if it left no checkpoint."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return np.empty(0, dtype=np.int64)
        try:
            with np.load(self.checkpoint, allow_pickle=False) as stored:
                index, gain, problem = stored["index"], stored["gain"], str(stored["identity"])
        except (zipfile.BadZipFile, EOFError, zlib.error):  # one of ours, cut by a crash
            log.warning("%s is cut: the selection starts afresh", self.checkpoint)
            return np.empty(0, dtype=np.int64)
        except (ValueError, KeyError, OSError) as error:
            raise InputError(
                f"{self.checkpoint} is not a selection's checkpoint; delete it to start afresh."
            ) from error
        if problem != self.problem:
            raise InputError(
                f"{self.checkpoint} belongs to another selection (features, parameters or budget differ); "
                "delete it."
            )
        self.index, self.gain = index.tolist(), gain.tolist()
        if self.bar is not None:
            self.bar.update(len(index))
        return index

    def done(self) -> Selection:
        """The selection; its checkpoint is no longer needed."""
        if self.bar is not None:
            self.bar.close()
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)
        return Selection(np.array(self.index, dtype=np.int64), np.array(self.gain, dtype=np.float64))


def problem_hash(*parts: Any) -> str:
    """A hash of arrays and plain values."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
        digest.update(b"|")
    return digest.hexdigest()
