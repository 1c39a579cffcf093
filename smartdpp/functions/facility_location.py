"""Facility location: every example of the pool should have a chosen one close by.

f(X) = Σ_{i∈V} max(0, max_{j∈X} s_ij), s the cosine similarity (SMART, arXiv 2403.08370; the running maximum
starts at 0, so a negative similarity counts as 0). Without that start gains can grow where similarities are
negative, and lazy greedy, as the SMART authors' library runs it, would not be exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from smartdpp.bounds import Count
from smartdpp.errors import InputError
from smartdpp.functions.coverage import Coverage
from smartdpp.functions.features import Features
from smartdpp.functions.order import checked
from smartdpp.functions.point_coverage import PointCoverage
from smartdpp.functions.state import State

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class FacilityLocation:
    """X (n, d), numpy or torch. ``normalize`` divides rows by their norm; without it s_ij is the plain inner
    product.

    Above 2,048 rows gains are float32, and those too close to tell apart are resolved in float64. Picks
    agreed with a float64 greedy on every pool compared (up to 10,000 rows), which is no proof; recorded gains
    were within 2e-5 of theirs. ``neighbors`` (k >= 1) is an approximation for large pools, used while
    maximising only: each row of the pool sees just its k (or slightly more) nearest rows, found among its
    nearest clusters. ``value`` and ``gains`` are always those of the full function. Raises InputError for a
    parameter out of range at once, and for features that are not finite, not 2-d, empty, or zero where a norm
    is needed when they are first used.
    """

    X: Any
    normalize: bool = True
    neighbors: Count | None = None
    divisible: ClassVar[bool] = False  # every pair of rows counts

    def __post_init__(self) -> None:
        if self.neighbors is not None and self.neighbors < 1:
            raise InputError(
                f"neighbors is {self.neighbors}; it must be at least 1, or null for the exact function."
            )

    @cached_property
    def features(self) -> Features:
        return Features(self.X, self.normalize)

    def __len__(self) -> int:
        return self.features.shape[0]

    def identity(self) -> list[Any]:
        return ["facility_location", self.neighbors, *self.features.identity()]

    def subset(self, index: np.ndarray | slice) -> Self:
        """The function of rows ``index`` (int[k], or a slice, which copies nothing) alone: it sees only
        these."""
        return replace(self, X=self.features.subset(index))

    def gains(self, order: Any) -> np.ndarray:
        """float64[k]: the marginal gain of each item of ``order`` (int[k], distinct) given those before
        it."""
        order = checked(order, len(self))
        return self.reached(self.features.rows(order)) if len(order) else np.empty(0)

    def reached(self, Y: torch.Tensor) -> np.ndarray:
        """float64[k]: what rows Y (k, d), normalised and not necessarily of the pool, give it one after the
        other."""
        import torch

        gain: Any = 0.0
        for piece in self.features.blocks():  # each row of the pool gains on its own
            highest = torch.cummax(self.features.rows(piece) @ Y.T, 1).values.clamp_(min=0)
            gain = gain + torch.diff(highest, dim=1, prepend=torch.zeros_like(highest[:, :1])).sum(0)
        return gain.cpu().numpy()

    def value(self, index: Any) -> float:
        """f of the chosen rows ``index`` (int[k], distinct)."""
        order = checked(index, len(self))
        if not len(order):
            return 0.0
        Y = self.features.rows(order)
        return float(
            sum(
                (self.features.rows(piece) @ Y.T).amax(1).clamp_(min=0).sum()
                for piece in self.features.blocks()
            )
        )

    def state(self, budget: int) -> State:
        """A greedy run's state: see smartdpp.functions.state."""
        if self.features.device.type == "cpu":
            return Coverage(self.features, self.neighbors)
        if self.neighbors is not None:
            raise InputError(
                "neighbors is for features in host memory; on a device the exact function is fast: set "
                "neighbors to null."
            )
        return PointCoverage(self.features, self.features)

    @staticmethod
    def keeps(n: int, d: int, k: int, neighbors: int | None = None, **options: Any) -> float:
        """Bytes beside the features while k of n rows are chosen: a kernel, or what is left of it, of 2 GiB
        each at most."""
        from smartdpp.functions.coverage import DOUBLE, KEEP_BYTES, WHOLE_BYTES

        unit = 4 if n > DOUBLE else 8
        if neighbors:
            return n * d * unit + 24 * n * neighbors
        whole = unit * n * n
        return n * d * unit + (
            whole + min(KEEP_BYTES, whole / 4) if whole <= WHOLE_BYTES else min(KEEP_BYTES, 1.5 * whole)
        )
