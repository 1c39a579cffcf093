"""Greedy in two rounds over random parts of a pool: for functions that need every pair of rows, where no
machine can see all pairs.

GreeDi (Mirzasoleiman, Karbasi, Sarkar and Krause, NIPS 2013): greedy picks ``budget`` rows of each part by
itself, then ``budget`` of these candidates; the answer is the best of the second round's selection and all of
the first's. With parts drawn uniformly at random (RandGreeDi: Barbosa, Ene, Nguyen and Ward, ICML 2015, arXiv
1502.02606) the answer is in expectation at least (1 - 1/e) / 2 of the optimum, for a monotone submodular
function and any number of parts. Facility location is one. The log determinant on vmf and rbf kernels is not
monotone: there the method is a heuristic, as greedy itself is.

The bound asks that gains are those of the whole pool. Here a part of a facility location sees its own rows in
the first round (a random sample of the pool, the decomposable case of the first paper), and in the second all
rows, or ``witnesses`` of them: the bound then holds up to the sampling error of these means, which shrinks as
parts hold more rows and witnesses grow.

Features that lie on disk are read by whoever needs them (smartdpp.functions.lazy): the first round and the
final gains by the parts, the second round's rows by this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, LogDet
from smartdpp.greedy.maximize import maximize
from smartdpp.types import Selection

T = TypeVar("T")


class Map(Protocol):
    """``work(*arguments(i))`` for every i, in order; ``sizes`` are the pieces' rows, and ``what`` names the
    work for people."""

    def __call__(
        self,
        work: Callable[..., T],
        arguments: Callable[[int], tuple[Any, ...]],
        sizes: Sequence[int],
        what: str,
    ) -> list[T]: ...


def in_turn(
    work: Callable[..., T], arguments: Callable[[int], tuple[Any, ...]], sizes: Sequence[int], what: str
) -> list[T]:
    """A `Map` of this process."""
    return [work(*arguments(i)) for i in range(len(sizes))]


@dataclass(frozen=True)
class TwoRounds:
    """The selection, in the order greedy picked it; f of it; and f of what each part chose by itself, over
    what the second round saw."""

    selection: Selection
    value: float
    alone: np.ndarray  # float64[parts]


def two_rounds(
    function: FacilityLocation | LogDet,
    budget: int,
    parts: int,
    *,
    seed: int = 0,
    witnesses: int | None = None,
    map: Map = in_turn,
) -> TwoRounds:
    """``budget`` rows by greedy over ``parts`` random parts, drawn from ``seed``; the parts are pieces of
    work for ``map``.

    ``witnesses``: how many rows the second round of a facility location sums over, drawn at random; None:
    all. InputError for a budget or parts out of range, and for a function that greedy maximises exactly over
    shares of a pool (smartdpp.greedy.partitions).
    """
    n = len(function)
    if function.divisible:
        raise InputError(
            "This function needs no second round: smartdpp.greedy.partitions maximises it exactly over "
            "shares of a pool."
        )
    if not 1 <= parts <= n:
        raise InputError(f"parts is {parts}; it must be a whole number from 1 to {n}, the rows there are.")
    if not 1 <= budget <= n:
        raise InputError(
            f"budget is {budget}; it must be a whole number from 1 to {n}, the rows there are to choose from."
        )
    if witnesses is not None and not 1 <= witnesses <= n:
        raise InputError(
            f"witnesses is {witnesses}; it must be a whole number from 1 to {n}, or null for all rows."
        )
    rng = np.random.default_rng(seed)
    label = rng.integers(parts, size=n)
    rows = [part for part in (np.flatnonzero(label == i) for i in range(parts)) if part.size]
    first = map(
        _first_round,
        lambda i: (function.subset(rows[i]), budget),
        [len(part) for part in rows],
        "first round",
    )
    chosen = [part[index] for part, index in zip(rows, first, strict=True)]
    candidates = np.unique(np.concatenate(chosen))
    seen = np.arange(n) if witnesses is None else rng.choice(n, witnesses, replace=False)
    judge = np.union1d(candidates, seen) if isinstance(function, FacilityLocation) else candidates
    among = function.subset(judge)
    outsider = (~np.isin(judge, candidates)).astype(np.int64)
    second = maximize(among, min(budget, len(candidates)), groups=outsider, limits=np.array([budget, 0]))
    alone = np.array(
        [
            among.value(np.searchsorted(judge, pick)) if len(pick) == len(second) else -np.inf
            for pick in chosen
        ]
    )
    best = int(alone.argmax())
    index = judge[second.index] if second.gain.sum() >= alone[best] else chosen[best]
    gain = _gains(function, rows, index, map)
    return TwoRounds(Selection(index, gain), float(gain.sum()), alone)


def _gains(
    function: FacilityLocation | LogDet, parts: list[np.ndarray], index: np.ndarray, map: Map
) -> np.ndarray:
    """float64[k]: of the whole pool; each part says what the chosen rows give its own."""
    chosen = function.subset(index)
    if isinstance(function, LogDet):
        return chosen.gains(np.arange(len(index)))
    sizes = [len(part) for part in parts]
    return np.sum(map(_reached, lambda i: (function.subset(parts[i]), chosen), sizes, "gains"), axis=0)


def _reached(part: FacilityLocation, chosen: FacilityLocation) -> np.ndarray:
    return part.reached(chosen.features.rows(slice(None)))


def _first_round(function: FacilityLocation | LogDet, budget: int) -> np.ndarray:
    return maximize(function, min(budget, len(function))).index
