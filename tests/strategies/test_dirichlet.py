"""Shares that are drawn, for a law of mixtures."""

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.strategies.dirichlet import Dirichlet
from smartdpp.types import Pool

SIZES = np.array([400, 300, 200, 100])


def pool() -> Pool:
    n = int(SIZES.sum())
    ids = np.array([f"{i:04d}" for i in range(n)])
    return Pool(
        ids, np.zeros((n, 1), np.float32), np.repeat(np.arange(4), SIZES), list("abcd"), np.ones(n, int)
    )


def shares(strategy: Dirichlet, seeds: int = 200) -> np.ndarray:
    """float64[seeds, 4]"""
    chosen = [strategy.select(pool(), 60, np.random.default_rng(seed)).index for seed in range(seeds)]
    return np.array(
        [np.bincount(np.repeat(np.arange(4), SIZES)[index], minlength=4) / 60 for index in chosen]
    )


@pytest.mark.parametrize(("around", "mean"), [("pool", SIZES / 1000), ("equal", np.full(4, 0.25))])
def test_on_average_shares_are_those_drawn_around(around, mean):
    assert np.abs(shares(Dirichlet(around=around)).mean(0) - mean).max() < 0.06


def test_a_small_strength_is_nearly_one_task_and_a_large_one_near_the_mean():
    assert shares(Dirichlet(0.1)).max(1).mean() > 0.8
    assert np.abs(shares(Dirichlet(100.0)) - SIZES / 1000).max() < 0.15


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(InputError, match=r"strategy\.strength is 0"):
        Dirichlet(0)
    with pytest.raises(InputError, match="choose pool or equal"):
        Dirichlet(around="nothing")
