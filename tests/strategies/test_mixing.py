from collections import Counter

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.strategies.mixing import Equal, Proportional, RandomTasks, Temperature
from smartdpp.types import Pool


def pool_of(**sizes):
    """A pool with these task sizes."""
    task = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    n = len(task)
    return Pool(
        np.array([f"{i:04d}" for i in range(n)]),
        np.ones((n, 2), np.float32),
        task,
        list(sizes),
        np.ones(n, int),
    )


def counts(strategy, pool, budget, seed=0):
    selection = strategy.select(pool, budget, np.random.default_rng(seed))
    return dict(Counter(pool.names[t] for t in pool.task[selection.index]))


def test_proportional_follows_the_sizes():
    assert counts(Proportional(), pool_of(a=10, b=60, c=30), 20) == {"a": 2, "b": 12, "c": 6}


def test_proportional_rounds_in_favour_of_the_largest():
    # 1.1, 6.6, 3.3: floors 1 6 3, the remainder goes to b
    assert counts(Proportional(), pool_of(a=10, b=60, c=30), 11) == {"a": 1, "b": 7, "c": 3}


def test_a_cap_makes_large_tasks_count_less():
    assert counts(Proportional(cap=30), pool_of(a=10, b=60, c=30), 14) == {"a": 2, "b": 6, "c": 6}


def test_equal_hands_the_overflow_of_small_tasks_on():
    assert counts(Equal(), pool_of(a=2, b=60, c=30), 30) == {"a": 2, "b": 14, "c": 14}


def test_temperature_lies_between_proportional_and_equal():
    pool = pool_of(a=100, b=400)
    assert counts(Temperature(1.0), pool, 50) == counts(Proportional(), pool, 50) == {"a": 10, "b": 40}
    assert counts(Temperature(2.0), pool, 60) == {"a": 20, "b": 40}  # sqrt: 10 to 20
    # equal but for the remainder, which the larger task gets
    assert counts(Temperature(1e6), pool, 61) == {"a": 30, "b": 31}


def test_random_tasks_keeps_as_many_tasks_as_asked_and_each_of_them_sometimes():
    pool = pool_of(a=10, b=10, c=10, d=10)
    seen = Counter()
    for seed in range(40):
        chosen = counts(RandomTasks(num_tasks=2), pool, 10, seed)
        assert list(chosen.values()) == [5, 5]
        seen.update(chosen.keys())
    assert all(10 <= seen[name] <= 30 for name in "abcd")


def test_random_tasks_names_both_numbers():
    pool = pool_of(a=3, b=4)
    with pytest.raises(InputError, match=r"num_tasks is 3, but the pool has 2 tasks"):
        counts(RandomTasks(num_tasks=3), pool, 2)
    with pytest.raises(InputError, match=r"1 chosen tasks hold [34] examples in total, but the budget is 5"):
        counts(RandomTasks(num_tasks=1), pool, 5)


def test_every_example_of_a_task_is_drawn_equally_often():
    pool = pool_of(a=8, b=4)
    seen = np.zeros(12)
    for seed in range(600):
        seen[Equal().select(pool, 4, np.random.default_rng(seed)).index] += 1
    # 600 draws of 2 in 8 and 2 in 4; four standard deviations
    assert (np.abs(seen[:8] - 150) < 43).all()
    assert (np.abs(seen[8:] - 300) < 49).all()


@pytest.mark.parametrize(
    "make", [lambda: Proportional(cap=0), lambda: Temperature(0.0), lambda: RandomTasks(num_tasks=0)]
)
def test_parameters_out_of_range_are_refused(make):
    with pytest.raises(InputError, match=r"strategy\.\w+ is 0"):
        make()
