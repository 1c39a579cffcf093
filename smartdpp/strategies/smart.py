"""SMART: choose tasks, weigh them, choose examples inside each (Renduchintala et al., arXiv 2403.08370, and
the authors' code).

Stage 1 maximises a submodular function f1 greedily over one vector a task: the mean of its prompt embeddings,
unless the pool brings other task vectors. The gains become shares through a second-order Taylor softmax, and
the shares become numbers of examples. Stage 2 takes that many of the greedy order of f2 inside every task.
Nothing is sampled: ties go to the first task by name and the first example by id. Greedy is exact here; the
authors' library (submodlib) runs it lazily, which is not exact where gains grow, as graph cut's do where
similarities are negative: of 60 picks from random pools 28 to 47 % were then the same as exact greedy's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut
from smartdpp.functions.lazy import LazyRows
from smartdpp.functions.state import Function
from smartdpp.greedy import maximize
from smartdpp.runtime import current
from smartdpp.strategies.allocate import (
    affordable,
    allocate,
    check_budget,
    check_num_tasks,
    interleave,
    paid,
    share_out,
    weighted,
)
from smartdpp.strategies.automatic import Auto, decide
from smartdpp.strategies.complete import complete
from smartdpp.strategies.pool_order import by_task, started
from smartdpp.strategies.spread import memory, recorded, unread
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskBudgets:
    """Stage 1's outcome, one entry for each chosen task in greedy order."""

    order: np.ndarray  # int64[M'], an index into pool.names
    gain: np.ndarray  # float64[M'], of f1, as it was maximised
    share: np.ndarray  # float64[M'], sums to 1
    budget: np.ndarray  # int64[M'], examples, after rounding and caps; tokens under a budget in tokens


