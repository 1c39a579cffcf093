"""The mixture renewed while the model trains: choose a part, train on it, look again with the model as it now
is, choose the next part.

What an example would teach depends on what the model knows already. With ``rounds`` = R and a budget of N,
round r chooses floor(r N / R) - floor((r - 1) N / R) examples that continue what the earlier rounds have
chosen, and training goes on from the earlier rounds' weights, with a schedule of its own. With ``renew`` the
pool is embedded anew for every round, by the model as trained so far (embedding=gradient: its gradients now);
without, every round sees the first embedding, which is what to compare with: the same number of rounds and
the same schedule, and only the looking again is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from smartdpp.embedding.gradient import Gradient
from smartdpp.embedding.hidden import Hidden
from smartdpp.errors import InputError
from smartdpp.strategies.baselines import Random
from smartdpp.strategies.dpp import Dpp
from smartdpp.types import Embedding, Pool, Selection


@dataclass(frozen=True)
class Reselect:
    """``strategy`` chooses in every round; it must be one that continues a start set, `Dpp` or `Random`."""

    nested: ClassVar[bool] = True  # as both are that may choose in it
    strategy: Dpp | Random
    rounds: int = 3
    renew: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, (Dpp, Random)):
            raise InputError(
                f"strategy.strategy is {type(self.strategy).__name__}, which cannot continue what earlier "
                "rounds have chosen: "
                "use dpp (+strategy@strategy.strategy=dpp) or random."
            )
        if self.rounds < 1:
            raise InputError(f"strategy.rounds is {self.rounds}: choose at least 1.")

    def check(self) -> list[str]:
        return []

    def misfits(self, embedding: Embedding, budget: int, *, trained: bool) -> list[str]:
        """What is wrong with these rounds. ``trained``: whether the embedding's model is the one that is
        finetuned."""
        problems = []
        if self.renew and not isinstance(embedding, (Gradient, Hidden)):
            problems.append(
                "strategy.renew=true embeds the pool anew by the model as trained so far, and this "
                "embedding does not read the model: "
                "use embedding=gradient, embedding=hidden or strategy.renew=false"
            )
        elif self.renew and not trained:
            problems.append(
                "strategy.renew=true embeds by the model as trained so far, but embedding.model is not the "
                "model of this run"
            )
        if budget < self.rounds:
            problems.append(
                f"budget={budget}: strategy.rounds={self.rounds} needs at least one example for each round"
            )
        return problems

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float | None:
        return self.strategy.memory(n, d, budget, largest) if isinstance(self.strategy, Dpp) else None

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        """One round; the whole of it where there is one embedding."""
        return self.strategy.select(pool, budget, rng)
