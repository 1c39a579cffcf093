"""What every strategy promises, checked for every YAML under conf/strategy."""

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from smartdpp.config.allowed import component
from smartdpp.errors import InputError
from smartdpp.strategies.allocate import affordable
from smartdpp.strategies.terms import Terms
from smartdpp.strategies.terms import select as select_under
from smartdpp.types import Pool

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "strategy").glob("*.yaml"))
IGNORES_BUDGET = ["full", "none"]
VARIANTS = [  # of one of them
    "dsir strategy.temperature=0",
    "tsds strategy.sigma=0",
    "tsds strategy.sample=true",
    *(f"targeted strategy.function={rule}" for rule in ("round_robin", "max", "mean", "less")),
    *(f"targeted strategy.function={rule} strategy.targets=balanced" for rule in ("round_robin", "max")),
]
BUDGETED = [name for name in NAMES if name not in IGNORES_BUDGET]
# a smaller budget's selection is a prefix of a larger one's
PREFIX_NESTED = [
    *("dedup", "deita", "dpp", "dsir", "k_center", "kmeans_random", "kmq", "novelselect", "qdit"),
    *("random", "reselect", "submodular", "targeted", "top", "tsds", "uot"),
]
TASK_NESTED = [
    "dirichlet",
    "equal",
    "oracle",
    "proportional",
    "random_tasks",
    "smart",
    "temperature",
    "weights",
]  # the same inside each task
# a choice for one budget is no part of one for another
NOT_NESTED = ["decile", "dpp_sample", "filtered", "gist", "kmq_rounds", "s2l", "tagcos", "two_rounds"]


NEEDS = {"weights": ["strategy.weights={b: 1, c: 2, d: 1, e: 1, f: 0.5, g: 1}"]}


@cache
def build(name):
    name, *overrides = name.split()
    overrides += NEEDS.get(name, [])
    with initialize_config_dir(str(CONF), version_base=None):
        return instantiate(compose(overrides=[f"+strategy={name}", *overrides]).strategy)


def texts(rng, n):
    words = rng.choice(["red", "blue", "a", "to", "be"], size=(2, n, 4))
    return pa.table(
        {name: [" ".join(row) for row in words[i]] for i, name in enumerate(("prompt", "response"))}
    )


@pytest.fixture
def pool():
    """Seven tasks of 1 to 25 examples, one of them missing from the pool; ids, tasks and names unordered;
    copies among the rows."""
    rng = np.random.default_rng(0)
    sizes = [12, 25, 0, 1, 7, 3, 12]
    task = rng.permutation(np.repeat(np.arange(7), sizes))
    X = (rng.normal(size=(7, 8))[task] + 0.7 * rng.normal(size=(60, 8))).astype(np.float32)
    X[40:55] = X[:15]
    ids = np.array([f"{i:02d}" for i in rng.permutation(60)])
    query = rng.normal(size=(5, 8)).astype(np.float32)
    return Pool(
        ids,
        X,
        task,
        list("gcafbed"),
        rng.integers(5, 90, 60),
        quality=rng.uniform(1, 50, 60),
        score=rng.uniform(1, 2, 60),
        query=query,
        query_task=np.array([0, 1, 0, 2, 0]),
        query_names=["y", "x", "z"],
        text=texts(rng, 60),
        query_text=texts(rng, 5),
    )


def permuted(pool, rng):
    """The same set of examples in another row order, the tasks numbered otherwise."""
    rows, names = rng.permutation(len(pool)), rng.permutation(len(pool.names))
    return Pool(
        pool.ids[rows],
        pool.X[rows],
        np.argsort(names)[pool.task[rows]],
        [pool.names[j] for j in names],
        pool.cost[rows],
        pool.quality[rows],
        score=pool.score[rows],
        query=pool.query,
        query_task=pool.query_task,
        query_names=pool.query_names,
        text=pool.text.take(rows),
        query_text=pool.query_text,
    )


def select(strategy, pool, budget, seed=0):
    return strategy.select(pool, budget, np.random.default_rng(seed))


def test_every_strategy_is_here():
    assert sorted(PREFIX_NESTED + TASK_NESTED + NOT_NESTED + IGNORES_BUDGET) == NAMES


