"""The greedy selection from a pool by the runtime in use: over shares of it on the machines of a cluster,
where that is exact.

Graph cut and a log determinant on a linear kernel are (smartdpp.greedy.partitions); the picks are those of
one process. Each share reads its own rows where the features lie on disk. Whatever else is maximised, or
continues a start set, is chosen here, which is logged.

Summed in another order, gains differ in the last bits of float64. What is returned does not: the gains of a
log determinant are computed anew from the picks, by themselves; those of graph cut are rounded to 2^-24 of
the largest, float32's resolution, which two sums that differ by 1e-15 of it straddle once in 10^7 or 10^8
picks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from smartdpp.errors import Shrunk
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.functions.lazy import LazyRows
from smartdpp.functions.state import Function
from smartdpp.greedy import partitions
from smartdpp.greedy.maximize import maximize
from smartdpp.greedy.partitions import Share
from smartdpp.runtime import current
from smartdpp.runtime.memory import selection
from smartdpp.types import Selection

log = logging.getLogger(__name__)

# they take rows that are not read yet, and say whether they divide
KNOWN = (FacilityLocation, GraphCut, LogDet)


def choose(
    make: Callable[[Any], Function],
    X: np.ndarray,
    rows: np.ndarray,
    budget: int,
    *,
    start: Any = (),
    costs: Any = None,
) -> Selection:
    """``budget`` of ``rows`` (int64[m], of X (n, d)) in greedy order, by the function that ``make`` makes of
    them.

    They are numbered from 0 in the order of ``rows``; so is ``start`` (int[s]), those that are chosen
    already. With ``costs`` (int[m]) the budget is of these, and gains are ranked per cost. Raises what
    smartdpp.greedy.maximize raises.
    """
    parts = current().parts(len(rows))
    if parts > 1:
        function, reason = unread(make, X, rows), ""
        if function is None or not function.divisible:
            reason = f"{name(make)} is not chosen exactly from shares of a pool"
            if isinstance(function, (FacilityLocation, LogDet)):
                reason += ": it needs every pair of rows (strategy=two_rounds gets near without)"
        elif len(start):
            reason = "this selection continues what was chosen before"
        elif costs is not None:
            reason = "gains are ranked per token"
        if function is not None and not reason:
            log.info("chosen from %d shares of the pool", parts)
            return recorded(function, _over_shares(function, parts, budget))
        log.info("chosen by the process that was started, not by the cluster: %s", reason)
    here = make(LazyRows(X, rows).read())  # a map, where the rows lie in this order
    chosen = maximize(here, budget, start=start, costs=costs, progress=True)
    return recorded(here, chosen) if isinstance(here, KNOWN) and here.divisible else chosen


def unread(
    make: Callable[[Any], Function], X: np.ndarray, rows: np.ndarray
) -> GraphCut | LogDet | FacilityLocation | None:
    """The function of rows that are not read yet; None for one that may not know such rows."""
    made = make.func if isinstance(make, partial) else make
    return make(LazyRows(X, rows)) if made in KNOWN else None  # type: ignore[return-value]


def name(make: Callable[[Any], Function]) -> str:
    made: Any = make.func if isinstance(make, partial) else make
    kernel = make.keywords.get("kernel") if isinstance(make, partial) else None
    return made.__name__ + (f" with kernel={kernel}" if kernel else "")


def memory(make: Callable[[Any], Function], n: int, d: int, budget: int) -> float:
    """Bytes of the greedy selection from n rows by the function that ``make`` makes of them, the features
    included."""
    made, options = (make.func, make.keywords) if isinstance(make, partial) else (make, {})
    return selection(n, d) + (made.keeps(n, d, budget, **options) if hasattr(made, "keeps") else 0)


def recorded(function: Any, chosen: Selection) -> Selection:
    """The selection with gains that do not depend on where, or in how many threads, its sums were made."""
    if not len(chosen) or not isinstance(function, (LogDet, GraphCut)):
        return chosen
    if isinstance(function, LogDet):
        return Selection(chosen.index, function.subset(chosen.index).gains(np.arange(len(chosen))))
    step = 2.0 ** (np.ceil(np.log2(max(np.abs(chosen.gain).max(), np.finfo(float).tiny))) - 24)
    return Selection(chosen.index, np.round(chosen.gain / step) * step)


def _over_shares(function: Any, parts: int, budget: int) -> Selection:
    while True:
        makes = [
            partial(Share, function.subset(piece), piece.start)
            for piece in partitions.pieces(len(function), parts)
        ]
        try:
            with current().shares(makes) as ask:
                return partitions.maximize(ask, budget, progress=True)
        except Shrunk as error:  # picks do not depend on how many shares there are
            parts = current().parts(len(function))
            log.warning("%s: choosing anew from %d", error, parts)
