"""Shares that are drawn: mixtures that a law is learned from (RegMix, arXiv 2407.01492; olmix)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.mixing import HONOURS, mix, shuffled_tasks
from smartdpp.types import Pool, Selection


@dataclass(frozen=True)
class Dirichlet:
    """Shares p ~ Dirichlet(strength · M · n_i / n) over the M tasks: by ``strength`` from corners of the
    simplex (0.1) to near the pool's own shares (5), which they have on average. Another seed is another
    mixture. Rows are drawn at random inside a task; where one holds less than its share, the others make up
    for it. ``around=equal`` draws around equal shares.
    """

    honours: ClassVar[tuple[str, ...]] = HONOURS

    strength: float = 1.0
    around: str = "pool"

    def __post_init__(self) -> None:
        if not 0 < self.strength < np.inf:
            raise InputError(f"strategy.strength is {self.strength}: give a positive number, 0.1 to 5 say.")
        if self.around not in ("pool", "equal"):
            raise InputError(f"strategy.around is {self.around!r}: choose pool or equal.")

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        tasks, blocks = shuffled_tasks(pool, rng, budget)
        prior = np.array([len(block) for block in blocks], dtype=np.float64)
        if self.around == "equal":
            prior[:] = 1
        return mix(
            pool, tasks, blocks, rng.dirichlet(self.strength * len(prior) * prior / prior.sum()), budget
        )
