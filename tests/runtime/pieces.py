"""What the tests send to other processes, which import it from here."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smartdpp.embedding.tfidf import Tfidf
from smartdpp.errors import InputError
from smartdpp.greedy.partitions import Share


@dataclass(frozen=True)
class Mortal:
    """The embedding inside, whose worker is killed before its second shard, once."""

    inside: Tfidf
    grave: str  # a file that says it has died

    def prepare(self, rows: pa.Table) -> Any:
        encode, calls = self.inside.prepare(rows), [0]

        def mortal(shard: pa.Table) -> np.ndarray:
            calls[0] += 1
            if calls[0] == 2 and not Path(self.grave).exists():
                Path(self.grave).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(shard)

        return mortal


def share(function: Any, piece: slice) -> Share:
    return Share(function.subset(piece), piece.start)


def pid(_: Share) -> int:
    return os.getpid()


def refuse(name: str) -> None:
    raise InputError(f"{name} cannot be read")


def visible_gpus(*_: Share) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")
