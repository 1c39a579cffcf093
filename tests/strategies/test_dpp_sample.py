"""Draws come with the probabilities of the k-DPP, enumerated; and the strategy is made of them."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from smartdpp.errors import InputError
from smartdpp.functions.kernels import Kernel
from smartdpp.strategies.dpp_sample import DppSample
from smartdpp.strategies.gamma import gamma_for
from smartdpp.strategies.kdpp import (
    choose_eigenvalues,
    log_elementary,
    sample,
    sample_dual,
    steps_enough,
    walk,
)
from smartdpp.types import Pool

N, K = 7, 3
SETS = list(combinations(range(N), K))


@pytest.fixture
def X():
    X = np.random.default_rng(1).normal(size=(N, 4))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def probabilities(L):
    det = np.array([np.linalg.det(L[np.ix_(Y, Y)]) for Y in SETS])
    return det / det.sum()


def p_value(draws, L):
    """Chi-square of the draws against the enumerated probabilities."""
    index = {frozenset(Y): i for i, Y in enumerate(SETS)}
    counts = np.bincount([index[frozenset(map(int, draw))] for draw in draws], minlength=len(SETS))
    return chisquare(counts, len(draws) * probabilities(L)).pvalue


def vmf(X, gamma=2.0):
    return Kernel("vmf", gamma).similarity(X, X)


def test_exact_draws_have_the_enumerated_probabilities(X):
    rng = np.random.default_rng(0)
    assert p_value([sample(vmf(X), K, rng) for _ in range(4000)], vmf(X)) > 0.01


def test_the_dual_draws_the_same_from_fewer_numbers(X):
    rng = np.random.default_rng(0)
    assert p_value([sample_dual(X, K, rng) for _ in range(4000)], X @ X.T) > 0.01


def test_the_chain_comes_to_the_enumerated_probabilities(X):
    rng, weight = np.random.default_rng(0), np.random.default_rng(2).uniform(0.3, 3, N)

    def block(rows, columns):
        return vmf(X)[np.ix_(rows, columns)]

    L = vmf(X) * np.sqrt(np.outer(weight, weight))
    start = np.array(SETS[int(np.argmax(probabilities(L)))])
    assert p_value([walk(block, 1.0, weight, start, 8, rng) for _ in range(1500)], L) > 0.01
    # and a wrong law is told apart by as many draws
    assert p_value([walk(block, 1.0, weight, start, 8, rng) for _ in range(1500)], vmf(X)) < 1e-6


def test_the_chain_looks_at_all_items_where_few_are_accepted(X, monkeypatch):
    monkeypatch.setattr("smartdpp.strategies.kdpp.BATCH", (1, 1))
    rng, weight = np.random.default_rng(0), np.ones(N)
    near = 1 - 0.02 * (1 - vmf(X))  # all but copies: residuals of about a hundredth

    def block(rows, columns):
        return near[np.ix_(rows, columns)]

    assert p_value([walk(block, 1.0, weight, np.arange(K), 8, rng) for _ in range(800)], near) > 0.01


@pytest.mark.parametrize("method", ["exact", "chain"])
def test_quality_enters_as_the_greedy_strategy_weighs_it(X, method):
    theta, q = 0.4, np.random.default_rng(3).uniform(0.2, 5, N)
    a = theta / (2 * (1 - theta))
    L = vmf(X) * np.outer(q**a, q**a)
    strategy, rng = DppSample(gamma=2.0, theta=theta, method=method, steps=8), np.random.default_rng(1)
    pool = pool_of(X, q)
    draws = [strategy.select(pool, K, rng).index for _ in range(1200)]
    assert p_value(draws, L) > 0.01


def test_elementary_symmetric_polynomials_are_sums_of_products():
    values = np.array([0.5, 2.0, 3.0, 0.1])
    E = np.exp(log_elementary(values, 3))
    for j in range(5):
        for k in range(4):
            assert E[j, k] == pytest.approx(sum(np.prod(c) for c in combinations(values[:j], k)))


def test_eigenvalues_are_chosen_by_their_product_at_any_scale():
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e-150):
        draws = [
            frozenset(choose_eigenvalues(scale * np.array([1.0, 2.0, 4.0]), 2, rng).tolist())
            for _ in range(3000)
        ]
        counts = [draws.count(frozenset(s)) for s in ((0, 1), (0, 2), (1, 2))]
        assert chisquare(counts, 3000 * np.array([2, 4, 8]) / 14).pvalue > 0.01


def test_no_more_items_than_the_rank():
    X = np.repeat(np.random.default_rng(0).normal(size=(4, 6)), 3, axis=0)
    drawn = sample(X @ X.T, 10, np.random.default_rng(0))
    assert sorted(drawn // 3) == [0, 1, 2, 3]
    assert len(sample_dual(X, 10, np.random.default_rng(0))) == 4


def test_steps_grow_with_k_and_hardly_with_n():
    assert steps_enough(50_000, 500) == pytest.approx(500 * (np.log(8_700) + np.log(5000)), rel=0.02)
    assert steps_enough(500_000, 500) < 1.02 * steps_enough(50_000, 500)
    assert steps_enough(10, 10) == steps_enough(10, 0) == 0


def pool_of(X, quality=None):
    n = len(X)
    return Pool(
        np.array([f"{i:04d}" for i in range(n)]),
        X,
        np.zeros(n, int),
        ["all"],
        np.ones(n, int),
        quality=quality,
    )


@pytest.mark.parametrize("kernel", ["vmf", "rbf", "linear"])
def test_chain_and_eigenvectors_agree_on_a_larger_pool(kernel):
    """The mean log determinant of draws, by either method."""
    X = np.random.default_rng(0).normal(size=(120, 30)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    means = {}
    for method in ("exact", "chain"):
        strategy = DppSample(kernel=kernel, method=method)
        sums = [strategy.select(pool_of(X), 12, np.random.default_rng(seed)).gain.sum() for seed in range(40)]
        means[method] = np.mean(sums), np.std(sums, ddof=1) / np.sqrt(40)
    (a, sa), (b, sb) = means.values()
    assert abs(a - b) < 4 * np.hypot(sa, sb)


def test_gains_sum_to_the_log_determinant_of_the_draw():
    X = np.random.default_rng(0).normal(size=(30, 5))
    selection = DppSample(kernel="rbf").select(pool_of(X), 8, np.random.default_rng(0))
    S = Kernel("rbf").similarity(X, X)
    assert selection.gain.sum() == pytest.approx(
        np.linalg.slogdet(S[np.ix_(selection.index, selection.index)])[1]
    )


@pytest.mark.parametrize("kernel", ["vmf", "rbf"])
def test_gamma_gives_the_effective_items_asked_for(kernel):
    X = np.random.default_rng(0).normal(size=(60, 5))
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    for items in (1.5, 10, 50):
        gamma = gamma_for(X, items, kernel, np.random.default_rng(0))
        values = np.linalg.eigvalsh(Kernel(kernel, gamma).similarity(*[unit if kernel == "vmf" else X] * 2))
        assert values.sum() ** 2 / np.square(values).sum() == pytest.approx(items, rel=1e-6)


def test_effective_items_of_a_large_pool_come_from_a_sample(monkeypatch):
    X = np.random.default_rng(0).normal(size=(900, 6))
    exact = gamma_for(X, 20, "vmf", np.random.default_rng(0))
    monkeypatch.setattr("smartdpp.strategies.gamma.MOST", 400)
    assert gamma_for(X, 20, "vmf", np.random.default_rng(0)) == pytest.approx(exact, rel=0.1)


def test_more_effective_items_than_there_are_is_refused_with_the_range():
    X = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 2, axis=0)
    with pytest.raises(InputError, match=r"strategy.effective_items is 6: .*between 1.00 and 5"):
        DppSample(effective_items=6).select(pool_of(X), 3, np.random.default_rng(0))


def test_theta_without_quality_is_refused():
    with pytest.raises(InputError, match=r"strategy.theta is 0.1, but there is no quality"):
        DppSample(theta=0.1).select(pool_of(np.eye(3)), 2, np.random.default_rng(0))


@pytest.mark.parametrize(
    "parameters",
    [{"gamma": 0.0}, {"theta": 1.0}, {"theta": -0.1}, {"ridge": -1.0}, {"steps": 0}, {"effective_items": 1.0},
     {"effective_items": 9.0, "kernel": "linear"}],
)  # fmt: skip
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InputError, match=rf"strategy\.{next(iter(parameters))}"):
        DppSample(**parameters)
