"""Rows by their cosine to the examples of a target: the rules that have no submodular function.

s_iq is the cosine of row i and example q of the query, T_t the examples of target t.

| rule | |
|---|---|
| round_robin | the examples take turns in the query's order; each takes the unused row nearest to it |
| max | the k largest of max_q s_iq ("doubly greedy") |
| mean | the k largest of mean_q s_iq |
| less | the k largest of max_t mean_{q∈T_t} s_iq |

Round robin is how RDS+ chooses (Ivison et al. 2025, arXiv 2503.01807); a row that is taken is passed over and
does not cost its example the turn. ``less`` is the rule of LESS (Xia et al. 2024, arXiv 2402.04333), whose
gradients are an embedding. Balanced, targets take turns in place of examples: by the largest or the mean of
their examples' cosines, or round robin among their own. Ties go to the first row.

Cosines are computed in float64 and compared in float32, so that copies tie whatever block they lie in. They
are never kept whole: of round robin, as many of the nearest rows as it may need, at most KEPT numbers, and
where that is too few they are looked for again among what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain, cycle, islice
from typing import Literal

import numpy as np

from smartdpp.functions.features import Features
from smartdpp.types import Selection

log = logging.getLogger(__name__)

KEPT = 2**25  # rows that round robin remembers of all turns together, int32
TILE = 2**24  # cosines of one pass over the pool, float32
ASKED = 100  # rows of a query, where memory is stated before there is one
EQUAL = "every row is equally near to the query, so the first ids are taken"


def closeness(
    pool: Features, query: Features, groups: Sequence[np.ndarray], how: Literal["max", "mean"]
) -> np.ndarray:
    """float32[G, n]: the largest, or the mean, of each row's cosines to every group (int64[g]) of the
    query's rows."""
    import torch

    Q = query.rows(slice(None)).T
    if how == "mean":  # of cosines is the product with the mean
        Q = torch.stack([Q[:, group].mean(1) for group in groups], dim=1)
    found = np.empty((len(groups), pool.shape[0]), dtype=np.float32)
    for piece in pool.blocks():
        S = pool.rows(piece) @ Q
        if how == "max":
            S = torch.stack([S[:, group].amax(1) for group in groups], dim=1)
        found[:, piece] = S.T.cpu().numpy()
    return found


def largest(score: np.ndarray, budget: int) -> Selection:
    """The rows of the largest score (float[n]), the first among equals."""
    if np.ptp(score) == 0:
        log.warning(EQUAL)
    order = np.argsort(-score, kind="stable")[:budget]
    return Selection(order, score[order].astype(np.float64))


def in_turn(
    pool: Features,
    query: Features,
    groups: Sequence[np.ndarray],
    how: Literal["max", "mean"],
    turns: Iterator[int],
    budget: int,
) -> Selection:
    """``turns`` names the group whose turn it is, without an end; each takes the unused row closest to it."""
    order: list[int] = []
    gain: list[float] = []
    taken = np.zeros(pool.shape[0], dtype=bool)
    depth = max(1, min(budget, KEPT // len(groups)))
    turn = next(turns)
    while len(order) < budget:
        best = list(_closest(pool, query, groups, how, taken, depth))
        if not order and not any(unequal for _, _, unequal in best):
            log.warning(EQUAL)
        at = [0] * len(groups)
        while len(order) < budget:
            rows, score, _ = best[turn]
            while at[turn] < len(rows) and taken[rows[at[turn]]]:
                at[turn] += 1
            if at[turn] == len(rows):
                break  # what is remembered of it is used up
            row = int(rows[at[turn]])
            taken[row] = True
            order.append(row)
            gain.append(float(score[at[turn]]))
            turn = next(turns)
    return Selection(np.array(order, dtype=np.int64), np.array(gain))


def nearest_rows(pool: Features, query: Features, count: int) -> tuple[np.ndarray, np.ndarray]:
    """int64[m, count], the rows nearest to each of the query's, nearest first, and their cosines,
    float32[m, count]."""
    every = list(np.arange(query.shape[0])[:, None])
    found = list(_closest(pool, query, every, "mean", np.zeros(pool.shape[0], dtype=bool), count))
    return np.stack([rows for rows, _, _ in found]).astype(np.int64), np.stack([s for _, s, _ in found])


def by_turns(groups: Sequence[np.ndarray]) -> Iterator[int]:
    """The members of all groups, one of each group at a time, each group's own in a circle, without an
    end."""
    circles = [cycle(group.tolist()) for group in groups]
    return chain.from_iterable(zip(*circles, strict=True))


def _closest(
    pool: Features,
    query: Features,
    groups: Sequence[np.ndarray],
    how: Literal["max", "mean"],
    taken: np.ndarray,
    depth: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """By group, int32[depth] rows that are not taken, closest first; float32[depth]; and whether any rows of
    the pool differ."""
    waiting, step = iter(groups), max(1, TILE // pool.shape[0])
    while tile := list(islice(waiting, step)):
        for score in closeness(pool, query, tile, how):
            unequal = bool(np.ptp(score) > 0)
            score[taken] = -np.inf
            rows = closest(score, min(depth, len(taken) - int(taken.sum())))
            yield rows.astype(np.int32), score[rows], unequal


def closest(score: np.ndarray, count: int) -> np.ndarray:
    """int64[count]: the rows of the largest score, the first among equals."""
    if count < len(score):
        least = np.partition(score, len(score) - count)[len(score) - count]
        some = np.flatnonzero(score >= least)
    else:
        some = np.arange(len(score))
    return some[np.argsort(-score[some], kind="stable")[:count]]
