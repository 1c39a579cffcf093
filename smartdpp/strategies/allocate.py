"""Shares become whole numbers of examples: the one place where a budget is rounded, capped and handed out.

The rule is SMART's (arXiv 2403.08370, as in its authors' code): every task gets the floor of its share, the
remainder goes one each to the first tasks, no task gets more than it holds, and what overflows is dealt out
one at a time, round-robin, to the tasks with room. "First" is the order the caller gives: greedy order for
SMART, largest share first for the mixing baselines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smartdpp.errors import InputError
from smartdpp.types import Asked, Pool


def check_budget(budget: int, n: int) -> None:
    """Raises InputError unless 1 <= budget <= n, the number of examples in the pool."""
    if budget < 1:
        raise InputError(
            f"budget is {budget}, but it counts examples: choose at least 1 and at most the pool's {n}."
        )
    if budget > n:
        raise InputError(
            f"budget is {budget}, but the pool holds {n} examples: choose a smaller budget or a larger "
            "corpus."
        )


def check_num_tasks(num_tasks: int | None, available: int) -> int:
    """How many tasks to keep (None: all of them). Raises InputError if that is more than there are."""
    if num_tasks is None:
        return available
    if num_tasks > available:
        raise InputError(
            f"num_tasks is {num_tasks}, but the pool has {available} tasks: choose at most {available}."
        )
    return num_tasks


def weighted(pool: Pool, tasks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64[M]: the weights of ``tasks`` (int64[M], into the pool's), times those that are asked for."""
    return weights if pool.asked is None or pool.asked.weight is None else weights * pool.asked.weight[tasks]


def share_out(
    pool: Pool, tasks: np.ndarray, blocks: Sequence[np.ndarray], weights: np.ndarray, budget: int
) -> tuple[np.ndarray, np.ndarray]:
    """int64[M], how many rows of each task, or tokens where the budget is in tokens, and int64[M], how many
    there can be at most. ``blocks`` are the rows of ``tasks`` that may be chosen. A task of weight 0 gets
    none."""
    asked = pool.asked or Asked()
    sizes = np.array([len(rows) if asked.tokens is None else pool.cost[rows].sum() for rows in blocks])
    most = sizes if asked.repeat is None else sizes * asked.repeat[tasks]
    if asked.most is not None:
        most = np.minimum(most, asked.most[tasks])
    most = np.where(weights > 0, most, 0)
    if asked.tokens is None:
        return allocate(weights, most, budget), most
    return allocate(weights, most, asked.tokens, "tokens"), most


def paid(costs: Sequence[np.ndarray], share: np.ndarray, most: np.ndarray, tokens: int) -> np.ndarray:
    """int64[M]: how many rows of each task, whose ``costs`` stand in the order in which they are taken, its
    ``share`` of the ``tokens`` pays for. What is left over buys further rows while one fits, always of the
    task that is furthest below its share; no task gets above ``most`` tokens."""
    ends = [np.concatenate([[0], np.cumsum(cost, dtype=np.int64)]) for cost in costs]
    count = np.array(
        [np.searchsorted(end, part, side="right") - 1 for end, part in zip(ends, share, strict=True)]
    )
    spent = np.array([end[k] for end, k in zip(ends, count, strict=True)])
    more = [np.append(cost, np.iinfo(np.int64).max) for cost in costs]  # behind the last row nothing fits
    price = np.array([cost[k] for cost, k in zip(more, count, strict=True)])
    while (fits := np.flatnonzero(price <= np.minimum(tokens - spent.sum(), most - spent))).size:
        t = int(fits[np.argmax((share - spent)[fits])])
        spent[t] += price[t]
        count[t] += 1
        price[t] = more[t][count[t]]
    return count


def affordable(cost: np.ndarray, tokens: int) -> int:
    """The most rows that so many tokens can pay for."""
    return int(np.searchsorted(np.cumsum(np.sort(cost)), tokens, side="right"))


def allocate(weights: np.ndarray, sizes: np.ndarray, budget: int, unit: str = "examples") -> np.ndarray:
    """int64[M]: how many examples each task gives, summing to ``budget`` and nowhere above ``sizes``.

    ``weights`` float[M] >= 0, in any scale, and ``sizes`` int[M], both in the order in which remainder and
    overflow are handed out. Raises InputError when the tasks are too small in total.
    """
    weights, sizes = np.asarray(weights), np.asarray(sizes, dtype=np.int64)
    if sizes.sum() < budget:
        raise InputError(
            f"The {len(sizes)} chosen tasks hold {sizes.sum()} {unit} in total, but the budget is "
            f"{budget}: "
            "choose more tasks or a smaller budget."
        )
    # one division of exact integers (where the weights are sizes), so that a whole share is never floored to
    # the one below
    counts = np.floor(budget * weights / weights.sum()).astype(np.int64)
    counts[: budget - counts.sum()] += 1
    counts = np.minimum(counts, sizes)
    while overflow := budget - int(counts.sum()):
        room = np.flatnonzero(counts < sizes)
        # as many whole rounds at once as leave every task with room, then the last, incomplete one
        rounds = min(overflow // len(room), int((sizes - counts)[room].min()))
        counts[room if rounds else room[:overflow]] += max(rounds, 1)
    return counts


def interleave(counts: np.ndarray) -> np.ndarray:
    """A permutation of blocks of these lengths, laid end to end, that spreads each block evenly over the
    whole.

    The r-th of a block of b stands at (r + 1/2) / b; equal places go to the earlier block. Inside a block the
    order stays, and every prefix of the result holds nearly the whole's proportions.
    """
    block = np.repeat(np.arange(len(counts)), counts)
    rank = np.concatenate([np.arange(c) for c in counts]) if len(counts) else np.zeros(0)
    return np.lexsort((block, (rank + 0.5) / np.asarray(counts)[block]))
