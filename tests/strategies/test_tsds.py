"""TSDS and unbalanced transport against a slow reading of their equations."""

from __future__ import annotations

import heapq
import logging
import sys
from dataclasses import replace

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.functions.features import Features
from smartdpp.query import Development
from smartdpp.strategies import tsds
from smartdpp.strategies.tsds import Tsds
from smartdpp.strategies.uot import Uot
from smartdpp.types import Pool


def pool_of(n: int = 200, d: int = 4, m: int = 5, seed: int = 0) -> Pool:
    """With clusters of near copies."""
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n // 4, d)).repeat(4, axis=0) + 0.3 * rng.normal(size=(n, d))).astype(np.float32)
    ids = np.array([f"{i:03d}" for i in rng.permutation(n)])
    query = rng.normal(size=(m, d)).astype(np.float32)
    return Pool(ids, X, np.zeros(n, int), ["t"], np.ones(n, int), query=query)


def unit(X: np.ndarray) -> np.ndarray:
    X = X.astype(np.float64)
    return X / np.linalg.norm(X, axis=1)[:, None]


def assigned(pool: Pool, sigma: float, alpha: float, C: float, most: int) -> np.ndarray:
    """The probability of every row: s is raised from one row's end to the next, whichever comes first."""
    X, Q = unit(pool.X), unit(pool.query)
    n, m = len(X), len(Q)
    K = max(2, min(most, n // 10))
    distance = np.linalg.norm(Q[:, None] - X[None], axis=2)
    near = np.argsort(distance, axis=1)[:, :K]
    union = sorted(set(near.ravel().tolist()))
    density = {}
    for i in union:
        D2 = ((X[i] - X[union]) ** 2).sum(1)
        density[i] = np.maximum(0, 1 - D2 / sigma**2).sum() if sigma else 1.0

    def takes(j: int, k: int) -> float:
        return 1 / density[near[j, k]]

    def way(j: int, k: int, s: float) -> float:
        return distance[j, near[j, k + 1]] * s - sum(
            distance[j, near[j, i]] * takes(j, i) for i in range(k + 1)
        )

    ends, cost, s = [(takes(j, 0), 0, j) for j in range(m)], dict.fromkeys(range(m), 0.0), 0.0
    heapq.heapify(ends)
    while ends:
        s, k, j = heapq.heappop(ends)
        cost[j] = way(j, k, s)
        if alpha / C * sum(cost.values()) >= (1 - alpha) * m:
            break
        if k < K - 2:
            heapq.heappush(ends, (s + takes(j, k + 1), k + 1, j))
    p = np.zeros(n)
    for j in range(m):
        left = 1 / m
        for k in range(K):
            part = left if k == K - 1 else min(left, takes(j, k) / (m * s))
            p[near[j, k]] += part
            left -= part
    return p


@pytest.mark.parametrize(("sigma", "alpha"), [(0.75, 0.5), (0.75, 0.9), (0.0, 0.8), (1.5, 0.93), (0.2, 0.01)])
def test_probabilities_are_those_of_raising_s_row_by_row(
    sigma: float, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of()
    monkeypatch.setattr(tsds, "FIRST", 2)  # densities are looked at as they are needed
    expected = assigned(pool, sigma, alpha, 5.0, 15)
    found = Tsds(Development(), sigma, alpha, neighbors=15).probabilities(
        Features(pool.X), Features(pool.query)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.sum() == pytest.approx(1)
    assert alpha == 0.01 or (found > 0).sum() < 5 * 15, "s ended before the last neighbour"


def test_the_most_probable_are_taken_and_then_the_nearest(caplog: pytest.LogCaptureFixture) -> None:
    pool = pool_of()
    p = assigned(pool, 0.75, 0.9, 5.0, 5000)
    near = (unit(pool.query) @ unit(pool.X).T).max(axis=0)
    some = int((p > 0).sum())
    strategy = Tsds(Development(), alpha=0.9)
    with caplog.at_level(logging.WARNING):
        chosen = strategy.select(pool, 200, np.random.default_rng(0))
    assert f"{some} rows have a probability; the other {200 - some} are those nearest" in caplog.text
    assert (np.diff(np.round(p[chosen.index], 6)) <= 0).all()
    rest = chosen.index[some:]
    assert (np.diff(np.round(near[rest], 6)) <= 0).all()
    np.testing.assert_allclose(chosen.gain, p[chosen.index], atol=1e-6)


def test_drawn_rows_are_drawn_by_their_probabilities() -> None:
    pool, strategy = pool_of(60, m=2), Tsds(Development(), sample=True, alpha=0.8)
    p = strategy.probabilities(Features(pool.X), Features(pool.query))
    first = [strategy.select(pool, 1, np.random.default_rng(seed)).index[0] for seed in range(2000)]
    np.testing.assert_allclose(np.bincount(first, minlength=60) / 2000, p, atol=0.05)


def test_near_copies_share_one_place() -> None:
    """Twenty copies close to the query weigh as one row, where without densities they fill the first
    places."""
    rng = np.random.default_rng(1)
    X = np.concatenate([np.eye(4)[[0] * 20] + 0.02 * rng.normal(size=(20, 4)), rng.normal(size=(380, 4))])
    ids = np.array([f"{i:03d}" for i in range(400)])
    pool = Pool(
        ids,
        X.astype(np.float32),
        np.zeros(400, int),
        ["t"],
        np.ones(400, int),
        query=np.array([[1, 0.3, 0, 0]], np.float32),
    )
    copies = [
        (Tsds(Development(), sigma, 0.01).probabilities(Features(pool.X), Features(pool.query))[:20]).sum()
        for sigma in (0.0, 0.5)
    ]
    assert copies[1] < 0.5 * copies[0]


def sent(pool: Pool, reg: float, reg_pool: float) -> np.ndarray:
    """Mass received, by scaling in logarithms until nothing changes."""
    cost = (1 - unit(pool.query) @ unit(pool.X).T) / 2
    m, n = cost.shape
    log_k = -cost / reg - np.log(m * n)
    f, g, damp = np.zeros(m), np.zeros(n), reg_pool / (reg_pool + reg)
    for _ in range(500):
        f = -np.log(m) - np.logaddexp.reduce(log_k + g, axis=1)
        g = damp * (-np.log(n) - np.logaddexp.reduce(log_k + f[:, None], axis=0))
    return np.exp(f[:, None] + log_k + g).sum(axis=0)


@pytest.mark.parametrize(("reg", "reg_pool"), [(0.01, 1e-4), (0.05, 0.02)])
def test_rows_are_ranked_by_the_mass_they_receive(reg: float, reg_pool: float) -> None:
    pool = pool_of(80)
    mass = sent(pool, reg, reg_pool)
    chosen = Uot(Development(), reg, reg_pool).select(pool, 80, np.random.default_rng(0))
    np.testing.assert_allclose(chosen.gain, mass[chosen.index], rtol=1e-3, atol=1e-9)
    first = np.argsort(-mass)[:20]
    assert chosen.index[:20].tolist() == first.tolist()


def test_what_they_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong, said in (
        ({"sigma": -1.0}, "strategy.sigma is -1"),
        ({"alpha": 1.0}, "strategy.alpha is 1"),
        ({"C": 0.0}, "strategy.C is 0"),
        ({"neighbors": 1}, "strategy.neighbors is 1"),
    ):
        with pytest.raises(InputError, match=said):
            Tsds(Development(), **wrong)
    with pytest.raises(InputError, match=r"strategy.reg_pool is 0"):
        Uot(Development(), reg_pool=0.0)
    pool = pool_of(40)
    for strategy in (Tsds(Development()), Uot(Development())):
        with pytest.raises(InputError, match="without a query"):
            strategy.select(replace(pool, query=None), 3, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"strategy.reg is 1e-05, too small"):
        Uot(Development(), reg=1e-5).select(pool, 3, np.random.default_rng(0))
    monkeypatch.setitem(sys.modules, "ot", None)
    monkeypatch.setattr("smartdpp.strategies.uot.find_spec", lambda name: None)
    assert "pip install -c constraints.txt -e '.[transport]'" in Uot(Development()).check()[0]


def test_a_pool_of_one_row_is_that_row() -> None:
    pool = pool_of(40)
    one = replace(pool, ids=pool.ids[:1], X=pool.X[:1], task=pool.task[:1], cost=pool.cost[:1])
    assert Tsds(Development()).select(one, 1, np.random.default_rng(0)).index.tolist() == [0]
