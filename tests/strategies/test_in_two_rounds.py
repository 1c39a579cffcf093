"""Two rounds as a strategy: with one part it is `submodular`; other parts are other picks, drawn from the
seed of the selection."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import GraphCut, LogDet
from smartdpp.strategies.submodular import Submodular
from smartdpp.strategies.two_rounds import TwoRounds
from smartdpp.types import Pool
from tests.greedy.test_maximize import features


@pytest.fixture
def pool() -> Pool:
    ids = np.array([f"{i:03d}" for i in np.random.default_rng(0).permutation(300)])
    return Pool(ids, features(0, 300, 8, "clustered"), np.zeros(300, int), ["all"], np.ones(300, int))


def picks(strategy: TwoRounds | Submodular, pool: Pool, seed: int = 0) -> list[int]:
    return strategy.select(pool, 25, np.random.default_rng(seed)).index.tolist()


def test_one_part_is_the_whole_pool(pool: Pool) -> None:
    assert picks(TwoRounds(parts=1), pool) == picks(Submodular(), pool)


def test_the_parts_and_the_seed_decide(pool: Pool) -> None:
    assert picks(TwoRounds(parts=5), pool) == picks(TwoRounds(parts=5), pool)
    assert len({tuple(picks(TwoRounds(parts=parts), pool, seed)) for parts in (3, 5) for seed in (0, 1)}) == 4
    assert len(set(picks(TwoRounds(parts=1000, witnesses=1000), pool))) == 25  # more than there are rows


def test_what_cannot_be_is_refused(pool: Pool) -> None:
    for function, name in (
        (GraphCut, "GraphCut"),
        (partial(LogDet, kernel="linear"), "kernel=linear"),
        (lambda X: GraphCut(X), "lambda"),
    ):
        with pytest.raises(InputError, match=f"not for .*{name}"):
            picks(TwoRounds(function), pool)
    for wrong in ({"parts": 0}, {"witnesses": 0}):
        with pytest.raises(InputError, match=f"strategy.{next(iter(wrong))} is 0"):
            TwoRounds(**wrong)
