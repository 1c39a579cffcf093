"""The feature matrix behind every function: checked once, read in place, normalised in float64 on the way
out.

Rows come from numpy (a read-only memory map too) or torch, on whatever device they live, or are read when
they are first used (LazyRows). A matrix of moderate size is kept as a normalised copy in the precision that
is asked for; of a larger one only the reciprocal norms are kept, and rows are normalised block by block as
they are used.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.lazy import LazyRows

if TYPE_CHECKING:
    import torch

COPY_BYTES = 2**28  # the largest float64 copy that is kept
HOLD = 1024  # rows from which on a set is held in case it is asked for again
BLOCK_BYTES = 2**23  # the float64 block a larger matrix is read in: stays in cache


@dataclass(eq=False)
class Features:
    """X (n, d), numeric; with ``unit`` every row is divided by its Euclidean norm."""

    X: Any
    unit: bool = True
    # the last large set of rows asked for
    held: tuple[np.ndarray, torch.Tensor] | None = field(default=None, init=False, repr=False)

    @cached_property
    def tensor(self) -> torch.Tensor:
        """The matrix as given, (n, d), sharing its memory. InputError if it is not 2-d, numeric and
        non-empty."""
        if isinstance(self.X, LazyRows):
            return Features(self.X.read(), self.unit).tensor
        if not isinstance(self.X, np.ndarray) and not (
            "torch" in sys.modules and isinstance(self.X, sys.modules["torch"].Tensor)
        ):
            raise InputError(
                "Features must be a numpy array or a torch tensor of shape (n, d), not "
                f"{type(self.X).__name__}."
            )
        if self.X.ndim != 2 or 0 in self.X.shape:
            raise InputError(
                "Features must have shape (n, d) with n and d at least 1; this array has shape "
                f"{tuple(self.X.shape)}."
            )
        import torch

        if isinstance(self.X, torch.Tensor):
            if self.X.is_complex() or self.X.dtype == torch.bool:
                raise InputError(
                    f"Features must be real numbers (float32, float64, ...), not {self.X.dtype}."
                )
            return self.X.detach()
        X = self.X
        if X.dtype.kind not in "fiu":
            raise InputError(f"Features must be real numbers (float32, float64, ...), not {X.dtype}.")
        if X.dtype.type not in (np.float16, np.float32, np.float64) or not X.dtype.isnative:
            X = X.astype(np.float64)
        if min(X.strides) < 0:  # torch has no reversed views
            X = np.ascontiguousarray(X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a read-only array is fine: nothing writes to it
            return torch.from_numpy(X)

    @property
    def shape(self) -> tuple[int, int]:
        if isinstance(self.X, LazyRows):
            return self.X.shape
        n, d = self.tensor.shape
        return n, d

    def subset(self, index: np.ndarray | slice) -> Any:
        """Rows ``index`` of X, as they were given: a slice copies nothing, and of LazyRows they are not read
        yet."""
        X = self.X if isinstance(self.X, LazyRows) else self.tensor
        return X[index] if isinstance(index, slice) else X[np.asarray(index)]

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def blocks(self, index: np.ndarray | None = None) -> Iterator[slice]:
        """Cuts ``index`` (all rows by default) into pieces whose float64 rows take at most BLOCK_BYTES."""
        count = self.shape[0] if index is None else len(index)
        step = max(1, BLOCK_BYTES // (8 * self.shape[1]))
        for a in range(0, count, step):
            yield slice(a, min(a + step, count))

    @cached_property
    def scale(self) -> torch.Tensor:
        """float64[n]: what each row is multiplied by. InputError names the first row that is not finite, or
        zero."""
        import torch

        n = self.shape[0]
        norm = torch.empty(n, dtype=torch.float64, device=self.device)
        for piece in self.blocks():
            norm[piece] = torch.linalg.vector_norm(self.tensor[piece].double(), dim=1)
        bad = torch.nonzero(~torch.isfinite(norm))[:, 0]
        if len(bad):
            raise InputError(
                f"Features must be finite: {len(bad)} of {n} rows are not, the first is row {int(bad[0])}."
            )
        if not self.unit:
            return torch.ones_like(norm)
        zero = torch.nonzero(norm == 0)[:, 0]
        if len(zero):
            raise InputError(
                f"Cosine similarity needs rows that are not zero: {len(zero)} of {n} are, the first is row "
                f"{int(zero[0])}."
            )
        return 1 / norm

    @cached_property
    def copies(self) -> dict[torch.dtype, torch.Tensor]:
        """All rows normalised, [n, d], in the precisions that were asked for and take at most COPY_BYTES."""
        return {}

    def copy(self, dtype: torch.dtype) -> torch.Tensor | None:
        import torch

        n, d = self.shape
        if dtype not in self.copies and n * d * dtype.itemsize <= COPY_BYTES:
            whole = torch.empty((n, d), dtype=dtype, device=self.device)
            for piece in self.blocks():
                whole[piece] = self.tensor[piece].double() * self.scale[piece][:, None]
            self.copies[dtype] = whole
        return self.copies.get(dtype)

    def whole(self, dtype: torch.dtype) -> torch.Tensor:
        """[n, d]: all rows, normalised, whatever memory that takes."""
        import torch

        copy = self.copy(dtype)
        return torch.cat([self.rows(piece, dtype) for piece in self.blocks()]) if copy is None else copy

    def rows(self, index: np.ndarray | slice, dtype: torch.dtype | None = None) -> torch.Tensor:
        """[k, d], float64 unless another ``dtype`` is asked for: these rows, normalised."""
        import torch

        dtype = dtype or torch.float64
        if isinstance(index, slice):
            copy = self.copy(dtype)
            return (
                (self.tensor[index].double() * self.scale[index][:, None]).to(dtype)
                if copy is None
                else copy[index]
            )
        if len(index) < HOLD:
            return self.take(index, dtype)
        if self.held is None or self.held[1].dtype != dtype or not np.array_equal(self.held[0], index):
            self.held = (
                np.array(index),
                torch.cat([self.take(index[piece], dtype) for piece in self.blocks(index)]),
            )
        return self.held[1]

    def take(self, index: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        import torch

        at = torch.as_tensor(index, device=self.device)
        copy = self.copies.get(dtype)
        return (self.tensor[at].double() * self.scale[at][:, None]).to(dtype) if copy is None else copy[at]

    @cached_property
    def square(self) -> torch.Tensor:
        """float64[n]: the squared norm of each row as it is used."""
        import torch

        if self.unit:
            return torch.ones_like(self.scale)
        return torch.cat([self.rows(piece).square().sum(1) for piece in self.blocks()])

    @cached_property
    def total(self) -> torch.Tensor:
        """float64[d]: the sum of all rows."""
        return sum(self.scale[piece] @ self.tensor[piece].double() for piece in self.blocks())

    def identity(self) -> list[Any]:
        """What tells this matrix from another one: shape, every row's norm, the sum of all rows."""
        return [tuple(self.shape), self.unit, self.scale.cpu().numpy(), self.total.cpu().numpy()]

    def project(self, Y: torch.Tensor, index: np.ndarray | None = None) -> torch.Tensor:
        """float64[k, ...]: rows ``index`` (all by default) times Y (d, ...)."""
        import torch

        if index is not None and len(index) < self.shape[0]:
            return (
                self.rows(index) @ Y
                if len(index) <= 2**15
                else torch.cat([self.rows(index[piece]) @ Y for piece in self.blocks(index)])
            )
        copy = self.copy(torch.float64)
        if copy is not None:
            whole = copy @ Y
        else:
            whole = torch.empty((self.shape[0], *Y.shape[1:]), dtype=torch.float64, device=self.device)
            for piece in self.blocks():
                whole[piece] = self.tensor[piece].double() @ Y
            whole *= self.scale if Y.ndim == 1 else self.scale[:, None]
        return whole if index is None else whole[torch.as_tensor(index, device=self.device)]


def stacked(parts: Sequence[Features]) -> torch.Tensor:
    """[n, d]: the rows of all of them, as they were given, in this order."""
    import torch

    return torch.cat([part.tensor for part in parts])
