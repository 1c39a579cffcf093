"""M' and f2 from the data: the rule written out, and what it does with data whose answer is known."""

import logging
from functools import partial

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.strategies.automatic import Auto, decide, nearness, smallest_within_one_error
from smartdpp.strategies.smart import Smart
from smartdpp.types import Pool


def pool_of(X, task, template=None):
    n, rng = len(task), np.random.default_rng(9)
    ids = np.array([f"{i:04d}" for i in rng.permutation(n)])
    return Pool(
        ids,
        X.astype(np.float32),
        task,
        [f"t{j:02d}" for j in range(task.max() + 1)],
        np.ones(n, int),
        template=template,
    )


def clustered(tasks=8, size=12, d=6, seed=0, spread=0.4):
    rng = np.random.default_rng(seed)
    task = rng.permutation(np.repeat(np.arange(tasks), size))
    return pool_of(rng.normal(size=(tasks, d))[task] + spread * rng.normal(size=(len(task), d)), task)


def select(strategy, pool, budget):
    return strategy.select(pool, budget, np.random.default_rng(0)).index


def test_nearness_is_the_mean_cosine_with_the_nearest_chosen_example_of_another_task():
    pool = clustered()
    X = pool.X / np.linalg.norm(pool.X, axis=1, keepdims=True)
    smarts = [Smart(num_tasks=k) for k in (2, 5, 8)]
    c = nearness(pool, smarts[0], [s.plan(pool, s.task_budgets(pool, 20)) for s in smarts])
    for smart, found in zip(smarts, c, strict=True):
        index = select(smart, pool, 20)
        for t in range(8):
            others = index[pool.task[index] != t]
            expected = np.mean([max(0.0, *(X[i] @ X[others].T)) for i in np.flatnonzero(pool.task == t)])
            assert found[t] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("budget", [9, 30, 70])
def test_the_choice_is_the_best_pair_then_the_fewest_tasks_within_one_standard_error(budget, caplog):
    pool = clustered(seed=1)
    functions = {"facility_location": FacilityLocation, "graph_cut": GraphCut, "logdet": LogDet}
    grid = [k for k in (1, 2, 4, 8) if 12 * k >= budget]
    smarts = {name: [Smart(num_tasks=k, instances=f2) for k in grid] for name, f2 in functions.items()}
    c = {
        name: nearness(pool, some[0], [s.plan(pool, s.task_budgets(pool, budget)) for s in some])
        for name, some in smarts.items()
    }
    pair = max(c, key=lambda name: c[name].mean(axis=1).max())
    loss = c[pair].mean(axis=1).max() - c[pair].mean(axis=1)
    best = c[pair][c[pair].mean(axis=1).argmax()]
    error = [np.std(best - row, ddof=1) / np.sqrt(8) for row in c[pair]]
    expected = smarts[pair][next(i for i in range(len(grid)) if loss[i] <= error[i])]

    auto = Smart(num_tasks="auto", instances=Auto())
    with caplog.at_level(logging.INFO):
        assert decide(auto, pool, budget) == expected
    assert f"{expected.num_tasks} of 8 tasks" in caplog.text
    assert select(auto, pool, budget).tolist() == select(expected, pool, budget).tolist()
    assert (
        auto.task_budgets(pool, budget).order.tolist() == expected.task_budgets(pool, budget).order.tolist()
        if budget == 9
        else True
    )


def test_tasks_that_repeat_others_are_left_out():
    """Sixteen tasks that are two, eight times over: whichever is left out has its copies among the first few,
    two or twelve."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(16), 20)
    pool = pool_of(np.eye(2)[task % 2] + 0.3 + 0.02 * rng.normal(size=(320, 2)), task)
    # with 2, the two chosen ones have no neighbour left
    assert decide(Smart(num_tasks="auto"), pool, 16).num_tasks == 4


def test_tasks_that_all_differ_are_all_wanted():
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(8), 30)
    # each task's neighbours are the two beside it
    ring = np.stack([np.cos(task * np.pi / 8), np.sin(task * np.pi / 8)], axis=1)
    assert (
        decide(Smart(num_tasks="auto"), pool_of(ring + 0.01 * rng.normal(size=(240, 2)), task), 100).num_tasks
        == 8
    )


def test_one_standard_error():
    c = np.array([[0.0, 0.0, 0.0, 0.0], [0.8, 0.9, 1.0, 1.3], [1.0, 1.0, 1.0, 1.1]])
    assert smallest_within_one_error(c) == 1
    assert smallest_within_one_error(c[[0, 2]]) == 1
    assert smallest_within_one_error(np.ones((3, 1))) == 0


def test_a_number_of_tasks_too_small_for_the_budget_is_no_candidate():
    pool = clustered(tasks=4, size=10)
    assert decide(Smart(num_tasks="auto"), pool, 31).num_tasks == 4
    with pytest.raises(InputError, match="hold 20 examples in total, but the budget is 31"):
        decide(Smart(num_tasks=2, instances=Auto()), pool, 31)


def test_template_pools_are_kept_apart():
    task = np.repeat([0, 1, 2], 12)
    template = np.tile(["zs_opt", "fs_noopt", "zs_noopt"], 12)
    pool = pool_of(np.random.default_rng(0).normal(size=(36, 5)), task, template)
    auto, budget = Smart(num_tasks="auto", instances=Auto(["logdet"])), 15
    decided = decide(auto, pool, budget)
    assert select(auto, pool, budget).tolist() == select(decided, pool, budget).tolist()


def test_f1_can_be_left_open_too():
    pool = clustered(seed=3)
    decided = decide(Smart(tasks=Auto(), num_tasks=4), pool, 20)
    assert decided.num_tasks == 4
    assert decided.tasks in (FacilityLocation, GraphCut, LogDet)
    assert len(select(Smart(tasks=Auto(), num_tasks=4), pool, 20)) == 20


def test_one_task_is_one_task():
    pool = pool_of(np.random.default_rng(0).normal(size=(9, 3)), np.zeros(9, dtype=np.int64))
    assert decide(Smart(num_tasks="auto"), pool, 4).num_tasks == 1


def test_a_configured_function_keeps_its_parameters():
    pool = clustered()
    smart = Smart(tasks=partial(GraphCut, lam=0.1), num_tasks="auto")
    assert decide(smart, pool, 20).tasks is smart.tasks


def test_unknown_functions_are_refused():
    with pytest.raises(InputError, match="name at least one of facility_location"):
        Auto([])
    with pytest.raises(InputError, match="set_cover"):
        Auto(["set_cover"])
