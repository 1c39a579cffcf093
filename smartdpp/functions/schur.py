"""What a determinant keeps of the chosen rows: the Schur complement of the others, exactly for a few, and d²
of everybody as a bound.

With chosen rows P and the Cholesky factor L of S + ρI, d_i² = s_ii + ρ - Σ_b L_ib². Candidates are judged in
float64. The d² of all other rows only has to tell who cannot be next, so it may be tracked in single
precision. It is brought up to date for many rows at once, by matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch


class Schur(Protocol):
    def complement(self, index: np.ndarray) -> np.ndarray:
        """float64[k, k]: the kernel of these rows plus ρI given the chosen ones; the diagonal is d²."""
        ...

    def residual(self, index: np.ndarray) -> np.ndarray:
        """float64[k]: d² of these rows."""
        ...

    def choose(self, index: np.ndarray, factor: np.ndarray) -> None:
        """Adds rows to the chosen; ``factor`` (b, b) is the lower Cholesky factor of their complement."""
        ...

    def track(self, dtype: torch.dtype) -> None:
        """From now on the d² of all rows is kept in this precision."""
        ...

    def refresh(self, index: np.ndarray | None) -> np.ndarray:
        """float64[k]: the tracked d² of all rows (None), or of a set of rows that is asked for many times on
        end."""
        ...

    def drift(self, index: np.ndarray, d2: np.ndarray) -> float:
        """The largest difference between ``d2`` and the tracked d² of these rows, where that has seen all
        picks."""
        ...


@dataclass
class Tracked:
    """d² of some rows, ``index`` ascending, after the first ``seen`` picks; and ``rows``, with a ``weight``
    each, to go on from."""

    index: np.ndarray
    d2: np.ndarray
    seen: int
    rows: torch.Tensor
    weight: np.ndarray | float = 1.0

    def weights(self, at: slice) -> np.ndarray | float:
        return self.weight[at] if isinstance(self.weight, np.ndarray) else self.weight

    def difference(self, index: np.ndarray, d2: np.ndarray) -> float:
        """max |d2 - tracked| over those of ``index`` that are here."""
        at = np.searchsorted(self.index, index).clip(max=len(self.index) - 1)
        return float(np.max(np.abs(d2 - self.d2[at]), where=self.index[at] == index, initial=0.0))
