"""The bound of a study in which the truth is known."""

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.strategies.oracle import Oracle
from smartdpp.types import Pool


def pool(score: list[float] | None) -> Pool:
    n = 12
    return Pool(
        ids=np.array([f"{i:02d}" for i in range(n)]),
        X=np.zeros((n, 2), np.float32),
        task=np.repeat([0, 1, 2], 4),
        names=["a", "b", "c"],
        cost=np.ones(n, np.int64),
        score=None if score is None else np.array(score),
    )


def test_only_right_rows_are_chosen_the_same_number_of_each_task() -> None:
    truth = [1, 1, 1, 1, 1, 1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]
    for seed in range(5):
        found = Oracle().select(pool(truth), 4, np.random.default_rng(seed))
        assert sorted(found.index // 4) == [0, 0, 1, 1]
        assert set(found.index) <= set(range(6))


def test_a_task_that_has_too_few_right_rows_leaves_the_rest_to_the_others() -> None:
    truth = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    found = Oracle().select(pool(truth), 5, np.random.default_rng(0))
    assert sorted(found.index) == [0, 1, 2, 3, 4]


def test_what_is_not_known_or_not_enough_is_one_sentence() -> None:
    with pytest.raises(InputError, match="needs to know which rows are worth choosing"):
        Oracle().select(pool(None), 2, np.random.default_rng(0))
    with pytest.raises(
        InputError, match=r"3 rows of the pool have a score of at least .*, and the budget is 4"
    ):
        Oracle().select(pool([1, 1, 1] + [0] * 9), 4, np.random.default_rng(0))
