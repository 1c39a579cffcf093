import dataclasses
import logging
from functools import partial

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.strategies import smart
from smartdpp.strategies.smart import Smart, _greedy_order, taylor_exp, template_pools
from smartdpp.types import Pool, Selection


def pool_of(sizes, d=6, seed=0, template=None, spread=0.5):
    rng = np.random.default_rng(seed)
    task = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    X = 1 + rng.normal(size=(len(sizes), d))[task] + spread * rng.normal(size=(len(task), d))
    n = len(task)
    ids = np.array([f"{i:03d}" for i in rng.permutation(n)])
    return Pool(
        ids,
        X.astype(np.float32),
        task,
        [f"task{j}" for j in range(len(sizes))],
        np.ones(n, int),
        template=template,
    )


def select(strategy, pool, budget):
    return strategy.select(pool, budget, np.random.default_rng(0))


def cosine(X):
    X = X.astype(np.float64)
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    return X @ X.T


def greedy(value, n, k):
    """Brute force: the order and gains of the plain greedy algorithm on a set function."""
    order, gains = [], []
    for _ in range(k):
        gain, i = max((value([*order, i]) - value(order), -i) for i in range(n) if i not in order)
        order.append(-i)
        gains.append(gain)
    return order, gains


def graph_cut(S, lam=0.4):
    return lambda Y: S[:, Y].sum() - lam * S[np.ix_(Y, Y)].sum()


def facility_location(S):
    return lambda Y: S[:, Y].max(axis=1, initial=0).sum()


@pytest.mark.parametrize("seed", range(5))
def test_both_stages_equal_the_paper_written_out(seed):
    """Mean prompt vectors, cosine graph cut, Taylor softmax, floors and remainder; then facility location
    inside each task."""
    kept, budget = 4, 30
    pool = pool_of([22, 19, 24, 21, 30], seed=seed)
    rows = [np.array(sorted(np.flatnonzero(pool.task == j), key=lambda i: pool.ids[i])) for j in range(5)]
    means = np.stack([pool.X[r].astype(float).mean(axis=0) for r in rows])
    order, gains = greedy(graph_cut(cosine(means)), 5, kept)
    weight = [1 + g + g * g / 2 for g in gains]
    counts = [int(budget * w / sum(weight)) for w in weight]
    for j in range(budget - sum(counts)):
        counts[j] += 1
    assert all(c <= len(rows[t]) for t, c in zip(order, counts, strict=True))  # caps have tests of their own
    expected = {
        t: rows[t][greedy(facility_location(cosine(pool.X[rows[t]])), len(rows[t]), c)[0]].tolist()
        for t, c in zip(order, counts, strict=True)
    }

    smart = Smart(num_tasks=kept)
    stage1 = smart.task_budgets(pool, budget)
    assert stage1.order.tolist() == order
    np.testing.assert_allclose(stage1.gain, gains)
    np.testing.assert_allclose(stage1.share, np.array(weight) / sum(weight))
    assert stage1.budget.tolist() == counts
    index = select(smart, pool, budget).index
    assert {t: index[pool.task[index] == t].tolist() for t in order} == expected


