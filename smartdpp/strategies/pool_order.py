"""A pool is a set of examples, not a list: these views of it do not depend on how its rows or its task names
are ordered.

Strategies look at the pool only through them, so ties and random draws fall on the same ids however the rows
were shuffled. They hold row numbers, not features: a memory-mapped ``X`` is read only where a strategy
indexes it.
"""

from __future__ import annotations

import numpy as np

from smartdpp.types import Pool


def by_id(pool: Pool) -> np.ndarray:
    """int64[n]: the pool's rows, sorted by id."""
    return np.argsort(pool.ids, kind="stable")


def started(pool: Pool, rows: np.ndarray) -> np.ndarray:
    """bool[n]: which of ``rows`` earlier rounds have chosen."""
    return np.zeros(len(rows), dtype=bool) if pool.start is None else np.isin(rows, pool.start)


def by_task(pool: Pool) -> tuple[np.ndarray, list[np.ndarray]]:
    """The tasks that have rows, sorted by name (int64[M], into ``pool.names``), and each one's rows, sorted
    by id."""
    rows = by_id(pool)
    rows = rows[np.argsort(pool.task[rows], kind="stable")]
    tasks, starts = np.unique(pool.task[rows], return_index=True)
    blocks = np.split(rows, starts[1:])
    order = sorted(range(len(tasks)), key=lambda j: pool.names[tasks[j]])
    return tasks[order], [blocks[j] for j in order]
