"""Whether a metric rises or falls along a swept number, from worlds with a run at every value of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smartdpp.evaluation.intervals import Difference, Influence, paired_difference


def weights(x: Sequence[float] | np.ndarray) -> np.ndarray:
    """float64[n] with sum 0: the least squares slope of y along x is their product with y."""
    apart = np.asarray(x, dtype=np.float64) - np.mean(x)
    return apart / (apart @ apart)


def slope(
    x: Sequence[float] | np.ndarray, y: np.ndarray, influences: Sequence[Sequence[Influence]] = ()
) -> Difference:
    """The mean over worlds of the least squares slope of y along x within each, as a paired difference: what
    makes a whole world hard cancels, and a document that several runs share is one draw in all of them.

    x: float[n]; y: float[worlds, n]; influences: of each world, what each document adds to each of its n
    values (``evaluation.intervals.influence``), empty where they are not known; no document counts unless all
    worlds' are.
    """
    w = weights(x)
    adds = [added(w, one) for one in influences]
    by_world = (np.asarray(y, dtype=np.float64) @ w).tolist()
    return paired_difference(by_world, adds if all(adds) else [])


def added(w: np.ndarray, influences: Sequence[Influence]) -> dict[Any, float]:
    """What each document adds to the sum of n values with weights w; empty where two of them do not have the
    same documents."""
    first: Mapping[Any, float] = influences[0]
    if any(one.keys() != first.keys() for one in influences):
        return {}
    return {key: float(sum(v * one[key] for v, one in zip(w, influences, strict=True))) for key in first}
