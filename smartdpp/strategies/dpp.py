"""A diverse set, weighed against quality: greedy MAP of a determinantal point process (Wang et al., arXiv
2402.02318).

gain(i | Y) = theta log q_i + (1 - theta) log d_i², where d_i² = det S_{Y+i} / det S_Y measures how much of
example i the chosen ones Y do not explain. The greedy algorithm is that of Chen, Zhang and Zhou (2018), in
float64. The objective is not monotone, so greedy is a heuristic here: the (1 - 1/e) bound does not apply.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions import LogDet
from smartdpp.functions.lazy import LazyRows
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.complete import complete_pool
from smartdpp.strategies.gamma import check_effective_items, gamma_for
from smartdpp.strategies.pool_order import by_id, started
from smartdpp.strategies.spread import choose, memory
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dpp:
    """``kernel`` is S: vmf exp(γ (x·y - 1) / 2) and linear γ (x·y + 1) / 2 on L2-normalised rows, rbf exp(-γ
    ‖x - y‖²) on raw ones. ``effective_items`` instead of ``gamma`` finds the γ at which the pool holds so
    many effectively different examples.

    ``theta`` in [0, 1] weighs log quality: 0 is diversity alone, 1 quality alone. ``ridge`` is added to S's
    diagonal; without one, copies of chosen examples are taken only when nothing else is left, and logged. The
    selection is in greedy order and a smaller budget is a prefix of a larger one.
    """

    nested: ClassVar[bool] = True
    honours: ClassVar[tuple[str, ...]] = ("start", "outside")
    kernel: Literal["vmf", "rbf", "linear"] = "vmf"
    gamma: float = 1.0
    effective_items: float | None = None
    theta: float = 0.0
    ridge: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma < np.inf:
            raise InputError(f"strategy.gamma is {self.gamma}: the kernel needs a positive number.")
        check_effective_items(self.effective_items, self.kernel)
        if not 0 <= self.theta <= 1:
            raise InputError(
                f"strategy.theta is {self.theta}: choose between 0 (diversity alone) and 1 (quality alone)."
            )
        if not 0 <= self.ridge < np.inf:
            raise InputError(f"strategy.ridge is {self.ridge}: choose 0 or a positive number.")

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float:
        return memory(partial(LogDet, kernel=self.kernel), n, d, budget)

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        if self.theta > 0:
            if pool.quality is None:
                raise InputError(
                    f"strategy.theta is {self.theta}, but there is no quality to weigh: "
                    "choose one (quality=response_tokens) or strategy.theta=0."
                )
            if np.ptp(pool.quality) == 0:
                logger.warning(
                    "strategy.theta is %g, but the quality is the same for every example: only diversity "
                    "decides",
                    self.theta,
                )
        rows = by_id(pool)
        quality = None if pool.quality is None else pool.quality[rows]
        gamma = (
            self.gamma
            if self.effective_items is None
            else gamma_for(np.asarray(pool.X[rows]), self.effective_items, self.kernel, rng)
        )
        make = partial(
            LogDet, kernel=self.kernel, gamma=gamma, ridge=self.ridge, quality=quality, theta=self.theta
        )
        start = np.flatnonzero(started(pool, rows))
        bonus = make(LazyRows(pool.X, rows)).bonus
        chosen = complete_pool(
            choose(make, pool.X, rows, budget, start=start), budget, bonus, 1 - self.theta, taken=start
        )
        return Selection(index=rows[chosen.index], gain=chosen.gain)
