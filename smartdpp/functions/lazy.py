"""Some rows of a feature matrix, not read yet: what a process is sent so that it reads them itself.

A matrix that lies on disk (memory-mapped from a ``.npy`` file, as embeddings are) travels as its path and the
rows' numbers; every machine must see the file under that path. Of any other matrix the rows themselves
travel.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.errors import InputError


class LazyRows:
    """Rows ``index`` (int64[k]) of X (n, d), or of the ``.npy`` file X. Functions take it in the place of an
    array (k, d)."""

    def __init__(self, X: np.ndarray | Path, index: np.ndarray, width: int | None = None) -> None:
        self.X, self.index = X, index
        self.width = X.shape[1] if isinstance(X, np.ndarray) else width

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.index), self.width  # type: ignore[return-value]  # a path comes with one

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: np.ndarray | slice) -> LazyRows:
        return LazyRows(self.X, self.index[index], self.width)

    def read(self) -> np.ndarray:
        """(k, d); where the rows follow on each other in a file they stay there, memory-mapped."""
        X = _opened(self.X) if isinstance(self.X, Path) else self.X
        a = int(self.index[0]) if len(self.index) else 0
        if np.array_equal(self.index, np.arange(a, a + len(self.index))):
            return X[a : a + len(self.index)]
        return np.asarray(X[self.index])

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.X if isinstance(self.X, Path) else _file(self.X)
        if path is None:
            return LazyRows, (np.asarray(self.read()), np.arange(len(self)))
        return LazyRows, (path, self.index, self.width)


def _file(X: np.ndarray) -> Path | None:
    """The ``.npy`` file that X is the whole of, memory-mapped."""
    # a part of a map has the map as its base
    whole = isinstance(X, np.memmap) and isinstance(X.base, mmap.mmap)
    path = Path(X.filename) if whole and X.filename else None  # type: ignore[attr-defined]
    return path.absolute() if path and path.suffix == ".npy" else None


def _opened(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(
            f"{path} is not there on a machine of the cluster: all must see the run's root under the same "
            "path."
        ) from None
