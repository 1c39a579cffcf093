import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import allocate, check_budget, check_num_tasks, interleave


@st.composite
def problems(draw):
    """Weights over many magnitudes, sizes with empty room here and there, and a budget that just fits at
    most."""
    tasks = draw(st.integers(1, 12))
    weights = draw(st.lists(st.floats(1e-3, 1e9), min_size=tasks, max_size=tasks))
    sizes = draw(st.lists(st.integers(0, 40), min_size=tasks, max_size=tasks).filter(any))
    return np.array(weights), np.array(sizes), draw(st.integers(1, sum(sizes)))


def dealt_one_by_one(weights, sizes, budget):
    """The paper's rule in its own words."""
    counts = [int(budget * w / weights.sum()) for w in weights]
    for j in range(budget - sum(counts)):
        counts[j] += 1
    overflow = sum(max(c - s, 0) for c, s in zip(counts, sizes, strict=True))
    counts = [min(c, s) for c, s in zip(counts, sizes, strict=True)]
    while overflow:
        for j, size in enumerate(sizes):
            if overflow and counts[j] < size:
                counts[j] += 1
                overflow -= 1
    return counts


@given(problems())
def test_the_budget_is_met_exactly_and_no_task_gives_more_than_it_holds(problem):
    weights, sizes, budget = problem
    counts = allocate(weights, sizes, budget)
    assert counts.sum() == budget
    assert ((counts >= 0) & (counts <= sizes)).all()


@given(problems())
def test_whole_rounds_at_once_equal_dealing_one_example_at_a_time(problem):
    assert allocate(*problem).tolist() == dealt_one_by_one(*problem)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12), st.integers(1, 500))
def test_without_caps_counts_follow_the_order_of_the_weights(weights, budget):
    weights = np.sort(weights)[::-1]
    counts = allocate(weights, np.full(len(weights), 500), budget)
    assert (np.diff(counts) <= 0).all()
    assert (np.abs(counts - budget * weights / weights.sum()) <= 1 + 1e-9).all()


@pytest.mark.parametrize(
    ("weights", "sizes", "budget", "expected"),
    [
        ([1, 1, 1], [9, 9, 9], 9, [3, 3, 3]),
        ([1, 1, 1], [9, 9, 9], 8, [3, 3, 2]),  # floors 2 2 2, remainder 2 to the first two
        ([5, 3, 2], [9, 9, 9], 7, [4, 2, 1]),  # 3.5 2.1 1.4: floors 3 2 1, remainder 1
        ([8, 1, 1], [4, 9, 9], 10, [4, 3, 3]),  # 8 1 1: the first is capped, 4 dealt in turn to the others
        ([8, 1, 1], [4, 2, 9], 10, [4, 2, 4]),  # the second is full after one
        ([1, 2, 7], [1, 5, 3], 9, [1, 5, 3]),  # everything
    ],
)
def test_worked_examples(weights, sizes, budget, expected):
    assert allocate(np.array(weights), np.array(sizes), budget).tolist() == expected


def test_tasks_too_small_in_total_are_named_with_the_budget():
    with pytest.raises(InputError, match=r"2 chosen tasks hold 7 examples in total, but the budget is 8"):
        allocate(np.ones(2), np.array([3, 4]), 8)


@pytest.mark.parametrize("budget", [0, -3, 11])
def test_a_budget_outside_the_pool_is_named_with_the_pool(budget):
    with pytest.raises(InputError, match=rf"budget is {budget}, .*10"):
        check_budget(budget, 10)


def test_more_tasks_than_there_are_names_both_numbers():
    assert check_num_tasks(None, 5) == 5
    with pytest.raises(InputError, match=r"num_tasks is 6, but the pool has 5 tasks"):
        check_num_tasks(6, 5)


def test_interleaving_keeps_the_order_inside_a_block_and_spreads_the_blocks():
    blocks = np.array(list("aaaabbc"))
    ranks = np.array([0, 1, 2, 3, 0, 1, 0])
    spread = interleave(np.array([4, 2, 1]))
    # a at 1/8 3/8 5/8 7/8, b at 1/4 3/4, c at 1/2
    assert "".join(blocks[spread]) == "abacaba"
    assert ranks[spread].tolist() == [0, 0, 1, 0, 2, 1, 3]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any))
def test_every_prefix_holds_nearly_the_proportions_of_the_whole(counts):
    counts = np.array(counts)
    spread = interleave(counts)
    assert sorted(spread) == list(range(counts.sum()))
    block = np.repeat(np.arange(len(counts)), counts)[spread]
    seen = np.cumsum(block[:, None] == np.arange(len(counts)), axis=0)
    fair = np.arange(1, counts.sum() + 1)[:, None] * counts / counts.sum()
    assert np.abs(seen - fair).max() <= len(counts) / 2 + 0.5
