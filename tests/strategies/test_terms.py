"""Budgets in tokens, weights, limits and repeats of tasks, and a start, by every strategy that takes them."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from smartdpp.config.allowed import component
from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.strategies import (
    baselines,
    dedup,
    deita,
    dpp,
    dpp_sample,
    k_center,
    mixing,
    smart,
    submodular,
    top,
)
from smartdpp.strategies.allocate import affordable
from smartdpp.strategies.automatic import Auto
from smartdpp.strategies.mixture import joined
from smartdpp.strategies.terms import Terms, select, uses_budget
from smartdpp.strategies.weights import Weights
from smartdpp.types import Asked, Pool

SIZES = {"a": 30, "b": 20, "c": 10, "d": 4}
SHARING = {
    "proportional": mixing.Proportional(),
    "equal": mixing.Equal(),
    "temperature": mixing.Temperature(),
    "random_tasks": mixing.RandomTasks(3),
    "smart": smart.Smart(),
}
ORDERED = {
    "random": baselines.Random(),
    "top": top.Top(),
    "top_of_tasks": top.Top(per_task=True),
    "deita": deita.Deita(),
    "dedup": dedup.Dedup(0.99),
    "dpp": dpp.Dpp(),
    "submodular": submodular.Submodular(),
}
OTHERS = {"dpp_sample": dpp_sample.DppSample(), "smart_auto": smart.Smart(num_tasks="auto")}
OTHERS["two_rounds"] = component("strategy", "smartdpp.strategies.two_rounds.TwoRounds")(parts=2)
for kind in (*SHARING.values(), *ORDERED.values(), *OTHERS.values(), Weights({"a": 1}), baselines.Full()):
    component("strategy", f"{type(kind).__module__}.{type(kind).__name__}")  # with what it may leave out


@pytest.fixture(scope="module")
def pool() -> Pool:
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(4), list(SIZES.values()))
    X = (rng.normal(size=(4, 6))[task] + 0.5 * rng.normal(size=(64, 6))).astype(np.float32)
    ids = np.array([f"{i:02d}" for i in range(64)])
    return Pool(ids, X, task, list(SIZES), rng.integers(5, 90, 64), quality=rng.uniform(1, 9, 64))


def chosen(strategy, pool, budget=20, seed=0, **terms):
    terms = Terms(**terms)
    if terms.budget_tokens is not None:
        budget = affordable(pool.cost, terms.budget_tokens)
    return select(strategy, pool, terms, budget, np.random.default_rng(seed))


def tokens(pool, selection):
    return int(pool.cost[selection.index].sum())


def shares(pool, selection, by=None):
    held = np.bincount(pool.task[selection.index], by, minlength=4)
    return held / held.sum()


@pytest.mark.parametrize("name", [*SHARING, *ORDERED, *OTHERS])
@pytest.mark.parametrize("budget", [300, 1111])
def test_a_budget_in_tokens_is_kept_and_less_than_the_longest_row_stays_unspent(name, budget, pool):
    strategy = {**SHARING, **ORDERED, **OTHERS}[name]
    selection = chosen(strategy, pool, budget_tokens=budget)
    assert budget - pool.cost.max() < tokens(pool, selection) <= budget
    assert len(set(selection.index.tolist())) == len(selection) == len(selection.gain) > 0


@pytest.mark.parametrize("name", ORDERED)
def test_a_smaller_budget_in_tokens_is_a_prefix_of_a_larger_one_and_of_one_in_examples(name, pool):
    small, large = (chosen(ORDERED[name], pool, budget_tokens=n) for n in (400, 900))
    order = chosen(ORDERED[name], pool, budget=50)
    assert small.index.tolist() == large.index[: len(small)].tolist() == order.index[: len(small)].tolist()
    after = order.index[: len(large) + 1]
    assert pool.cost[after].sum() > 900, "the next row of the order would have fitted"


def test_equal_mixing_under_a_budget_in_tokens_is_equal_in_tokens(pool):
    selection = chosen(mixing.Equal(), pool, budget_tokens=600)
    of_tokens = shares(pool, selection, pool.cost[selection.index])
    assert np.ptp(of_tokens) < 90 / 600 + 0.02  # one row of one task, at most


def test_gain_per_token_prefers_short_rows_and_best_is_the_better_of_both(pool):
    found = {
        way: chosen(submodular.Submodular(), pool, budget_tokens=500, tokens_by=way)
        for way in ("gain", "gain_per_token", "best")
    }
    mean = {way: pool.cost[one.index].mean() for way, one in found.items()}
    value = {way: one.gain.sum() for way, one in found.items()}
    assert mean["gain_per_token"] < mean["gain"]
    assert value["best"] == max(value["gain"], value["gain_per_token"])
    assert tokens(pool, found["gain_per_token"]) <= 500
    # the first pick is the row whose gain per token is the highest
    first = FacilityLocation(pool.X).state(1).gains() / pool.cost
    assert found["gain_per_token"].index[0] == first.argmax()


@pytest.mark.parametrize("name", SHARING)
def test_a_weight_of_zero_leaves_a_task_out_and_a_larger_one_gives_it_more(name, pool):
    even = shares(pool, chosen(SHARING[name], pool, budget=12))
    more = shares(pool, chosen(SHARING[name], pool, budget=12, weights={"a": 5, "b": 0}))
    assert more[1] == 0
    assert more[0] > even[0] or even[0] == 0


def test_smart_spends_tokens_of_template_pools_and_a_limited_task_stays_limited(pool):
    kinds = np.array(["zs_opt", "zs_noopt", "fs_opt", "fs_noopt"])
    templates = replace(pool, template=np.where(pool.task == 0, kinds[np.arange(64) % 4], ""))
    spent = chosen(smart.Smart(), templates, budget_tokens=900)
    assert 900 - 90 < tokens(pool, spent) <= 900
    assert len(set(templates.template[spent.index].tolist())) == 5
    limited = chosen(smart.Smart(), templates, budget_tokens=900, max_share=0.3)
    assert np.bincount(pool.task[limited.index], pool.cost[limited.index]).max() <= 270
    assert not set(chosen(smart.Smart(), replace(templates, start=spent.index), budget=20).index) & set(
        spent.index
    )


def test_weights_multiply_shares_exactly(pool):
    selection = chosen(mixing.Equal(), pool, budget=12, weights={"a": 3})
    assert (12 * shares(pool, selection)).tolist() == [6, 2, 2, 2]


@pytest.mark.parametrize("name", [*SHARING, *ORDERED])
def test_no_task_gets_above_its_largest_share(name, pool):
    strategy = {**SHARING, **ORDERED}[name]
    selection = chosen(strategy, pool, budget=20, max_share=0.35)
    assert len(set(selection.index.tolist())) == 20
    assert np.bincount(pool.task[selection.index]).max() <= 7
    spent = chosen(strategy, pool, budget_tokens=700, max_share=0.4)
    by_task = np.bincount(pool.task[spent.index], pool.cost[spent.index])
    assert by_task.max() <= 280
    assert tokens(pool, spent) > 400


def test_a_limit_passes_over_rows_of_the_order_and_changes_nothing_else(pool):
    free, limited = (chosen(top.Top(), pool, budget=15, **more) for more in ({}, {"max_share": 0.34}))
    room, expected = [5] * 4, []
    for row in chosen(top.Top(), pool, budget=64).index:
        if room[pool.task[row]] and len(expected) < 15:
            room[pool.task[row]] -= 1
            expected.append(int(row))
    assert limited.index.tolist() == expected != free.index.tolist()


@pytest.mark.parametrize(
    "strategy", [mixing.Equal(), mixing.Temperature(2), Weights(dict.fromkeys(SIZES, 1))]
)
def test_rows_are_repeated_where_a_share_is_more_than_a_task_holds(strategy, pool):
    selection = chosen(strategy, pool, budget=40, repeat={"d": 2})
    seen = np.bincount(selection.index, minlength=64)
    of_d = seen[pool.task == 3]
    assert len(selection) == 40
    assert seen[pool.task != 3].max() == 1
    assert of_d.max() == 2
    assert 4 < of_d.sum() <= 8
    assert chosen(strategy, pool, budget=100, repeat=2).index.size == 100  # of 64 rows
    spent = chosen(strategy, pool, budget_tokens=4000, repeat=2)
    assert pool.cost.sum() < 4000 - 90 < tokens(pool, spent) <= 4000


def test_explicit_shares_are_met_in_examples_and_in_tokens_and_tasks_not_named_give_nothing(pool):
    strategy = Weights({"b": 0.75, "a": 0.25})
    assert (16 * shares(pool, chosen(strategy, pool, budget=16))).tolist() == [4, 12, 0, 0]
    spent = chosen(strategy, pool, budget_tokens=800)
    assert shares(pool, spent, pool.cost[spent.index]) == pytest.approx([0.25, 0.75, 0, 0], abs=0.12)
    with pytest.raises(InputError, match="names 'z': the pool's tasks are a, b, c, d"):
        chosen(Weights({"z": 1}), pool, budget=3)
    with pytest.raises(InputError, match="give tasks positive numbers"):
        Weights({"a": 0})


def test_a_strategy_that_leaves_rows_out_gives_tokens_of_those_that_it_has(pool):
    bounded = top.Top(above=float(np.median(pool.quality)))
    for budget in (300, 1111, 5000):
        selection = chosen(bounded, pool, budget_tokens=budget)
        order = chosen(bounded, pool, budget=len(selection)).index.tolist()
        assert selection.index.tolist() == order
        assert budget - 90 < tokens(pool, selection) <= budget or len(selection) == 32
    with pytest.raises(InputError, match="Top has 32 examples, of which"):
        chosen(bounded, pool, budget=30, max_share=0.3)


STARTED = {
    **SHARING,
    **{name: one for name, one in ORDERED.items() if name != "deita"},
    "weights": Weights(dict.fromkeys(SIZES, 1)),
}


@pytest.mark.parametrize("name", STARTED)
@pytest.mark.parametrize("terms", [{}, {"budget_tokens": 600}], ids=["examples", "tokens"])
def test_rows_of_a_start_are_not_chosen_again(name, terms, pool):
    begun = np.arange(0, 64, 3)
    selection = chosen(STARTED[name], replace(pool, start=begun), budget=16, **terms)
    assert not set(selection.index.tolist()) & set(begun.tolist())
    assert len(set(selection.index.tolist())) == len(selection)
    if not terms:
        assert len(selection) == 16


@pytest.mark.parametrize(
    "strategy", [submodular.Submodular(), dpp.Dpp(), submodular.Submodular(partial(LogDet, ridge=0.1))]
)
def test_diversity_goes_on_from_a_start_as_if_it_had_been_picked(strategy, pool):
    first = chosen(strategy, pool, budget=8)
    going_on = chosen(strategy, replace(pool, start=first.index), budget=8)
    assert going_on.index.tolist() == chosen(strategy, pool, budget=16).index[8:].tolist()


@pytest.mark.parametrize(
    "strategy",
    [
        submodular.Submodular(),
        submodular.Submodular(GraphCut),
        dpp.Dpp(theta=0.2),
        smart.Smart(),
        k_center.KCenter(first="id"),
        dedup.Dedup(0.9),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_rows_outside_the_pool_count_as_if_they_were_in_it_and_chosen(strategy, pool):
    assert "outside" in strategy.honours
    outside = np.arange(0, 64, 5)
    own = np.setdiff1d(np.arange(64), outside)
    names = [pool.names[task] for task in pool.task[outside]]
    part = replace(
        pool, ids=pool.ids[own], X=pool.X[own], task=pool.task[own], cost=pool.cost[own],
        quality=pool.quality[own],
    )  # fmt: skip
    whole = chosen(strategy, replace(pool, start=outside), budget=12)
    added = chosen(strategy, joined(part, pool.X[outside], names), budget=12)
    assert own[added.index].tolist() == whole.index.tolist()
    np.testing.assert_allclose(added.gain, whole.gain, rtol=1e-5, atol=1e-9)


def test_a_row_outside_the_pool_whose_task_it_has_not_is_of_the_task_of_the_nearest_row(pool):
    scaled = replace(pool, X=pool.X * np.linspace(0.1, 9, 64, dtype=np.float32)[:, None])
    grown = joined(replace(scaled, start=np.array([3])), pool.X[[40, 62]], ["d", "mine"])
    assert [grown.names[task] for task in grown.task[64:]] == ["d", pool.names[pool.task[62]]]
    assert grown.start.tolist() == [3, 64, 65]
    assert grown.cost[65] == pool.cost[62]


def test_smart_goes_on_from_a_start_inside_every_task(pool):
    of_a = smart.Smart(num_tasks=1)
    first = chosen(of_a, pool, budget=4)
    going_on = chosen(of_a, replace(pool, start=first.index), budget=4)
    assert going_on.index.tolist() == chosen(of_a, pool, budget=8).index[4:].tolist()


def test_near_copies_of_a_start_are_removed_by_dedup(pool):
    X = pool.X.copy()
    X[40:64] = X[:24]
    doubled = replace(pool, X=X, start=np.arange(24))
    assert not set(chosen(dedup.Dedup(0.99), doubled, budget=16).index.tolist()) & set(range(40, 64))


def test_nothing_asked_is_the_strategy_itself(pool):
    for strategy in {**SHARING, **ORDERED, **OTHERS}.values():
        plain = strategy.select(pool, 9, np.random.default_rng(3))
        assert chosen(strategy, pool, budget=9, seed=3).index.tolist() == plain.index.tolist()
        within = replace(pool, asked=Asked())
        assert strategy.select(within, 9, np.random.default_rng(3)).index.tolist() == plain.index.tolist()


REFUSED = [
    (dpp.Dpp(), {"weights": {"a": 2}}, "weights=.*Dpp cannot follow it, as it gives tasks no shares"),
    (smart.Smart(), {"repeat": 2}, "repeat=2: Smart cannot follow it, as it takes no row twice"),
    (OTHERS["two_rounds"], {"max_share": 0.5}, "max_share=0.5: TwoRounds cannot follow it"),
    (dpp_sample.DppSample(), {"start": ["1"]}, "DppSample cannot follow it, as it does not go on"),
    (smart.Smart(instances=Auto()), {"start": ["1"]}, "Smart cannot follow it, as it does not go on"),
    (submodular.Submodular(LogDet), {"tokens_by": "best", "budget_tokens": 9}, "tokens_by=best: Submodular"),
    (dpp.Dpp(), {"tokens_by": "gain_per_token", "budget_tokens": 9}, "tokens_by=gain_per_token: Dpp"),
    (smart.Smart(num_tasks="auto"), {"max_share": 0.5, "budget_tokens": 9}, "give budget in place of"),
    (Weights({"a": 1}), {"weights": {"a": 2}}, "Weights cannot follow it"),
    (baselines.Full(), {"max_share": 0.5}, "Full is the same whatever is asked; leave max_share out"),
]


@pytest.mark.parametrize(("strategy", "terms", "said"), REFUSED)
def test_what_a_strategy_cannot_do_is_refused_in_a_sentence(strategy, terms, said):
    problems = list(Terms(**terms).misfits(strategy))
    assert len(problems) == 1
    assert re.search(said, problems[0]), problems


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"budget_tokens": 0}, "at least 1 token"),
        ({"weights": {"a": -1}}, "a weight is 0 or a positive number"),
        ({"max_share": 0}, "above 0 and at most 1"),
        ({"repeat": {"a": 0}}, "whole numbers of at least 1"),
        ({"tokens_by": "best"}, "give that too"),
        ({"start_include": True}, "there is no start to include"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(terms, said):
    with pytest.raises(InputError, match=said):
        Terms(**terms)


@pytest.mark.parametrize(
    ("terms", "budget", "said"),
    [
        ({"weights": {"z": 2}}, 9, r"weights: the pool has no task 'z'; its tasks are a, b"),
        ({"repeat": {"z": 2}}, 9, r"repeat: the pool has no task 'z'"),
        ({"weights": {"a": 0}}, 9, r"budget=9: the pool holds 5 examples under weights"),
        ({"max_share": 0.4}, 12, r"budget=12: the pool holds 8 examples under max_share"),
        ({"repeat": 2}, 31, r"budget=31: the pool holds 30 examples under repeat; choose at most 30"),
        ({"budget_tokens": 151}, None, r"budget_tokens=151: the pool holds 150 tokens; choose at most 150"),
        ({"repeat": 2}, 30, ""),
        ({"budget_tokens": 150, "max_share": 0.8}, None, r"the pool holds 150|^$"),
    ],
)
def test_what_the_pool_cannot_give_is_told_before_anything_is_chosen(terms, budget, said):
    problems = Terms(**terms).problems((), ["a", "b"], np.array([10, 5]), np.array([100, 50]), budget)
    assert re.search(said, " ".join(problems)), problems
    assert bool(problems) == bool(said) or said.endswith("^$")


def test_only_strategies_with_a_budget_look_at_one_in_tokens(pool):
    assert [uses_budget(one) for one in (baselines.Full(), baselines.Random())] == [False, True]
    assert Terms(budget_tokens=5).of_strategy(baselines.Full()) == Terms()
