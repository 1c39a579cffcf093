"""Coverage of a pool too large to compare all its rows with each other: greedy inside random parts, then
among what they chose.

RandGreeDi (Barbosa, Ene, Nguyen and Ward, ICML 2015): see smartdpp.greedy.two_rounds for what it promises.
Tasks are unseen, as in `submodular`, whose selection this approaches; with one part it is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, LogDet
from smartdpp.functions.state import Function
from smartdpp.greedy.two_rounds import two_rounds
from smartdpp.runtime import current
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.complete import complete_pool
from smartdpp.strategies.pool_order import by_id
from smartdpp.strategies.spread import memory, name, unread
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TwoRounds:
    """``function`` makes a facility location, or a log determinant on vmf or rbf, from the features (n, d).
    The parts are drawn from the seed of the selection. A part is a piece of work for the runtime, which
    changes nothing about the result; the number of ``parts`` does.

    ``witnesses``: how many rows the second round of a facility location sums over; None: all. In greedy
    order, but a smaller budget is no prefix of a larger one.
    """

    function: Callable[[Any], Function] = FacilityLocation
    parts: int = 8
    witnesses: int | None = None

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise InputError(f"strategy.parts is {self.parts}: give a positive number of parts.")
        if self.witnesses is not None and self.witnesses < 1:
            raise InputError(
                f"strategy.witnesses is {self.witnesses}: give a positive number of rows, or null for all."
            )

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float:
        """Inside a part, then among what all parts chose, which a facility location sums over witnesses."""
        covers = getattr(self.function, "func", self.function) is FacilityLocation
        sizes = (-(-n // self.parts), min(n, self.parts * budget + ((self.witnesses or n) if covers else 0)))
        return n * d * 4 + max(memory(self.function, size, d, min(budget, size)) for size in sizes)

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        rows = by_id(pool)
        function = unread(self.function, pool.X, rows)
        if not isinstance(function, (FacilityLocation, LogDet)) or function.divisible:
            raise InputError(
                "strategy=two_rounds is for facility location and log determinants on vmf or rbf, not for "
                f"{name(self.function)}: "
                "strategy=submodular maximises it exactly, also on a cluster."
            )
        witnesses = None if self.witnesses is None else min(self.witnesses, len(pool))
        parts, seed = min(self.parts, len(pool)), int(rng.integers(2**32))
        found = two_rounds(function, budget, parts, seed=seed, witnesses=witnesses, map=current().map)
        chosen = complete_pool(found.selection, budget, np.zeros(len(pool)))
        return Selection(index=rows[chosen.index], gain=chosen.gain)