@dataclass(frozen=True)
class Smart:
    """``tasks`` and ``instances`` make f1 and f2 from a feature matrix (n, d); ``num_tasks`` is M', None for
    all the tasks.

    What is left open is decided from the data: ``num_tasks`` "auto", and an `Auto` in the place of a
    function. See smartdpp.strategies.automatic for the rule. M' may then differ between budgets, so that
    budgets are nested no longer.

    The selection interleaves the tasks, each in its own greedy order, so that every prefix is spread over the
    tasks nearly as the whole is. Gains are those of f2 and compare inside a task only. A budget is nested in
    a larger one task by task: a task's examples are always the first of one order, which does not depend on
    the budget. How many they are is rounded anew, so a larger budget may give a single task one example less.
    ``normalize_gains`` divides the gains of f1 by the largest before the softmax, which bounds the ratio of
    any two shares by 5 : 2 where the gains are not negative.

    Of rows that are chosen already, f2 knows; shares are of what is added. Under a budget in tokens they are
    of tokens, and each task's order is taken as far as they reach.
    """

    tasks: Callable[[np.ndarray], Function] | Auto = GraphCut
    instances: Callable[[np.ndarray], Function] | Auto = FacilityLocation
    num_tasks: int | Literal["auto"] | None = None
    normalize_gains: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.num_tasks, int) and self.num_tasks < 1:
            raise InputError(
                f"strategy.num_tasks is {self.num_tasks}: give a positive number of tasks, null for all, or "
                "auto."
            )
        if not 0 < self.temperature < np.inf:
            raise InputError(
                f"strategy.temperature is {self.temperature}: it divides the gains and must be a positive "
                "number."
            )

    @property
    def honours(self) -> tuple[str, ...]:
        """What is left open is decided for a number of examples, none of which is chosen yet."""
        open_ = self.num_tasks == "auto" or isinstance(self.tasks, Auto) or isinstance(self.instances, Auto)
        return ("weights", "max_share", *(() if open_ else ("tokens", "start", "outside")))

    def check(self) -> list[str]:
        return []

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float:
        # what is left open is tried, and facility location keeps the most
        make = FacilityLocation if isinstance(self.instances, Auto) else self.instances
        return n * d * 4 + memory(make, largest, d, min(budget, largest))

    def task_budgets(self, pool: Pool, budget: int, *, warn: bool = True) -> TaskBudgets:
        """Stage 1: which tasks, and how many examples of each."""
        check_budget(budget, len(pool))
        if isinstance(self.num_tasks, str) or isinstance(self.tasks, Auto):
            return decide(self, pool, budget).task_budgets(pool, budget, warn=warn)
        tasks, blocks = by_task(pool)
        kept = check_num_tasks(self.num_tasks, len(tasks))
        if pool.task_vectors is None:
            vectors = np.stack([pool.X[rows].mean(axis=0, dtype=np.float64) for rows in blocks])
        else:
            vectors = pool.task_vectors[tasks]
        chosen = maximize(self.tasks(vectors), kept)
        if len(chosen) < kept:
            raise InputError(
                f"num_tasks is {kept}, but only {len(chosen)} tasks differ in their vectors, as "
                "strategy.tasks measures it: "
                "choose fewer tasks, or a function with a ridge (strategy.tasks.ridge=1)."
            )
        gains = chosen.gain
        if self.normalize_gains and gains.any():
            gains = gains / np.abs(gains).max()
        order = tasks[chosen.index]
        weights = weighted(pool, order, taylor_exp(gains / self.temperature))
        counts, _ = share_out(pool, order, [_free(pool, blocks[j]) for j in chosen.index], weights, budget)
        stage1 = TaskBudgets(order=order, gain=chosen.gain, share=weights / weights.sum(), budget=counts)
        if warn:
            _warn(stage1, pool.names, int(counts.sum()), gains.min() / self.temperature)
        return stage1

    def plan(self, pool: Pool, stage1: TaskBudgets) -> list[tuple[int, np.ndarray, int]]:
        """Task, rows and how many of these (or of their tokens): for every chosen task, or each of its
        template pools, that gives examples."""
        rows_of = dict(zip(*by_task(pool), strict=True))
        return [
            (int(task), rows, k)
            for task, count in zip(stage1.order, stage1.budget, strict=True)
            for rows, k in template_pools(pool, rows_of[task], count)
        ]

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        if (
            isinstance(self.num_tasks, str)
            or isinstance(self.tasks, Auto)
            or isinstance(self.instances, Auto)
        ):
            return decide(self, pool, budget).select(pool, budget, rng)
        pieces = self.plan(pool, stage1 := self.task_budgets(pool, budget))
        picks = self.orders(pool, pieces) if _in_rows(pool) else self._bought(pool, pieces, stage1)
        spread = interleave(np.array([len(pick) for pick in picks]))
        return Selection(
            index=np.concatenate([pick.index for pick in picks])[spread],
            gain=np.concatenate([pick.gain for pick in picks])[spread],
        )

    def _bought(
        self, pool: Pool, pieces: Sequence[tuple[int, np.ndarray, int]], stage1: TaskBudgets
    ) -> list[Selection]:
        """As many of each order as its tokens pay for, with what others leave over."""
        asked = pool.asked
        assert asked is not None
        assert asked.tokens is not None
        share = np.array([tokens for *_, tokens in pieces])
        task = np.array([task for task, *_ in pieces])
        most = np.full(len(pieces), asked.tokens)
        if asked.most is not None:  # what shares a task's limit does not grow
            most = np.where(np.bincount(task)[task] == 1, asked.most[task], share)
        costs = [pool.cost[_free(pool, rows)] for _, rows, _ in pieces]
        orders = self.orders(
            pool,
            [
                (task, rows, max(1, affordable(cost, tokens + int(cost.max()))))
                for (task, rows, tokens), cost in zip(pieces, costs, strict=True)
            ],
        )
        counts = paid([pool.cost[order.index] for order in orders], share, most, asked.tokens)
        return [
            Selection(index=order.index[:k], gain=order.gain[:k])
            for order, k in zip(orders, counts, strict=True)
        ]

    def orders(self, pool: Pool, pieces: Sequence[tuple[int, np.ndarray, int]]) -> list[Selection]:
        """Stage 2, by the runtime in use: for every task, or template pool of one, k of its rows, as rows of
        the whole pool."""

        def arguments(i: int) -> tuple[Any, ...]:
            task, rows, k = pieces[i]
            start = np.flatnonzero(started(pool, rows))
            return self.instances, LazyRows(pool.X, rows), k, pool.names[task], start

        found = current().map(
            _greedy_order, arguments, [len(rows) for _, rows, _ in pieces], "examples of each task"
        )
        return [
            self._whole(pool, rows, k, task, order)
            for (task, rows, k), order in zip(pieces, found, strict=True)
        ]

    def _whole(self, pool: Pool, rows: np.ndarray, k: int, task: int, chosen: Selection) -> Selection:
        """``chosen`` within a task, as rows of the whole pool; copies fill it up to k."""
        start = np.flatnonzero(started(pool, rows))
        if not len(start):  # without which gains of a log determinant would be others
            chosen = recorded(unread(self.instances, pool.X, rows), chosen)  # type: ignore[arg-type]  # nothing is left open by now
        if len(chosen) < k:
            logger.warning(
                "task %r: %d of %d examples are copies of others, taken to fill its budget",
                pool.names[task],
                k - len(chosen),
                k,
            )
            chosen = complete(chosen, k, bonus=np.zeros(len(rows)), taken=start)
        return Selection(index=rows[chosen.index], gain=chosen.gain)


