"""Exactly the budget, even when greedy runs out of distinct examples.

A log determinant without ridge stops when every example left is numerically a copy of a chosen one (d² <
1e-10). The budget is a promise, so copies fill it up: they add no diversity, and are taken by what else the
objective holds (quality), then by index.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from smartdpp.functions.logdet import CLAMP
from smartdpp.types import Selection

logger = logging.getLogger(__name__)


def complete(
    chosen: Selection,
    budget: int,
    bonus: np.ndarray,
    weight: float = 1.0,
    taken: np.ndarray | Sequence[int] = (),
) -> Selection:
    """``chosen``, filled up to ``budget`` rows by descending ``bonus`` (float[n], the objective's other
    term), then by index, with rows that are neither in it nor ``taken``.

    A copy's gain is bonus + weight · log 1e-20, the value at which the log determinant clamps d².
    """
    rest = np.setdiff1d(
        np.arange(len(bonus)), np.concatenate([chosen.index, np.asarray(taken, dtype=np.int64)])
    )
    copies = rest[np.argsort(-bonus[rest], kind="stable")][: budget - len(chosen)]
    return Selection(
        index=np.concatenate([chosen.index, copies]),
        gain=np.concatenate([chosen.gain, bonus[copies] + weight * np.log(CLAMP)]),
    )


def complete_pool(
    chosen: Selection,
    budget: int,
    bonus: np.ndarray,
    weight: float = 1.0,
    taken: np.ndarray | Sequence[int] = (),
) -> Selection:
    """``chosen`` from all the rows that ``bonus`` has, completed as by ``complete``; how many copies that
    takes is logged."""
    if len(chosen) == budget:
        return chosen
    logger.warning(
        "only %d examples differ: %d copies of them fill the budget of %d, by quality and then by id",
        len(chosen),
        budget - len(chosen),
        budget,
    )
    return complete(chosen, budget, bonus, weight, taken)
