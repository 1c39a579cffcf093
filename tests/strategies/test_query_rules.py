"""Rules over a query's examples against their equations read out loud, one row at a time."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.query import Development
from smartdpp.strategies import query_rules
from smartdpp.strategies.targeted import Targeted
from smartdpp.types import Pool

TASKS = [0, 0, 1, 0, 2, 0]  # of the query's rows


@pytest.fixture
def pool() -> Pool:
    """Fifty rows, ids unordered, eight of them copies of others."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(50, 5)).astype(np.float32)
    X[42:] = X[:8]
    ids = np.array([f"{i:02d}" for i in rng.permutation(50)])
    query = (rng.normal(size=(6, 5)) + np.eye(5)[0]).astype(np.float32)
    return Pool(
        ids,
        X,
        np.zeros(50, int),
        ["t"],
        np.ones(50, int),
        query=query,
        query_task=np.array(TASKS),
        query_names=["a", "b", "c"],
    )


def picks(pool: Pool, budget: int, function: str, targets: str = "pooled") -> list[str]:
    chosen = Targeted(Development(), function, targets=targets).select(pool, budget, np.random.default_rng(0))
    return pool.ids[chosen.index].tolist()


def cosine(pool: Pool, row: int, q: int) -> float:
    x, y = (np.asarray(v, dtype=np.float64) for v in (pool.X[row], pool.query[q]))
    return round(float(x @ y / np.sqrt((x @ x) * (y @ y))), 9)  # copies tie


def take(pool: Pool, score, left: set[int]) -> str:
    row = min(left, key=lambda i: (-score(i), pool.ids[i]))
    left.remove(row)
    return str(pool.ids[row])


def of(target: int) -> list[int]:
    return [q for q, task in enumerate(TASKS) if task == target]


def test_in_round_robin_every_example_takes_the_nearest_row_that_is_left(pool: Pool) -> None:
    left, expected = set(range(50)), []
    for turn in range(50):
        expected.append(take(pool, lambda i, q=turn % 6: cosine(pool, i, q), left))
    assert picks(pool, 50, "round_robin") == expected


def test_balanced_round_robin_lets_targets_take_turns_and_their_examples_in_each(pool: Pool) -> None:
    left, expected = set(range(50)), []
    for turn in range(48):
        target, lap = turn % 3, turn // 3
        q = of(target)[lap % len(of(target))]
        expected.append(take(pool, lambda i, q=q: cosine(pool, i, q), left))
    assert picks(pool, 48, "round_robin", "balanced") == expected


@pytest.mark.parametrize("how", ["max", "mean"])
def test_balanced_targets_take_turns_by_the_largest_or_the_mean_of_their_cosines(
    how: str, pool: Pool
) -> None:
    left, expected, over = set(range(50)), [], {"max": max, "mean": np.mean}[how]
    for turn in range(50):
        expected.append(
            take(pool, lambda i, t=turn % 3: round(over([cosine(pool, i, q) for q in of(t)]), 8), left)
        )
    assert picks(pool, 50, how, "balanced") == expected


@pytest.mark.parametrize(
    ("function", "score"),
    [
        ("max", lambda s: max(s)),
        ("mean", lambda s: np.mean(s)),
        ("less", lambda s: max(np.mean([s[q] for q in of(t)]) for t in range(3))),
    ],
)
def test_the_other_rules_take_the_rows_of_the_largest_score(function: str, score, pool: Pool) -> None:
    by_row = {i: round(float(score([cosine(pool, i, q) for q in range(6)])), 8) for i in range(50)}
    expected = sorted(range(50), key=lambda i: (-by_row[i], pool.ids[i]))
    assert picks(pool, 50, function) == pool.ids[expected].tolist()
    gain = Targeted(Development(), function).select(pool, 50, np.random.default_rng(0)).gain
    np.testing.assert_allclose(gain, [by_row[i] for i in expected], atol=1e-6)


def test_the_mean_fills_one_target_where_turns_fill_all() -> None:
    """Most of the query is of one target: its mean rules, and with turns each target has its share."""
    rng = np.random.default_rng(0)
    centre = np.eye(4)[[0] * 60 + [1] * 60 + [2] * 60]
    X = (centre + 0.1 * rng.normal(size=(180, 4))).astype(np.float32)
    pool = Pool(
        np.array([f"{i:03d}" for i in range(180)]),
        X,
        np.repeat(np.arange(3), 60),
        list("abc"),
        np.ones(180, int),
        query=np.eye(4, dtype=np.float32)[[0, 0, 0, 0, 1, 2]],
        query_task=np.array([0, 0, 0, 0, 1, 2]),
        query_names=list("abc"),
    )

    def taken(function: str, targets: str = "pooled") -> list[int]:
        index = Targeted(Development(), function, targets=targets).select(pool, 30, rng).index
        return np.bincount(pool.task[index], minlength=3).tolist()

    assert taken("mean") == [30, 0, 0]
    assert taken("round_robin") == [20, 5, 5]
    assert taken("round_robin", "balanced") == taken("max", "balanced") == [10, 10, 10]


def test_what_round_robin_remembers_is_bounded_and_changes_no_pick(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = picks(pool, 50, "round_robin"), picks(pool, 50, "max", "balanced")
    monkeypatch.setattr(query_rules, "KEPT", 12)
    monkeypatch.setattr(query_rules, "TILE", 100)
    assert (picks(pool, 50, "round_robin"), picks(pool, 50, "max", "balanced")) == whole


def test_a_pool_that_does_not_name_targets_has_one(pool: Pool) -> None:
    one = replace(pool, query_task=None, query_names=None)
    assert picks(one, 20, "less") == picks(pool, 20, "mean")
    assert picks(one, 20, "max", "balanced") == picks(pool, 20, "max")


def test_rows_that_are_all_equally_near_are_told(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    same = replace(pool, X=np.ones((50, 5), np.float32))
    for function in ("round_robin", "max", "mean", "less"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert picks(same, 9, function) == sorted(pool.ids.tolist())[:9]
        assert caplog.text.count("every row is equally near to the query") == 1


def test_what_a_rule_cannot_do_is_said(pool: Pool) -> None:
    with pytest.raises(InputError, match="with an empty query"):
        picks(replace(pool, query=pool.query[:0]), 3, "max")
    with pytest.raises(InputError, match="without a query"):
        picks(replace(pool, query=None), 3, "round_robin")
    with pytest.raises(InputError, match="Q has 3 columns where X has 5"):
        picks(replace(pool, query=pool.query[:, :3]), 3, "mean")
    with pytest.raises(InputError, match=r"function=less, which weighs all targets at once: choose .*=mean"):
        Targeted(Development(), "less", targets="balanced")
    with pytest.raises(InputError, match=r"function=flqmi, .*: choose strategy.function=round_robin"):
        Targeted(Development(), targets="balanced")
