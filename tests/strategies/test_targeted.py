"""Selection towards a query: the functions by id order, what happens when nothing is left to gain, and what
is refused."""

import logging

import numpy as np
import pyarrow as pa
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import FLQMI, FLVMI, GCMI
from smartdpp.greedy import maximize
from smartdpp.query import Development
from smartdpp.strategies import mixture
from smartdpp.strategies.targeted import Targeted
from smartdpp.types import Pool


def pool_of(n=60, d=6, m=4, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.array([f"{i:03d}" for i in rng.permutation(n)])
    X = rng.normal(size=(n, d)).astype(np.float32)
    return Pool(
        ids, X, np.zeros(n, int), ["t"], np.ones(n, int), query=rng.normal(size=(m, d)).astype(np.float32)
    )


def select(strategy, pool, budget):
    return strategy.select(pool, budget, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("strategy", "function"),
    [
        (Targeted(Development()), lambda X, Q: FLQMI(X, Q)),
        (Targeted(Development(), "flvmi", eta=3.0), lambda X, Q: FLVMI(X, Q, eta=3.0)),
        (Targeted(Development(), "gcmi"), lambda X, Q: GCMI(X, Q)),
        (Targeted(Development(), "gcmi", redundancy=0.1), lambda X, Q: GCMI(X, Q, redundancy=0.1)),
    ],
)
def test_it_is_the_greedy_order_of_the_function_over_the_pool_by_id(strategy, function):
    pool = pool_of()
    rows = np.argsort(pool.ids)
    expected = maximize(function(pool.X[rows], pool.query), 12)
    found = select(strategy, pool, 12)
    assert found.index.tolist() == rows[expected.index].tolist()
    np.testing.assert_allclose(found.gain, expected.gain)


def test_flvmi_over_witnesses_covers_these_rows_alone():
    pool, rows = pool_of(), np.argsort(pool_of().ids)
    drawn = np.random.default_rng(0).permutation(60)[:20]
    V, Q = (A / np.linalg.norm(A, axis=1)[:, None] for A in (pool.X[rows].astype(float), pool.query))
    reach = np.minimum((V @ V[drawn].T).clip(0), 3 * (V[drawn] @ Q.T).max(1).clip(0))
    best, expected = np.zeros(20), []
    for _ in range(8):
        gain = np.maximum(reach - best, 0).sum(1)
        gain[expected] = -1
        expected.append(int(gain.argmax()))
        best = np.maximum(best, reach[expected[-1]])
    some = Targeted(Development(), "flvmi", eta=3.0, witnesses=20)
    assert select(some, pool, 8).index.tolist() == rows[expected].tolist()
    assert select(some, pool, 5).index.tolist() == rows[expected[:5]].tolist()
    whole = Targeted(Development(), "flvmi", eta=3.0)
    all_of_them = Targeted(Development(), "flvmi", eta=3.0, witnesses=60)
    assert select(all_of_them, pool, 8).index.tolist() == select(whole, pool, 8).index.tolist()
    for wrong in ({"witnesses": 0, "function": "flvmi"}, {"witnesses": 9}):
        with pytest.raises(InputError, match=r"strategy.witnesses is \d"):
            Targeted(Development(), **wrong)


def test_a_query_that_is_covered_is_covered_once_more(caplog):
    """With eta = 0 a few picks are nearest to every query; the next few are nearest among the rest."""
    pool = pool_of()
    S = (pool.query / np.linalg.norm(pool.query, axis=1)[:, None]) @ (
        pool.X / np.linalg.norm(pool.X, axis=1)[:, None]
    ).T
    with caplog.at_level(logging.INFO):
        index = select(Targeted(Development(), eta=0.0), pool, 60).index.tolist()
    assert sorted(index) == list(range(60))
    for _ in range(3):
        nearest = set(S.argmax(axis=1).tolist())
        covered = max(index.index(j) for j in nearest) + 1
        assert covered <= 8
        S[:, index[:covered]] = -np.inf
        index = index[covered:]
    assert "nothing was left to gain" in caplog.text


def test_without_a_query_or_with_impossible_weights():
    with pytest.raises(InputError, match="without a query"):
        select(Targeted(Development()), Pool(**{**vars(pool_of()), "query": None}), 3)
    with pytest.raises(InputError, match=r"strategy.eta is -1"):
        Targeted(Development(), eta=-1)


def test_a_pool_knows_which_target_each_row_of_its_query_belongs_to_and_texts_where_they_are_read():
    rows = [{"task": task, "prompt": task * 2, "response": ""} for task in "babc"]
    pool = mixture.towards(pool_of(), np.zeros((4, 6), np.float32), rows)
    assert pool.query_names == ["b", "a", "c"]
    assert pool.query_task.tolist() == [0, 1, 0, 2]
    assert pool.text is None
    table = pa.table({"id": ["1"], "prompt": ["p"], "response": ["r"], "task": ["t"]})
    read = mixture.with_text(pool, table, rows)
    assert read.text.to_pylist() == [{"prompt": "p", "response": "r"}]
    assert read.query_text["prompt"].to_pylist() == ["bb", "aa", "bb", "cc"]