def _in_rows(pool: Pool) -> bool:
    return pool.asked is None or pool.asked.tokens is None


def _free(pool: Pool, rows: np.ndarray) -> np.ndarray:
    """Those of ``rows`` that are not chosen already."""
    return rows if pool.start is None else rows[~started(pool, rows)]


def _size(pool: Pool, rows: np.ndarray) -> int:
    """How many of them may be chosen, or tokens of these under a budget in tokens."""
    free = _free(pool, rows)
    return len(free) if _in_rows(pool) else int(pool.cost[free].sum())


def _greedy_order(
    function: Callable[[np.ndarray], Function], rows: LazyRows, k: int, name: str, start: np.ndarray
) -> Selection:
    """The first k of these rows, those of one task, in greedy order; fewer where the others are copies."""
    try:
        return maximize(function(rows.read()), k, start=start)
    except InputError as error:  # it counts rows within the task
        raise InputError(f"Choosing examples of task {name!r}: {error}") from error


def taylor_exp(x: np.ndarray) -> np.ndarray:
    """1 + x + x²/2, the numerator of the Taylor softmax: positive everywhere, growing only above x = -1."""
    return 1 + x + x**2 / 2


def template_pools(pool: Pool, rows: np.ndarray, count: int) -> list[tuple[np.ndarray, int]]:
    """A task's rows and budget, split over its FLAN template pools: zero-shot against few-shot by their
    sizes, then in each the templates with answer options against those without. A task without template types
    is one pool. Pools that get nothing are left out.
    """
    label = np.full(len(rows), "") if pool.template is None else pool.template[rows]
    types = {label or "" for label in label.tolist()}
    if types == {""}:
        return [(rows, count)] if count else []
    if unknown := types - {"zs_opt", "zs_noopt", "fs_opt", "fs_noopt"}:
        raise InputError(
            f"Task {pool.names[pool.task[rows[0]]]!r} has the template types {sorted(unknown)}: every "
            "example of a task must have one of "
            "zs_opt, zs_noopt, fs_opt and fs_noopt, or none of them any."
        )
    shots = [[rows[label == f"{shot}_{options}"] for options in ("opt", "noopt")] for shot in ("zs", "fs")]
    return [
        (rows, int(k))
        for pools, shot_count in zip(
            shots, _split([sum(_size(pool, rows) for rows in pools) for pools in shots], count), strict=True
        )
        for rows, k in zip(pools, _split([_size(pool, rows) for rows in pools], shot_count), strict=True)
        if k
    ]


def _split(sizes: list[int], count: int) -> np.ndarray:
    """``count`` in proportion to ``sizes``, the remainder to the first."""
    return (
        allocate(np.array(sizes), np.array(sizes), count) if count else np.zeros(len(sizes), dtype=np.int64)
    )


def _warn(stage1: TaskBudgets, names: list[str], budget: int, lowest: float) -> None:
    """Says where the paper's rule does something its user may not expect."""
    top = int(stage1.share.argmax())
    if len(stage1.order) > 1 and stage1.share[top] > 0.5:
        logger.warning(
            "task %r takes %.1f %% of the budget of %d before caps, more than all others together. Such "
            "shares come from the gains of "
            "strategy.tasks: strategy.normalize_gains=true or a higher strategy.temperature evens them.",
            names[stage1.order[top]],
            100 * stage1.share[top],
            budget,
        )
    if lowest < -1:
        logger.warning(
            "task gains reach down to %.3g, but the Taylor softmax grows again below -1: worse tasks get "
            "larger shares.",
            lowest,
        )
    if idle := int((stage1.budget == 0).sum()):
        logger.warning(
            "the budget of %d leaves %d of the %d chosen tasks without an example.",
            budget,
            idle,
            len(stage1.budget),
        )
