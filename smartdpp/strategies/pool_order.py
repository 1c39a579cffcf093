"""A pool is a set of examples, not a list: these views of it do not depend on how its rows or its task names
are ordered.

Strategies look at the pool only through them, so ties and random draws fall on the same ids however the rows
were shuffled. They hold row numbers, not features: a memory-mapped ``X`` is read only where a strategy
indexes it.
"""

from __future__ import annotations

import numpy as np

from smartdpp.errors import InputError
from smartdpp.types import Pool


def by_id(pool: Pool) -> np.ndarray:
    """int64[n]: the pool's rows, sorted by id."""
    return np.argsort(pool.ids, kind="stable")


def started(pool: Pool, rows: np.ndarray) -> np.ndarray:
    """bool[n]: which of ``rows`` earlier rounds have chosen."""
    return np.zeros(len(rows), dtype=bool) if pool.start is None else np.isin(rows, pool.start)


def targets(pool: Pool, strategy: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """The query, float32[m, d], and the rows of it (int64[m_t]) that are of each target, in its order; one
    target where the pool does not say. InputError without a query, or with an empty one."""
    if pool.query is None or not len(pool.query):
        what = "without a query" if pool.query is None else "with an empty query"
        raise InputError(
            f"strategy={strategy} was given a pool {what}: Pool.query holds it, a row at least, in the space "
            "of X."
        )
    task = np.zeros(len(pool.query), dtype=np.int64) if pool.query_task is None else pool.query_task
    return pool.query, [np.flatnonzero(task == t) for t in np.unique(task)]


def by_task(pool: Pool) -> tuple[np.ndarray, list[np.ndarray]]:
    """The tasks that have rows, sorted by name (int64[M], into ``pool.names``), and each one's rows, sorted
    by id."""
    rows = by_id(pool)
    rows = rows[np.argsort(pool.task[rows], kind="stable")]
    tasks, starts = np.unique(pool.task[rows], return_index=True)
    blocks = np.split(rows, starts[1:])
    order = sorted(range(len(tasks)), key=lambda j: pool.names[tasks[j]])
    return tasks[order], [blocks[j] for j in order]