@pytest.mark.parametrize("name", BUDGETED)
def test_it_says_whether_it_is_nested_and_a_budget_in_tokens_is_kept(name, pool):
    strategy = build(name)
    component("strategy", f"{type(strategy).__module__}.{type(strategy).__name__}")  # what it may leave out
    assert strategy.nested == (name in PREFIX_NESTED)
    most = affordable(pool.cost, 700)
    selection = select_under(strategy, pool, Terms(budget_tokens=700), most, np.random.default_rng(0))
    assert 700 - pool.cost.max() < pool.cost[selection.index].sum() <= 700
    assert len(set(selection.index.tolist())) == len(selection)


@pytest.mark.parametrize("name", NAMES + VARIANTS)
@pytest.mark.parametrize("budget", [1, 13, 40, 60])
def test_distinct_rows_as_many_as_promised_with_finite_gains(name, budget, pool):
    strategy = build(name)
    selection = select(strategy, pool, budget)
    assert strategy.size(60, budget) == len(selection) == {"full": 60, "none": 0}.get(name, budget)
    assert selection.index.dtype == np.int64
    assert selection.gain.dtype == np.float64
    assert len(set(pool.ids[selection.index])) == len(selection) == len(selection.gain)
    assert np.isfinite(selection.gain).all()


@pytest.mark.parametrize("name", NAMES + VARIANTS)
@pytest.mark.parametrize("budget", [7, 30])
def test_the_pool_is_a_set_and_the_seed_the_only_chance(name, budget, pool):
    strategy = build(name)
    first = select(strategy, pool, budget)
    for shuffle in range(5):
        other = permuted(pool, np.random.default_rng(shuffle))
        again = select(strategy, other, budget)
        assert other.ids[again.index].tolist() == pool.ids[first.index].tolist()
        np.testing.assert_array_equal(again.gain, first.gain)


@pytest.mark.parametrize(
    "name", ["dedup", "dpp_sample", "dsir", "random", "proportional", "equal", "temperature", "random_tasks"]
)
def test_random_strategies_follow_the_seed(name, pool):
    strategy = build(name)
    draws = [tuple(select(strategy, pool, 20, seed).index) for seed in range(4)]
    assert len(set(draws)) == 4


@pytest.mark.parametrize("name", PREFIX_NESTED + VARIANTS)
def test_a_smaller_budget_is_a_prefix(name, pool):
    strategy = build(name)
    largest = select(strategy, pool, 60)
    for budget in (1, 9, 33, 59):
        smaller = select(strategy, pool, budget)
        assert smaller.index.tolist() == largest.index[:budget].tolist()


@pytest.mark.parametrize("name", TASK_NESTED)
def test_inside_a_task_a_smaller_count_is_a_prefix(name, pool):
    strategy = build(name)
    largest = select(strategy, pool, 60).index
    for budget in (1, 9, 33, 59):
        smaller = select(strategy, pool, budget).index
        for task in range(7):
            mine = smaller[pool.task[smaller] == task]
            assert mine.tolist() == largest[pool.task[largest] == task][: len(mine)].tolist()


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("budget", [0, -1, 61])
def test_an_impossible_budget_is_refused_with_both_numbers(name, budget, pool):
    with pytest.raises(InputError, match=rf"budget is {budget}, .*60"):
        select(build(name), pool, budget)


@pytest.mark.parametrize("name", IGNORES_BUDGET)
def test_full_and_none_ignore_the_budget(name, pool):
    assert len(select(build(name), pool, -1)) == {"full": 60, "none": 0}[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_pool_is_only_read(name, pool):
    arrays = [pool.ids, pool.X, pool.task, pool.cost, pool.quality]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    select(build(name), pool, 30)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_memory_mapped_pool_selects_the_same(pool, tmp_path):
    np.save(tmp_path / "X.npy", pool.X)
    mapped = Pool(pool.ids, np.load(tmp_path / "X.npy", mmap_mode="r"), pool.task, pool.names, pool.cost)
    for name in ("smart", "dpp"):
        assert select(build(name), mapped, 20).index.tolist() == select(build(name), pool, 20).index.tolist()