def test_task_vectors_are_not_renormalised():
    """Two tasks of equal row directions: the longer rows turn the mean their way."""
    X = np.array([[9, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    pool = Pool(np.array(list("abcd")), X, np.array([0, 0, 1, 1]), ["long", "even"], np.ones(4, int))
    a, b = np.array([4.5, 0.5]), np.array([0.5, 0.5])
    cos = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    stage1 = Smart().task_budgets(pool, 2)
    np.testing.assert_allclose(stage1.gain, [1 + cos - 0.4, 1 + cos - 0.8 * cos - 0.4])


def test_gains_are_those_of_the_instance_function():
    pool = pool_of([6, 8])
    selection = select(Smart(), pool, 9)
    for task in range(2):
        mine = pool.task[selection.index] == task
        rows = np.array(sorted(np.flatnonzero(pool.task == task), key=lambda i: pool.ids[i]))
        S = cosine(pool.X[rows])
        order = [rows.tolist().index(i) for i in selection.index[mine]]
        value = facility_location(S)
        assert selection.gain[mine].sum() == pytest.approx(value(order))


def test_a_capped_task_hands_its_overflow_on_in_greedy_order():
    pool = pool_of([2, 30, 30])
    stage1 = Smart().task_budgets(pool, 40)
    sizes = np.array([2, 30, 30])[stage1.order]
    assert stage1.budget.sum() == 40
    assert stage1.budget[sizes == 2] == 2
    others = sizes == 30
    handed_on = np.floor(40 * stage1.share[~others]) - 2
    assert handed_on > 2
    extra = stage1.budget[others] - np.floor(40 * stage1.share[others])
    assert np.ptp(extra) <= 2  # one from the remainder, one from the last round
    assert extra.sum() >= handed_on


def test_facility_location_over_tasks_is_degenerate_and_warned_about(caplog):
    pool = pool_of([30] * 8, spread=0.1)
    stage1 = Smart(tasks=FacilityLocation).task_budgets(pool, 60)
    assert stage1.share[0] > 0.5
    assert "task 'task" in caplog.text
    assert "normalize_gains" in caplog.text
    caplog.clear()
    even = Smart(tasks=FacilityLocation, normalize_gains=True).task_budgets(pool, 60)
    assert even.share[0] == pytest.approx(2.5 / (2.5 + (even.share[1:] / even.share[0] * 2.5).sum()))
    assert even.share[0] / even.share[-1] <= 2.5
    assert not caplog.text


def test_a_higher_temperature_evens_the_shares():
    pool = pool_of([30] * 6)
    spread = [
        np.ptp(Smart(tasks=FacilityLocation, temperature=t).task_budgets(pool, 60).share)
        for t in (1, 3, 1000)
    ]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 1e-2


def test_taylor_softmax_is_positive_and_the_exponential_near_zero():
    x = np.linspace(-50, 50, 1001)
    assert (taylor_exp(x) >= 0.5).all()
    np.testing.assert_allclose(taylor_exp(np.array([-0.01, 0.01])), np.exp([-0.01, 0.01]), atol=1e-6)


def test_gains_below_minus_one_are_warned_about(caplog):
    Smart(tasks=partial(GraphCut, lam=5.0)).task_budgets(pool_of([5, 5, 5, 5]), 10)
    assert "below -1" in caplog.text


def test_chosen_tasks_without_an_example_are_warned_about(caplog):
    stage1 = Smart().task_budgets(pool_of([5] * 6), 4)
    assert stage1.budget.tolist() == [2, 1, 1, 0, 0, 0]
    assert "3 of the 6 chosen tasks" in caplog.text


def test_an_ordinary_selection_says_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        select(Smart(), pool_of([12] * 8), 80)
    assert not caplog.text


def test_template_pools_share_a_budget_by_their_sizes():
    # 8 over 9 zero-shot and 6 few-shot: 4.8 and 3.2, so 5 and 3; 5 over 6 and 3: 3.3 and 1.7, so 4 and 1; 3
    # over 4 and 2: 2 and 1
    sizes = {"zs_opt": 6, "zs_noopt": 3, "fs_opt": 4, "fs_noopt": 2}
    label = np.random.default_rng(0).permutation(np.repeat(list(sizes), list(sizes.values())))
    pool = pool_of([15], template=label)
    pools = template_pools(pool, np.arange(15), 8)
    assert [(set(label[rows]), len(rows), k) for rows, k in pools] == [
        ({"zs_opt"}, 6, 4),
        ({"zs_noopt"}, 3, 1),
        ({"fs_opt"}, 4, 2),
        ({"fs_noopt"}, 2, 1),
    ]
    chosen = label[select(Smart(), pool, 8).index].tolist()
    assert {t: chosen.count(t) for t in sizes} == {"zs_opt": 4, "zs_noopt": 1, "fs_opt": 2, "fs_noopt": 1}


@pytest.mark.parametrize("budget", range(1, 13))
def test_template_pools_never_exceed_what_they_hold(budget):
    pool = pool_of([12], template=np.array(["fs_noopt"] * 7 + ["zs_opt"] * 4 + ["fs_opt"]))
    pools = template_pools(pool, np.arange(12), budget)
    assert sum(k for _, k in pools) == budget
    assert all(k <= len(rows) for rows, k in pools)


def test_only_tasks_with_template_types_are_split():
    pool = pool_of([4, 4])
    template = np.where(pool.task == 0, "", "zs_opt")
    pool = pool_of([4, 4], template=template)
    assert len(template_pools(pool, np.flatnonzero(pool.task == 0), 3)) == 1
    assert len(select(Smart(), pool, 6)) == 6


def test_an_unknown_template_type_is_named_with_its_task():
    pool = pool_of([4], template=np.array(["zs_opt", "zs_opt", "two_shot", ""]))
    with pytest.raises(InputError, match=r"'task0' has the template types .*two_shot"):
        select(Smart(), pool, 2)


def test_more_tasks_than_the_pool_has():
    with pytest.raises(InputError, match=r"num_tasks is 4, but the pool has 3 tasks"):
        select(Smart(num_tasks=4), pool_of([3, 3, 3]), 5)


def test_chosen_tasks_too_small_for_the_budget():
    with pytest.raises(InputError, match=r"1 chosen tasks hold 3 examples in total, but the budget is 4"):
        select(Smart(num_tasks=1), pool_of([3, 3, 3]), 4)


def test_copies_fill_a_task_whose_function_runs_out_of_distinct_examples(caplog):
    pool = pool_of([10, 10])
    X = pool.X.copy()
    rows = np.flatnonzero(pool.task == 0)
    X[rows[3:]] = X[rows[0]]
    pool = Pool(pool.ids, X, pool.task, pool.names, pool.cost)
    selection = select(Smart(instances=partial(LogDet, kernel="vmf")), pool, 14)
    assert len(set(selection.index)) == 14
    assert np.isfinite(selection.gain).all()
    copies = (pool.task[selection.index] == 0).sum() - 3  # rows 0, 1 and 2 of the task differ
    assert f"task 'task0': {copies} of {copies + 3} examples are copies" in caplog.text


def test_tasks_that_coincide_are_refused_by_a_function_that_cannot_tell_them_apart():
    pool = pool_of([2, 2, 2])
    pool = Pool(pool.ids, np.ones((6, 3), np.float32), pool.task, pool.names, pool.cost)
    with pytest.raises(InputError, match=r"num_tasks is 3, but only 1 tasks differ"):
        select(Smart(tasks=partial(LogDet, kernel="vmf")), pool, 3)


def test_a_row_that_cannot_be_compared_is_reported_with_its_task():
    pool = pool_of([4, 4])
    X = pool.X.copy()
    X[np.flatnonzero(pool.task == 1)[2]] = 0
    with pytest.raises(InputError, match="Choosing examples of task 'task1'"):
        select(Smart(), Pool(pool.ids, X, pool.task, pool.names, pool.cost), 6)


@pytest.mark.parametrize(
    "make",
    [lambda: Smart(num_tasks=0), lambda: Smart(temperature=0.0), lambda: Smart(temperature=float("nan"))],
)
def test_parameters_out_of_range_are_refused(make):
    with pytest.raises(InputError, match=r"strategy\.(num_tasks|temperature) is (0|nan)"):
        make()


def test_task_vectors_that_the_pool_brings_decide_over_tasks_and_not_over_examples():
    pool = pool_of([6, 7, 8, 9])
    rng = np.random.default_rng(1)
    vectors = (1 + 0.5 * rng.normal(size=(4, 12))).astype(np.float32)
    with_vectors = dataclasses.replace(pool, task_vectors=vectors)
    order, gains = greedy(graph_cut(cosine(vectors)), 4, 3)
    stage1 = Smart(num_tasks=3).task_budgets(with_vectors, 12)
    assert stage1.order.tolist() == order
    np.testing.assert_allclose(stage1.gain, gains, rtol=1e-6)
    means = np.stack([pool.X[pool.task == j].mean(axis=0) for j in range(4)])
    own, given = select(Smart(), pool, 30), select(Smart(), dataclasses.replace(pool, task_vectors=means), 30)
    assert own.index.tolist() == given.index.tolist()


def test_task_vectors_follow_the_names_when_tasks_are_numbered_otherwise():
    pool = dataclasses.replace(
        pool_of([6, 7, 8, 9]), task_vectors=np.random.default_rng(1).uniform(size=(4, 12)).astype(np.float32)
    )
    names = np.array([2, 0, 3, 1])
    other = dataclasses.replace(
        pool,
        task=np.argsort(names)[pool.task],
        names=[pool.names[j] for j in names],
        task_vectors=pool.task_vectors[names],
    )
    assert select(Smart(), pool, 12).index.tolist() == select(Smart(), other, 12).index.tolist()


@pytest.mark.parametrize("instances", [LogDet, partial(LogDet, kernel="vmf"), GraphCut])
def test_gains_do_not_depend_on_the_order_in_which_a_task_was_summed(instances, monkeypatch):
    """Another number of threads, as a cluster's task has, changes the last bits of what it sums."""
    pool, strategy = pool_of([40, 30]), Smart(instances=instances)
    here = select(strategy, pool, 20)

    def summed_otherwise(*arguments):
        chosen = _greedy_order(*arguments)
        return Selection(chosen.index, np.nextafter(chosen.gain, np.inf))

    monkeypatch.setattr(smart, "_greedy_order", summed_otherwise)
    there = select(strategy, pool, 20)
    assert (there.index.tolist(), there.gain.tolist()) == (here.index.tolist(), here.gain.tolist())
