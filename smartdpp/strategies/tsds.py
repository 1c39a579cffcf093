"""TSDS: a distribution over the pool that is close to the query's and spread where the pool is dense (Liu,
Karbasi and Rekatsinas 2024, arXiv 2410.11303).

Every example j of the query, of m, has a mass of 1/m for its nearest rows, d_j1 <= d_j2 <= ... away; a row of
density ρ takes 1 / (m s ρ) of it, and so the s-th part of it goes as far as c_jk = Σ_{i<=k} 1/ρ_ji reaches s.
A larger s is more even and farther away: it grows while

    α/C Σ_{j,k: c_jk <= s} c_jk (d_j,k+1 - d_jk) < (1 - α) m,

the left side being the way that the mass has to go for it. ρ is a kernel density, Σ max(0, 1 - D²/σ²) over
all rows that are near to the query, so that near copies share what one of them would have; with σ = 0 it is 1
(KNN-uniform). Distances are Euclidean, between unit vectors. The authors' code sums over a row's 1,000
nearest at most, found approximately.

The authors draw rows by these probabilities; papers that compare with them take the largest. Rows that have
none follow by their largest cosine to the query.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.features import Features
from smartdpp.functions.mutual_information import query_of
from smartdpp.runtime.memory import selection
from smartdpp.strategies import query_rules
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id, targets
from smartdpp.types import Pool, Query, Selection

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

FIRST = 64  # neighbours of each example whose density is looked at first; twice as many where s goes farther
ROWS, COLUMNS = 512, 4096  # kernel values at a time, float32: they stay in cache


@dataclass(frozen=True)
class Tsds:
    """The rows of the largest probability, the first id among equals; with ``sample`` drawn by them, without
    replacement. ``neighbors``: of each example, at most, and at most a tenth of the pool.

    ``alpha`` in (0, 1) weighs nearness to the query against evenness; ``C`` is a length like those of the
    vectors. A smaller budget is a prefix of a larger one. The gain is the probability.
    """

    query: Query
    sigma: float = 0.75
    alpha: float = 0.5
    C: float = 5.0
    neighbors: int = 5000
    sample: bool = False
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < np.inf:
            raise InputError(f"strategy.sigma is {self.sigma}: choose a length, or 0 for no density.")
        if not 0 < self.alpha < 1:
            raise InputError(f"strategy.alpha is {self.alpha}: choose a number between 0 and 1.")
        if not 0 < self.C < np.inf:
            raise InputError(f"strategy.C is {self.C}: choose a positive length.")
        if self.neighbors < 2:
            raise InputError(f"strategy.neighbors is {self.neighbors}: choose 2 or more.")

    def check(self) -> list[str]:
        return self.query.check()

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float | None:
        near = min(n, query_rules.ASKED * min(self.neighbors, n // 10 + 2))
        return selection(n, d) + 4 * near * d + 40 * near + 4 * query_rules.ASKED * n

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        query, _ = targets(pool, "tsds")
        rows = by_id(pool)
        X = Features(pool.X[rows])
        p = self.probabilities(X, query_of(query, X))
        key = np.log(p, out=np.full(len(p), -np.inf), where=p > 0)
        if self.sample:
            key += rng.gumbel(size=len(p))
        some = int((p > 0).sum())
        if some < budget:
            log.warning(
                "strategy=tsds: %d rows have a probability; the other %d are those nearest to the query (a "
                "smaller strategy.alpha reaches farther)",
                some,
                budget - some,
            )
        near = query_rules.closeness(X, query_of(query, X), [np.arange(len(query))], "max")[0]
        order = np.lexsort((np.arange(len(p)), np.where(p > 0, 0, -near), -key))[:budget]
        return Selection(rows[order], p[order])

    def probabilities(self, X: Features, Q: Features) -> np.ndarray:
        """float64[n], which sum to 1."""
        m, n = Q.shape[0], X.shape[0]
        if n == 1:
            return np.ones(1)
        count = min(n, self.neighbors, max(2, n // 10))
        near, s = query_rules.nearest_rows(X, Q, count)
        d = np.sqrt(np.maximum(2 - 2 * s.astype(np.float64), 0))
        density = Densities(X, np.unique(near), self.sigma)
        depth = min(FIRST, count)
        while True:
            c = np.cumsum(1 / density(near[:, :depth]), axis=1)
            known = min(depth, count - 1)  # the last neighbour has none beyond it
            reach, way = c[:, :known], c[:, :known] * np.diff(d[:, : known + 1], axis=1)
            order = np.argsort(reach, axis=None, kind="stable")
            ended = np.searchsorted(np.cumsum(way.ravel()[order]), (1 - self.alpha) * m * self.C / self.alpha)
            s_end = reach.ravel()[order[min(int(ended), order.size - 1)]]
            if depth == count or (ended < order.size and s_end < c[:, -1].min()):
                break
            depth = min(2 * depth, count)
        filled = np.minimum(c, s_end)
        if depth == count:
            filled[:, -1] = s_end  # what is left goes to the farthest
        p = np.zeros(n)
        np.add.at(p, near[:, :depth], np.diff(filled, axis=1, prepend=0) / (m * s_end))
        return p


class Densities:
    """Kernel densities of rows among ``union`` (int64[u], sorted), each computed when it is first asked
    for."""

    def __init__(self, X: Features, union: np.ndarray, sigma: float) -> None:
        self.X, self.union, self.sigma = X, union, sigma
        self.known = np.full(len(union), np.nan if sigma else 1.0)

    @cached_property
    def near(self) -> torch.Tensor:
        """float32[u, d]"""
        import torch

        found = torch.empty((len(self.union), self.X.shape[1]), device=self.X.device)
        for piece in self.X.blocks(self.union):
            found[piece] = self.X.take(self.union[piece], torch.float32)
        return found

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float64, at least 1, of the shape of ``rows``, which lie in the union."""
        at = np.searchsorted(self.union, rows)
        new = np.unique(at[np.isnan(self.known[at])])
        for a in range(0, len(new), ROWS):
            piece = new[a : a + ROWS]
            self.known[piece] = np.maximum(self._summed(piece), 1)  # each is near to itself
        return self.known[at]

    def _summed(self, rows: np.ndarray) -> np.ndarray:
        """float64[r]: Σ max(0, 1 - D²/σ²), with D² = 2 - 2 cos."""
        import torch

        some = self.near[torch.as_tensor(rows, device=self.X.device)]
        density = torch.zeros(len(rows), dtype=torch.float64, device=self.X.device)
        for b in range(0, len(self.union), COLUMNS):
            cos = some @ self.near[b : b + COLUMNS].T
            density += cos.mul_(2 / self.sigma**2).add_(1 - 2 / self.sigma**2).clamp_(min=0).sum(1)
        return density.cpu().numpy()
