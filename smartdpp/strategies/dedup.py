"""Near-duplicate removal: one example of each group of near-copies, then a uniform draw from what is left.

Leader clustering (Hartigan 1975): examples are read in one fixed order, and an example is kept unless its
cosine with one kept before reaches the threshold. So no two kept examples are near-duplicates of each other,
and every removed one has a kept near-duplicate. Connected components, the alternative, promise only the
first: they chain, and a removed example may resemble nothing that is kept. Embedding-based removal from
training data follows SemDeDup (Abbas et al., arXiv 2303.09540).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id, started
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)

BLOCK = 1024  # examples compared at a time: bounds the similarities held to BLOCK x n
ROUNDING = 1e-6  # float32 cosines of equal vectors fall this short of 1


@dataclass(frozen=True)
class Dedup:
    """``threshold`` is the cosine from which on two examples are near-duplicates; ``first`` says which of a
    group stays: the one with the lowest id, or the one of highest quality (ties by id).

    The kept examples come in random order; where they are fewer than the budget, the removed ones fill it, in
    random order too, and their number is logged. What is near a row that is chosen already counts as removed.
    A smaller budget is a prefix of a larger one. There is no objective, so every gain is 0.
    """

    nested: ClassVar[bool] = True
    honours: ClassVar[tuple[str, ...]] = ("start", "outside")
    threshold: float = 0.95
    first: Literal["id", "quality"] = "id"

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InputError(
                f"strategy.threshold is {self.threshold}: it is a cosine, above 0 and at most 1 (0.95 is "
                "usual)."
            )

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        rows = by_id(pool)
        if self.first == "quality":
            if pool.quality is None:
                raise InputError(
                    "strategy.first=quality, but there is no quality: choose one (quality=response_tokens)."
                )
            rows = rows[np.argsort(-pool.quality[rows], kind="stable")]
        before = started(pool, rows)
        rows = np.concatenate([rows[before], rows[~before]])
        is_leader = leaders(pool.X, rows, self.threshold)
        is_leader, rows = is_leader[before.sum() :], rows[before.sum() :]
        kept, removed = rows[is_leader], rows[~is_leader]
        logger.info(
            "%d of %d examples are near-duplicates (cosine of %g or more) of a kept one",
            len(removed),
            len(pool),
            self.threshold,
        )
        if len(kept) < budget:
            logger.warning(
                "only %d examples are left without near-duplicates: %d removed ones fill the budget of %d",
                len(kept),
                budget - len(kept),
                budget,
            )
        return Selection(
            index=np.concatenate([rng.permutation(kept), rng.permutation(removed)])[:budget],
            gain=np.zeros(budget),
        )


def leaders(X: np.ndarray, order: np.ndarray, threshold: float, most: int | None = None) -> np.ndarray:
    """bool[n]: which rows of X (n, d), read in ``order`` (int[n]), have a cosine below ``threshold`` with
    every leader before them; the first ``most`` of these, where that is given.

    A row of zeros has cosine 0 with everything. Time n · leaders · d in float32 products; memory the leaders
    and BLOCK x n cosines.
    """
    floor = threshold - ROUNDING
    is_leader = np.zeros(len(order), dtype=bool)
    kept = np.empty((0, X.shape[1]), dtype=np.float32)  # the first n_kept rows are the leaders so far
    n_kept = 0
    for start in range(0, len(order), BLOCK):
        block = np.asarray(X[order[start : start + BLOCK]], dtype=np.float32)
        block = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        near = (block @ kept[:n_kept].T >= floor).any(axis=1)
        inside = block @ block.T >= floor
        for i in range(len(block)):
            if not near[i]:
                near[i + 1 :] |= inside[i, i + 1 :]
        if most is not None:
            near[np.flatnonzero(~near)[most - n_kept :]] = True
        is_leader[start : start + len(block)] = ~near
        new = block[~near]
        if n_kept + len(new) > len(kept):  # grow by doubling, as appending would copy every time
            kept = np.concatenate(
                [kept[:n_kept], np.empty((max(len(new), n_kept, BLOCK), X.shape[1]), dtype=np.float32)]
            )
        kept[n_kept : n_kept + len(new)] = new
        n_kept += len(new)
        if n_kept == most:
            break
    return is_leader
