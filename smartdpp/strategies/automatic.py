"""How many tasks, and which functions: decided from the data and the budget, by how close a mixture comes to
tasks it was not made for.

The tasks that matter are those that are evaluated on, which nothing here may look at. Every task of the pool
can stand in for one: leave its examples out of the mixture, and see how near the rest of the mixture comes to
it. With T tasks and the mixture X,

    c_t(X) = mean over examples i of t of  max_{j∈X, task(j) ≠ t} s_ij        c(X) = mean over t of c_t(X)

s the cosine similarity, a negative one counting as 0. Where a loss changes little between neighbours, that of
an example is bounded by that of the nearest trained one and their distance (the core-set argument of Sener
and Savarese 2018, arXiv 1708.00489), so the mixture that comes nearest is the one to train on. More tasks
bring more neighbourhoods, more examples of each fill them: the budget decides.

The rule. Mixtures are made for M' = 1, 2, 4, ... and all tasks (doubling, as in SMART's own sweep), with each
pair of functions that is left open. The pair is that of the mixture with the highest c. Of the M' with this
pair, the smallest is taken that loses no more of c than one standard error, the paired differences over the T
tasks giving it (the one-standard-error rule of Breiman et al. 1984): fewer tasks where more do not clearly
help. A mixture that cannot be made, its tasks too small for the budget, is no candidate. Nothing is drawn and
there is nothing to tune.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.strategies.pool_order import by_task
from smartdpp.types import Pool, Selection

logger = logging.getLogger(__name__)

PROBES = 32  # examples of a task that are looked at, evenly spread over its ids
Name = Literal["facility_location", "graph_cut", "logdet"]
FUNCTIONS: dict[Name, Callable[[Any], Any]] = {
    "facility_location": FacilityLocation,
    "graph_cut": GraphCut,
    "logdet": LogDet,
}


@dataclass(frozen=True)
class Auto:
    """In the place of f1 or f2: whichever of these functions, with its default parameters, suits the pool and
    the budget best."""

    candidates: list[Name] = field(default_factory=lambda: list(FUNCTIONS))

    def __post_init__(self) -> None:
        unknown = [name for name in self.candidates if name not in FUNCTIONS]
        if unknown or not self.candidates:
            raise InputError(f"candidates is {self.candidates}: name at least one of {', '.join(FUNCTIONS)}.")


class TwoStage(Protocol):
    """What is asked of a strategy that chooses tasks, then examples of each:
    smartdpp.strategies.smart.Smart."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def tasks(self) -> Any: ...
    @property
    def instances(self) -> Any: ...
    @property
    def num_tasks(self) -> int | Literal["auto"] | None: ...
    def task_budgets(self, pool: Pool, budget: int, *, warn: bool = True) -> Any: ...
    def plan(self, pool: Pool, stage1: Any) -> list[tuple[int, np.ndarray, int]]: ...
    def orders(self, pool: Pool, pieces: Sequence[tuple[int, np.ndarray, int]]) -> list[Selection]: ...


S = TypeVar("S", bound=TwoStage)


def decide(smart: S, pool: Pool, budget: int) -> S:
    """``smart`` with nothing left open. Raises InputError where no candidate can be made."""
    best: tuple[float, list[S], np.ndarray] | None = None
    refusal: InputError | None = None
    for first, second in ((f1, f2) for f2 in _named(smart.instances) for f1 in _named(smart.tasks)):
        choices, plans = [], []
        for kept in _grid(smart, pool):
            choice = replace(smart, tasks=first, instances=second, num_tasks=kept)
            try:
                plans.append(choice.plan(pool, choice.task_budgets(pool, budget, warn=False)))
            except InputError as error:
                refusal = error
                continue
            choices.append(choice)
        if not choices:
            continue
        c = nearness(pool, choices[0], plans)
        if best is None or c.mean(axis=1).max() > best[0]:
            best = float(c.mean(axis=1).max()), choices, c
    if best is None:
        assert refusal is not None
        raise refusal
    _, choices, c = best
    chosen = choices[smallest_within_one_error(c)]
    logger.info(
        "decided from the data: %s of %d tasks, chosen by %s, examples by %s; an example finds a neighbour "
        "of cosine %.3f in other tasks "
        "(tried: %s)",
        chosen.num_tasks,
        c.shape[1],
        _name(chosen.tasks),
        _name(chosen.instances),
        c.mean(axis=1)[choices.index(chosen)],
        ", ".join(
            f"{choice.num_tasks}: {mean:.3f}" for choice, mean in zip(choices, c.mean(axis=1), strict=True)
        ),
    )
    return chosen


def nearness(pool: Pool, smart: TwoStage, plans: list[list[tuple[int, np.ndarray, int]]]) -> np.ndarray:
    """float64[number of plans, T]: c_t of every plan's mixture, the plans being those of `Smart.plan` with
    the same f2.

    A task's order is made once, for the largest number any plan takes of it: the others take a prefix.
    """
    _, blocks = by_task(pool)
    shown = [block[np.unique(np.linspace(0, len(block) - 1, PROBES).round().astype(int))] for block in blocks]
    probe = np.concatenate(shown)
    task, V = pool.task[probe], _unit(pool.X[probe])
    # a pool of rows is known by its task and its first row
    most: dict[tuple[int, int], tuple[np.ndarray, int]] = {}
    counts: list[dict[tuple[int, int], int]] = []
    for plan in plans:
        counts.append({(t, int(rows[0])): k for t, rows, k in plan})
        for t, rows, k in plan:
            key = t, int(rows[0])
            most[key] = rows, max(k, most[key][1] if key in most else 0)
    best = np.zeros((len(plans), len(probe)))
    orders = smart.orders(pool, [(t, rows, k) for (t, _), (rows, k) in most.items()])
    for key, order in zip(most, orders, strict=True):
        others = task != key[0]
        # of the first 1, 2, ... k
        nearest = np.maximum.accumulate(V[others] @ _unit(pool.X[order.index]).T, axis=1)
        for i, count in enumerate(counts):
            if key in count:
                best[i, others] = np.maximum(best[i, others], nearest[:, count[key] - 1])
    ends = np.cumsum([len(rows) for rows in shown])[:-1]
    return np.stack([part.mean(axis=1) for part in np.split(best, ends, axis=1)], axis=1)


def smallest_within_one_error(c: np.ndarray) -> int:
    """The first row of c, float64[candidates, T], whose mean lies within one standard error of the
    highest."""
    loss = c[c.mean(axis=1).argmax()] - c
    error = loss.std(axis=1, ddof=1) / np.sqrt(c.shape[1]) if c.shape[1] > 1 else np.zeros(len(c))
    return int(np.flatnonzero(loss.mean(axis=1) <= error)[0])


def _grid(smart: TwoStage, pool: Pool) -> Iterator[int | None]:
    """M' to try, ascending."""
    if smart.num_tasks != "auto":
        yield smart.num_tasks
        return
    available = len(np.unique(pool.task))
    kept = 1
    while kept < available:
        yield kept
        kept *= 2
    yield available


def _named(function: Any) -> list[Any]:
    return [FUNCTIONS[name] for name in function.candidates] if isinstance(function, Auto) else [function]


def _name(function: Any) -> str:
    """Of a class, or of a partial one that the configuration made."""
    return str(getattr(function, "func", function).__name__)


def _unit(X: np.ndarray) -> np.ndarray:
    X = np.asarray(X, dtype=np.float32)
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(np.float32).tiny)
