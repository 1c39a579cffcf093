"""A random diverse set: a draw from a k-DPP with quality, where ``dpp`` takes the (greedily) most probable
one.

P(Y) ∝ det L_Y over sets of the budget's size, L = diag(q^a) S diag(q^a) with a = θ / (2 (1 - θ)): log P(Y) is
then the sum of the gains that the greedy strategy weighs (Wang et al., arXiv 2402.02318), up to a constant
and a factor. Unlike the most probable set it has a spread over seeds, and dense regions keep more of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from smartdpp.diversity.rows import checked, unit
from smartdpp.errors import InputError
from smartdpp.functions import LogDet
from smartdpp.functions.kernels import Kernel
from smartdpp.greedy import maximize
from smartdpp.runtime.memory import features
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.complete import complete_pool
from smartdpp.strategies.gamma import check_effective_items, gamma_for
from smartdpp.strategies.kdpp import sample, sample_dual, steps_enough, walk
from smartdpp.strategies.pool_order import by_id
from smartdpp.strategies.spread import memory
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)

SMALL = 3000  # rows up to which the eigenvectors of the whole kernel are computed
RESOLVED = 1e-6  # d² of a start set below which the chain's float64 inverse says little


@dataclass(frozen=True)
class DppSample:
    """``kernel``, ``gamma``, ``theta`` and ``ridge`` as in Dpp; ``effective_items`` instead finds the γ at
    which the pool holds so many.

    ``method`` exact draws from eigenvectors (through the dual where the kernel is linear and the embedding
    has fewer columns than the pool rows), chain from a Markov chain of ``steps`` steps (None: enough to be
    within 0.01 in total variation), auto by the pool's size. The selection is in random order: a prefix of it
    is spread as the whole is, but is no draw for the smaller budget. Gains are those of the order.
    """

    kernel: Literal["vmf", "rbf", "linear"] = "vmf"
    gamma: float = 1.0
    effective_items: float | None = None
    theta: float = 0.0
    ridge: float = 0.0
    method: Literal["auto", "exact", "chain"] = "auto"
    steps: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.gamma < np.inf:
            raise InputError(f"strategy.gamma is {self.gamma}: the kernel needs a positive number.")
        check_effective_items(self.effective_items, self.kernel)
        if not 0 <= self.theta < 1:
            raise InputError(
                f"strategy.theta is {self.theta}: choose 0 (diversity alone) or more, but below 1, where "
                "chance would end."
            )
        if not 0 <= self.ridge < np.inf:
            raise InputError(f"strategy.ridge is {self.ridge}: choose 0 or a positive number.")
        if self.steps is not None and self.steps < 1:
            raise InputError(
                f"strategy.steps is {self.steps}: give a positive number of steps, or null for as many as "
                "are enough."
            )

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float:
        exact = self.method == "exact" or (self.method == "auto" and (n <= SMALL or self.kernel == "linear"))
        if exact and self.kernel == "linear":
            return features(n, d) + 24 * n * d
        drawn = 48 * n * n if exact else 32 * budget * budget + 8 * n * d
        return memory(partial(LogDet, kernel=self.kernel), n, d, 0 if exact else budget) + drawn

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        if self.theta > 0 and pool.quality is None:
            raise InputError(
                f"strategy.theta is {self.theta}, but there is no quality to weigh: "
                "choose one (quality=response_tokens) or strategy.theta=0."
            )
        rows = by_id(pool)
        X = np.asarray(pool.X[rows])
        gamma = (
            self.gamma
            if self.effective_items is None
            else gamma_for(X, self.effective_items, self.kernel, rng)
        )
        quality = None if pool.quality is None else pool.quality[rows]
        function = LogDet(
            X, kernel=self.kernel, gamma=gamma, ridge=self.ridge, quality=quality, theta=self.theta
        )
        chosen = rng.permutation(self._draw(function, X, budget, rng))
        drawn = Selection(index=chosen, gain=function.gains(chosen))
        selection = complete_pool(drawn, budget, function.bonus, 1 - self.theta)
        return Selection(index=rows[selection.index], gain=selection.gain)

    def _draw(self, function: LogDet, X: np.ndarray, budget: int, rng: np.random.Generator) -> np.ndarray:
        """int64[min(budget, rank)]: rows of X."""
        kernel = function.S
        X = unit(X) if kernel.unit else checked(X).astype(np.float64)
        n, d = X.shape
        log_weight = function.bonus / (1 - self.theta)  # log q^(2a)
        weight = np.exp(log_weight - log_weight.max())  # a common factor cancels
        dual = kernel.finite and self.ridge == 0 and d + 1 < n
        if self.method == "exact" or (self.method == "auto" and (dual or n <= SMALL)):
            if dual:
                return sample_dual(kernel.phi(X, weight), budget, rng)
            S = kernel.similarity(X, X)
            np.fill_diagonal(S, kernel.diagonal)
            return sample(S * np.sqrt(np.outer(weight, weight)), budget, rng)
        start = maximize(function, budget)
        k = len(start)
        steps = steps_enough(n, k) if self.steps is None else self.steps
        logger.info("drawing %d of %d examples: %d steps of the swap chain, from the greedy set", k, n, steps)
        least = (
            float(np.exp((start.gain - function.bonus[start.index]) / (1 - self.theta)).min()) if k else 1.0
        )
        if least < RESOLVED:
            logger.warning(
                "the last greedy picks are all but copies (d² = %.1e): the draw is rough there; raise gamma "
                "or ridge",
                least,
            )
        return walk(partial(_block, kernel, X), kernel.diagonal, weight, start.index, steps, rng, progress)


def _block(kernel: Kernel, X: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return kernel.similarity(X[rows].astype(np.float64), X[columns].astype(np.float64))


def progress(steps: range) -> range:
    from tqdm import tqdm

    return tqdm(steps, desc="swap chain", unit="step", delay=2, leave=False)  # type: ignore[return-value]
