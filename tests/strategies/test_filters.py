"""Bounds and shares of tasks for a ranking, DEITA's filter, and one strategy after another, each against a
straight reading of its rule."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation
from smartdpp.greedy import maximize
from smartdpp.strategies.baselines import Full, Random
from smartdpp.strategies.dedup import leaders
from smartdpp.strategies.deita import Deita
from smartdpp.strategies.filtered import Filtered
from smartdpp.strategies.reselect import Reselect
from smartdpp.strategies.submodular import Submodular
from smartdpp.strategies.top import Top
from smartdpp.types import Pool


def pool_of(n: int = 40, d: int = 6, *, quality: bool = True, seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)).astype(np.float32)
    X[n // 2 :] = X[: n - n // 2] + 0.05 * X[n // 2 :]
    score = rng.uniform(0.2, 1.6, n) if quality else None
    ids = np.array([f"{i:03d}" for i in rng.permutation(n)])
    return Pool(ids, X, rng.integers(0, 3, n), ["c", "a", "b"], np.ones(n, int), score)


def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def test_only_what_lies_within_the_bounds_is_ranked_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = pool_of()
    with caplog.at_level(logging.INFO, logger="smartdpp"):
        chosen = Top(below=1.0, above=0.3).select(pool, 10, draw())
    within = [i for i in range(40) if 0.3 < pool.quality[i] < 1.0]
    assert chosen.index.tolist() == sorted(within, key=lambda i: -pool.quality[i])[:10]
    assert (
        f"{40 - len(within)} of 40 examples are left out: their quality is not above 0.3 and below 1"
        in caplog.text
    )


def test_a_budget_above_what_the_bounds_leave_is_refused() -> None:
    pool = pool_of()
    left = int((pool.quality < 1).sum())
    with pytest.raises(
        InputError, match=f"{left} of 40 examples have a quality below 1, fewer than the budget of 40"
    ):
        Top(below=1.0).select(pool, 40, draw())
    with pytest.raises(InputError, match="nothing lies between them"):
        Top(above=1.0, below=1.0)


def test_ranked_by_task_every_task_keeps_its_share_and_its_best() -> None:
    pool = pool_of()
    for budget in (9, 20):
        chosen = Top(per_task=True).select(pool, budget, draw())
        for task in range(3):
            rows = np.flatnonzero(pool.task == task)
            mine = chosen.index[pool.task[chosen.index] == task]
            assert mine.tolist() == sorted(rows, key=lambda i: -pool.quality[i])[: len(mine)]
            assert abs(len(mine) - budget * len(rows) / 40) < 1.5


def test_mismatched_answers_that_a_prompt_misleads_are_not_taken_for_the_hardest() -> None:
    """A noisy pool as instruction-following difficulty sees it: right rows below 1, mismatched ones above."""
    pool = pool_of()
    right = pool.quality < 1
    without, with_cut = (Top(below=below).select(pool, 12, draw()).index for below in (None, 1.0))
    assert not right[without].any()
    assert right[with_cut].all()


def test_deita_reads_by_quality_and_passes_over_what_resembles_a_kept_row() -> None:
    pool = pool_of()
    unit = pool.X / np.linalg.norm(pool.X, axis=1, keepdims=True)
    kept: list[int] = []
    for i in sorted(range(40), key=lambda i: (-pool.quality[i], pool.ids[i])):
        if all(unit[i] @ unit[j] < 0.9 for j in kept):
            kept.append(i)
    assert 10 < len(kept) < 40, "the pool holds near-copies"
    chosen = Deita().select(pool, 10, draw())
    assert chosen.index.tolist() == kept[:10]
    assert chosen.gain.tolist() == pool.quality[kept[:10]].tolist()


def test_deita_fills_the_budget_with_the_best_of_what_it_passed_over_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = pool_of()
    with caplog.at_level(logging.WARNING, logger="smartdpp"):
        chosen = Deita().select(pool, 40, draw())
    kept = Deita().select(pool, 20, draw()).index
    assert chosen.index[:20].tolist() == kept.tolist()
    passed = [i for i in chosen.index if i not in set(_all_kept(pool))]
    assert chosen.index[-len(passed) :].tolist() == passed
    assert pool.quality[passed].tolist() == sorted(pool.quality[passed], reverse=True)
    assert f"the best {len(passed)} of the others fill the budget of 40" in caplog.text


def _all_kept(pool: Pool) -> np.ndarray:
    order = np.lexsort((pool.ids, -pool.quality))
    return order[leaders(pool.X, order, 0.9)]


@pytest.mark.parametrize("most", [1, 5, 17, 40])
def test_leaders_can_end_with_so_many(most: int) -> None:
    pool = pool_of()
    everyone = np.flatnonzero(leaders(pool.X, np.arange(40), 0.9))
    assert np.flatnonzero(leaders(pool.X, np.arange(40), 0.9, most=most)).tolist() == everyone[:most].tolist()


@pytest.mark.parametrize("strategy", [Deita(), Top()])
def test_what_ranks_by_quality_needs_one_and_says_when_it_decides_nothing(
    strategy: Deita | Top, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InputError, match="needs a quality, but there is none"):
        strategy.select(pool_of(quality=False), 3, draw())
    pool = pool_of()
    pool.quality[:] = 1
    with caplog.at_level(logging.WARNING, logger="smartdpp"):
        strategy.select(pool, 3, draw())
    assert "the same for every example" in caplog.text


def test_the_second_strategy_sees_only_what_the_first_one_kept() -> None:
    pool = pool_of()
    chosen = Filtered(Top(below=1.0), Submodular(), share=0.4).select(pool, 6, draw())
    kept = sorted((i for i in range(40) if pool.quality[i] < 1), key=lambda i: -pool.quality[i])[:16]
    kept = np.array(sorted(kept, key=lambda i: pool.ids[i]))
    expected = maximize(FacilityLocation(pool.X[kept]), 6)
    assert chosen.index.tolist() == kept[expected.index].tolist()
    assert chosen.gain.tolist() == expected.gain.tolist()


def test_the_first_strategy_keeps_no_less_than_the_budget(caplog: pytest.LogCaptureFixture) -> None:
    pool = pool_of()
    with caplog.at_level(logging.WARNING, logger="smartdpp"):
        chosen = Filtered(Top(), Random(), share=0.1).select(pool, 8, draw())
    assert sorted(chosen.index) == sorted(Top().select(pool, 8, draw()).index)
    assert "is 4 examples, fewer than the budget: the first strategy keeps 8" in caplog.text


def test_two_stages_refuse_what_no_pool_alone_can_do() -> None:
    with pytest.raises(InputError, match=r"strategy\.share is 0"):
        Filtered(Top(), Top(), share=0)
    with pytest.raises(InputError, match=r"strategy\.then is Full, which does not follow a budget"):
        Filtered(Top(), Full())
    with pytest.raises(
        InputError, match=r"strategy\.first is Reselect, which needs a query or several rounds"
    ):
        Filtered(Reselect(Random(), renew=False), Top())
