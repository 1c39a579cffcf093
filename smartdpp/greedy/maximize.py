"""Greedy maximisation of a submodular function under a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.state import Function
from smartdpp.greedy.exact import exact
from smartdpp.greedy.limits import Limits
from smartdpp.greedy.picks import Picks, problem_hash
from smartdpp.greedy.stochastic import stochastic
from smartdpp.types import Selection


def maximize(
    function: Function,
    budget: float,
    *,
    method: Literal["exact", "stochastic"] = "exact",
    epsilon: float = 0.01,
    seed: int = 0,
    costs: Any = None,
    groups: Any = None,
    limits: Any = None,
    start: Any = None,
    progress: bool = False,
    checkpoint: Path | None = None,
) -> Selection:
    """The greedy selection under ``budget``: index int64[k] in order of picking, gain float64[k]. Ties go to
    the lowest index.

    ``budget``: how many items (1 to n, less the start set); with ``costs`` (number[n], all > 0), how much
    they may cost together, and items are ranked by gain / cost among those that still fit. ``groups``
    (int[n], 0..g-1) with ``limits`` (int[g]) allows at most limits[b] picks in group b. ``start`` (int[s]):
    items already chosen; the selection continues theirs and does not repeat them.

    ``method`` exact is plain greedy's result. ``stochastic`` looks at a random (n / k) log(1 / ``epsilon``)
    of the open items for each pick: in expectation 1 - 1/e - ε of the optimum for monotone functions
    (Mirzasoleiman et al. 2015), drawn from ``seed``.

    The selection is shorter than the budget where the limits or the function (see LogDet) leave nothing to
    pick. ``progress`` shows a bar. ``checkpoint``, a file, keeps the picks every 20 seconds: the same call
    after a kill (or Ctrl-C) goes on from there. Raises InputError for anything out of range.
    """
    if method not in ("exact", "stochastic"):
        raise InputError(f"method is {method!r}; it must be exact or stochastic.")
    if not 0 < epsilon < 1:
        raise InputError(f"epsilon is {epsilon}; it must lie between 0 and 1.")
    room = Limits(len(function), budget, costs, groups, limits, start)
    most = room.most
    problem = (
        ""
        if checkpoint is None
        else problem_hash(*function.identity(), budget, method, epsilon, seed, costs, groups, limits, start)
    )
    picks = Picks(
        most, progress=progress, checkpoint=None if checkpoint is None else Path(checkpoint), problem=problem
    )
    state = function.state(room.start.size + most)
    earlier = picks.resume()
    for j in earlier:
        room.take(int(j))
    chosen = np.concatenate([room.start, earlier])
    if chosen.size:
        state.add(chosen)
    try:
        if method == "exact":
            exact(state, room, picks)
        else:
            stochastic(state, room, picks, most, epsilon, seed)
    except KeyboardInterrupt:
        if picks.checkpoint is not None:
            picks.save()
        raise
    return picks.done()
