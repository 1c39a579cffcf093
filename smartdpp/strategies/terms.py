"""What is asked of a mixture beside ``budget``: a budget in tokens, shares and limits of tasks, repeated
rows, and a mixture to start from.

A task is what the corpus calls one; ``corpus.task=dataset`` (or ``source``) makes the datasets the tasks, so
that all of this is by dataset. Allocation (mixing, SMART) sees to it itself: shares are then of tokens, where
the budget is. What other strategies do not see to themselves is done to their order, from its beginning: rows
are taken while they fit, so that a smaller budget is a prefix of a larger one and less than one row stays
unspent; rows of a task that is at its limit are passed over. A strategy without such an order is asked again
for more rows or fewer, until less than the longest row stays unspent.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import affordable
from smartdpp.strategies.start import Found
from smartdpp.types import Asked, Pool, Selection, Strategy

logger = logging.getLogger(__name__)

SHARED = "strategy=smart, proportional, equal, temperature, random_tasks"
INSTEAD = {  # of what a strategy does not see to: why, and who does
    "weights": f"it gives tasks no shares that could be weighed: use {SHARED}, or max_share",
    "repeat": "it takes no row twice: use strategy=proportional, equal, temperature, random_tasks or weights",
    "max_share": "no order of its rows says which to take in place of others: use "
    f"{SHARED}, weights, random, top, dedup, submodular, dpp or targeted",
    "start": "it does not go on from rows that are chosen already: use "
    f"{SHARED}, weights, random, top, dedup, submodular or dpp",
    "tokens_by": "gain per token is of strategy=submodular with a function whose gains are not negative "
    "(facility_location, graph_cut and the coverages): use tokens_by=gain",
}


@dataclass(frozen=True)
class Terms:
    """Keys of the configuration, at its top.

    ``budget_tokens``: the mixture holds at most so many tokens, in place of ``budget`` rows. ``tokens_by`` is
    how greedy spends them: by ``gain``, the order of any budget, which ends at the first row that does not
    fit; by ``gain_per_token``, which of the rows that fit takes that of the highest gain / tokens (Sviridenko
    2004; Lin and Bilmes 2010) and so prefers short ones; or ``best``, whichever of both has more of the
    objective, which is at least (1 - 1/e) / 2 of the optimum for monotone functions (Leskovec et al. 2007).
    ``weights`` multiplies the shares of tasks, 1 for those that are not named and 0 for none of it.
    ``max_share``: no task holds more of the budget. ``repeat``: rows of a task, or of all, may be seen so
    often where its share is more than it holds. ``start``: a run, a mixture or a file whose rows count as
    chosen, or ids of the pool (a list, or a .txt of one a line); with ``start_include`` those in the pool are
    in the mixture, beside the budget.
    """

    budget_tokens: int | None = None
    tokens_by: Literal["gain", "gain_per_token", "best"] = "gain"
    weights: dict[str, float] | None = None
    max_share: float | None = None
    repeat: int | dict[str, int] = 1
    start: str | list[str] | None = None
    start_include: bool = False

    def __post_init__(self) -> None:
        times = list(self.repeat.values()) if isinstance(self.repeat, dict) else [self.repeat]
        wrong = [
            f"budget_tokens={self.budget_tokens}: it must be at least 1 token"
            if self.budget_tokens is not None and self.budget_tokens < 1
            else "",
            f"weights={self.weights}: a weight is 0 or a positive number"
            if not all(0 <= weight < np.inf for weight in (self.weights or {}).values())
            else "",
            f"max_share={self.max_share}: it is a share of the budget, above 0 and at most 1"
            if self.max_share is not None and not 0 < self.max_share <= 1
            else "",
            f"repeat={self.repeat}: rows are seen once or more, so give whole numbers of at least 1"
            if min(times, default=1) < 1
            else "",
            "tokens_by is how budget_tokens is spent: give that too, or leave it at gain"
            if self.tokens_by != "gain" and self.budget_tokens is None
            else "",
            "start_include=true: there is no start to include; give it with start=FILE"
            if self.start_include and not self.start
            else "",
        ]
        if said := [one for one in wrong if one]:
            raise InputError("\n".join(said))

    def of_strategy(self, strategy: Strategy) -> Terms:
        """Without a budget where the strategy looks at none."""
        return self if uses_budget(strategy) else replace(self, budget_tokens=None, tokens_by="gain")

    def misfits(self, strategy: Strategy) -> Iterator[str]:
        """What the strategy cannot do, each in a sentence."""
        honours, name = strategy.honours, type(strategy).__name__
        asked = {
            "weights": self.weights,
            "repeat": self.repeat != 1,
            "max_share": self.max_share is not None and not strategy.nested,
            "start": self.start,
            "tokens_by": self.tokens_by != "gain" and "per_token" not in honours,
        }
        if self.max_share and self.budget_tokens and not ("tokens" in honours or strategy.nested):
            yield (
                f"max_share={self.max_share}: {name} chooses by numbers of rows here; give budget in place "
                "of budget_tokens"
            )
        if self.max_share is not None and self.tokens_by != "gain":
            yield "max_share goes with tokens_by=gain alone: gain per token has no order to pass rows over in"
        for key, wanted in asked.items():
            if wanted and key not in honours and uses_budget(strategy):
                yield f"{key}={getattr(self, key)}: {name} cannot follow it, as {INSTEAD[key]}"
            elif wanted and not uses_budget(strategy):
                yield f"{key}={getattr(self, key)}: {name} is the same whatever is asked; leave {key} out"
        if strategy.rounds > 1:
            for key in ("max_share", "start"):
                if getattr(self, key):
                    yield f"{key}={getattr(self, key)}: it is not for choosing in rounds; leave it out"

    def refused(
        self,
        named: Sequence[str],
        tasks: Sequence[str],
        costs: np.ndarray,
        start: Found | None,
        budget: int | None,
    ) -> list[str]:
        """As ``problems``, of the task and the tokens of each row of a pool."""
        names, task = np.unique(np.asarray(tasks, dtype=object), return_inverse=True)
        free = np.ones(len(task), dtype=bool)
        if start:
            free[start.index] = False
        rows, tokens = (
            np.bincount(task[free], of[free], minlength=len(names)).astype(np.int64)
            for of in (np.ones(len(task)), costs)
        )
        shortest = min(costs[free], default=0)
        if self.budget_tokens is not None and self.budget_tokens < shortest:
            return [f"budget_tokens={self.budget_tokens}: the shortest example has {shortest} tokens"]
        return self.problems(named, names.tolist(), rows, tokens, budget)

    def rows(self, budget: int, costs: np.ndarray) -> int:
        """``budget``, or the most rows of these costs (int64[n]) that a budget in tokens can pay for."""
        if self.budget_tokens is None:
            return budget
        times = max(self.repeat.values(), default=1) if isinstance(self.repeat, dict) else self.repeat
        return affordable(np.repeat(costs, times), self.budget_tokens)

    def problems(
        self,
        named: Sequence[str],
        names: Sequence[str],
        rows: np.ndarray,
        tokens: np.ndarray,
        budget: int | None,
    ) -> list[str]:
        """What the pool cannot give: int64[M] rows and tokens of each of its tasks that may be chosen, and
        the budget in rows."""
        given = {"weights": self.weights, "repeat": self.repeat, "strategy": dict.fromkeys(named, 0)}
        for key, of in given.items():
            if unknown := [name for name in (of if isinstance(of, dict) else ()) if name not in names]:
                shown = ", ".join(sorted(names)[:20]) + (" and others" if len(names) > 20 else "")
                return [f"{key}: the pool has no task {', '.join(map(repr, unknown))}; its tasks are {shown}"]
        wanted = self.budget_tokens or budget or 0
        asked = self.asked(names, wanted)
        room = (rows if self.budget_tokens is None else tokens) * (
            1 if asked.repeat is None else asked.repeat
        )
        if asked.weight is not None:
            room = room * (asked.weight > 0)
        if asked.most is not None:
            room = np.minimum(room, asked.most)
        if wanted <= room.sum():
            return []
        key, unit = ("budget", "examples") if self.budget_tokens is None else ("budget_tokens", "tokens")
        under = [
            name
            for name in ("weights", "max_share", "repeat", "start")
            if getattr(self, name) not in (None, 1)
        ]
        why = f" under {', '.join(under)}" if under else ""
        return [
            f"{key}={wanted}: the pool holds {room.sum()} {unit}{why}; choose at most {room.sum()}, or a "
            "larger corpus"
        ]

    def asked(self, names: Sequence[str], budget: int) -> Asked:
        """For tasks of these names, ``budget`` in rows."""
        M = len(names)
        repeat = self.repeat if isinstance(self.repeat, dict) else dict.fromkeys(names, self.repeat)
        most = None if self.max_share is None else int(self.max_share * (self.budget_tokens or budget) + 1e-9)
        return Asked(
            tokens=self.budget_tokens,
            per_token=self.tokens_by == "gain_per_token",
            weight=np.array([self.weights.get(name, 1.0) for name in names]) if self.weights else None,
            most=None if most is None else np.full(M, most, dtype=np.int64),
            repeat=None
            if self.repeat == 1
            else np.array([repeat.get(name, 1) for name in names], dtype=np.int64),
        )

    def __str__(self) -> str:
        """What is asked for beside a budget, as a plan says it."""
        said = [f"{name}={getattr(self, name)}" for name in ("weights", "max_share", "repeat", "tokens_by")]
        usual = [
            f"{name}={getattr(Terms(), name)}" for name in ("weights", "max_share", "repeat", "tokens_by")
        ]
        said = [one for one, other in zip(said, usual, strict=True) if one != other]
        if self.start:
            said.append("going on from start" + (", which it includes" if self.start_include else ""))
        return f", {', '.join(said)}" if said else ""

    def facts(self, start: Found | None, spent: int, repeats: int) -> dict[str, Any]:
        """What a record says of it: ``spent`` tokens of what was chosen, of which ``repeats`` rows are there
        again."""
        found: dict[str, Any] = {}
        if self.budget_tokens is not None:
            found |= {"budget_tokens": self.budget_tokens, "tokens_spent": spent}
        if self.repeat != 1:
            found |= {"repeats": repeats}
        if start:
            found |= {"start": len(start.index), "start_given": start.given, "start_missing": start.missing}
            found |= {"start_included": self.start_include}
            found |= {"start_outside": len(start.outside)} if start.outside else {}
        return found

    def identity(self, start: str) -> dict[str, Any]:
        """What of it a run is: nothing where nothing is asked. ``start`` is the content of what it names."""
        usual = Terms()
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        said = {name: value for name, value in plain.items() if value != getattr(usual, name)}
        return said | ({"start": start} if "start" in said else {})


def uses_budget(strategy: Strategy) -> bool:
    """False for `full` and `none`, whose size is the same under every budget."""
    return strategy.size(1000, 1) != strategy.size(1000, 2)


def select(strategy: Strategy, pool: Pool, terms: Terms, budget: int, rng: np.random.Generator) -> Selection:
    """The strategy's selection under ``terms``. ``budget``: its number of rows, or under a budget in tokens
    the most there can be."""
    asked = terms.asked(pool.names, budget)
    if terms.tokens_by == "best":
        return _best(strategy, pool, terms, budget, rng)
    if not any(value is not None for value in (asked.tokens, asked.weight, asked.most, asked.repeat)):
        return strategy.select(pool, budget, rng)
    honours = strategy.honours
    whole = replace(pool, asked=asked)
    limited = asked.most is not None and "max_share" not in honours
    if asked.per_token or not (limited or (asked.tokens is not None and "tokens" not in honours)):
        return strategy.select(whole, budget, rng)
    return (
        _in_order(strategy, whole, asked, budget, rng)
        if strategy.nested
        else _asked_again(strategy, whole, asked, budget, rng)
    )


def _best(strategy: Strategy, pool: Pool, terms: Terms, budget: int, rng: np.random.Generator) -> Selection:
    ways: tuple[Literal["gain", "gain_per_token"], ...] = ("gain", "gain_per_token")
    found = {
        way: select(strategy, pool, replace(terms, tokens_by=way), budget, copy.deepcopy(rng)) for way in ways
    }
    best = max(ways, key=lambda way: found[way].gain.sum())
    logger.info(
        "tokens_by=best: by %s, of %s", best, ", ".join(f"{way} {found[way].gain.sum():.6g}" for way in ways)
    )
    return found[best]


def _in_order(
    strategy: Strategy, pool: Pool, asked: Asked, budget: int, rng: np.random.Generator
) -> Selection:
    """From the beginning of an order that is made as long as it takes, or can be."""
    least, most = 0, len(pool) - (0 if pool.start is None else len(pool.start))
    guess = budget if asked.tokens is None else int(1.25 * asked.tokens / pool.cost.mean()) + 1
    plain, chosen = replace(pool, asked=None), Selection(np.zeros(0, dtype=np.int64), np.zeros(0))
    while least < most:
        guess = int(np.clip(guess, least + 1, most))
        try:
            order = strategy.select(plain, guess, copy.deepcopy(rng))
        except InputError:  # of one that leaves rows out, and has not so many
            if guess == 1:
                raise
            most, guess = guess - 1, (least + guess) // 2
            continue
        kept, whole = _taken(order.index, pool, asked, budget)
        chosen = Selection(index=order.index[kept], gain=order.gain[kept])
        if whole:
            return chosen
        least, guess = guess, 2 * guess
    if asked.tokens is None and len(chosen) < budget:
        raise InputError(
            f"budget={budget}: {type(strategy).__name__} has {least} examples, of which {len(chosen)} are "
            "within max_share; choose at most that, or a larger share"
        )
    return chosen


def _taken(index: np.ndarray, pool: Pool, asked: Asked, budget: int) -> tuple[np.ndarray, bool]:
    """int64[k], places in the order ``index`` that are taken, and whether the budget ends there."""
    price = np.ones(len(index), dtype=np.int64) if asked.tokens is None else pool.cost[index]
    left = budget if asked.tokens is None else asked.tokens
    room = None if asked.most is None else asked.most.copy()
    kept: list[int] = []
    for place, (task, cost) in enumerate(zip(pool.task[index].tolist(), price.tolist(), strict=True)):
        if room is not None:
            if cost > room[task]:
                continue
            room[task] -= cost
        if cost > left:
            return np.array(kept, dtype=np.int64), True
        left -= cost
        kept.append(place)
    return np.array(kept, dtype=np.int64), left == 0


def _asked_again(
    strategy: Strategy, pool: Pool, asked: Asked, budget: int, rng: np.random.Generator
) -> Selection:
    """The selection of the number of rows that the tokens pay for, which is found by asking for more and for
    fewer; where that leaves a row's worth, the first rows of the next larger one."""
    assert asked.tokens is not None
    whole = replace(pool, asked=replace(asked, tokens=None))
    longest = pool.cost.max()
    fits, above = Selection(np.zeros(0, dtype=np.int64), np.zeros(0)), None
    spent, low, high = 0, 1, budget + 1
    guess = min(budget, max(1, int(asked.tokens / pool.cost.mean())))
    while low < high and asked.tokens - spent >= longest:
        try:
            found = strategy.select(whole, guess, copy.deepcopy(rng))
        except InputError:  # of one that leaves rows out, and has not so many
            if guess == 1:
                raise
            high, guess = guess, low + (guess - low) // 2
            continue
        cost = int(pool.cost[found.index].sum())
        if cost <= asked.tokens:
            fits, spent, low = found, cost, guess + 1
        else:
            above, high = found, guess
        margin = (high - low) // 4  # by what a row cost, and never less than a quarter of the way
        guess = int(np.clip(guess * asked.tokens / cost, low + margin, max(low, high - 1 - margin)))
    if above is None or asked.tokens - spent < longest:
        return fits
    kept, _ = _taken(above.index, pool, asked, budget)
    return Selection(index=above.index[kept], gain=above.gain[kept])
