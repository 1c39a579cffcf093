"""Shares become whole numbers of examples: the one place where a budget is rounded, capped and handed out.

The rule is SMART's (arXiv 2403.08370, as in its authors' code): every task gets the floor of its share, the
remainder goes one each to the first tasks, no task gets more than it holds, and what overflows is dealt out
one at a time, round-robin, to the tasks with room. "First" is the order the caller gives: greedy order for
SMART, largest share first for the mixing baselines.
"""

from __future__ import annotations

import numpy as np

from smartdpp.errors import InputError


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


def allocate(weights: np.ndarray, sizes: np.ndarray, budget: int) -> np.ndarray:
    """int64[M]: how many examples each task gives, summing to ``budget`` and nowhere above ``sizes``.

    ``weights`` float[M] >= 0, in any scale, and ``sizes`` int[M], both in the order in which remainder and
    overflow are handed out. Raises InputError when the tasks are too small in total.
    """
    weights, sizes = np.asarray(weights), np.asarray(sizes, dtype=np.int64)
    if sizes.sum() < budget:
        raise InputError(
            f"The {len(sizes)} chosen tasks hold {sizes.sum()} examples in total, but the budget is "
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
