import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.strategies.dpp import Dpp
from smartdpp.strategies.gamma import gamma_for
from smartdpp.types import Pool


def pool_of(X, quality=None):
    n = len(X)
    return Pool(
        np.array([f"{i:03d}" for i in range(n)]),
        X,
        np.zeros(n, int),
        ["all"],
        np.ones(n, int),
        quality=quality,
    )


def select(strategy, pool, budget):
    return strategy.select(pool, budget, np.random.default_rng(0))


def similarity(X, kernel, gamma):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    square = ((X[:, None] - X[None]) ** 2).sum(-1)
    return {
        "vmf": np.exp(gamma * (unit @ unit.T - 1) / 2),
        "rbf": np.exp(-gamma * square),
        "linear": gamma * (unit @ unit.T + 1) / 2,
    }[kernel]


@pytest.mark.parametrize("kernel", ["vmf", "rbf", "linear"])
@pytest.mark.parametrize("theta", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("gamma", [0.5, 10.0])
def test_greedy_equals_determinants_written_out(kernel, theta, gamma):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(15, 8))
    q = rng.uniform(0.5, 200, 15)
    S = similarity(X, kernel, gamma)

    def logdet(Y):
        return np.linalg.slogdet(S[np.ix_(Y, Y)])[1] if Y else 0.0

    order, gains = [], []
    for _ in range(6):
        gain, i = max(
            (round(theta * np.log(q[i]) + (1 - theta) * (logdet([*order, i]) - logdet(order)), 9), -i)
            for i in range(15)
            if i not in order
        )
        order.append(-i)
        gains.append(gain)
    selection = select(Dpp(kernel=kernel, gamma=gamma, theta=theta), pool_of(X, q), 6)
    assert selection.index.tolist() == order
    np.testing.assert_allclose(selection.gain, gains, atol=1e-7)


def test_quality_pulls_towards_high_scores():
    rng = np.random.default_rng(0)
    X, q = rng.normal(size=(60, 10)), rng.uniform(1, 100, 60)
    mean = [q[select(Dpp(theta=theta), pool_of(X, q), 20).index].mean() for theta in (0.0, 0.5, 1.0)]
    assert mean[0] < mean[1] < mean[2]
    assert mean[2] == pytest.approx(np.sort(q)[-20:].mean())


def test_copies_come_last_by_quality_then_by_id_and_are_logged(caplog):
    distinct = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    X = distinct[[0, 1, 0, 2, 0, 3, 1]]
    assert select(Dpp(), pool_of(X), 4).index.tolist() != []
    assert not caplog.text
    selection = select(Dpp(), pool_of(X), 6)
    assert set(selection.index[:4]) == {0, 1, 3, 5}
    assert selection.index[4:].tolist() == [2, 4]
    assert "2 copies" in caplog.text
    quality = np.array([9, 1, 2, 1, 3, 1, 8.0])
    filled = select(Dpp(theta=0.1), pool_of(X, quality), 7)
    # the best of each group of copies is chosen first; what is left goes by quality
    assert set(filled.index[:4]) == {0, 6, 3, 5}
    assert filled.index[4:].tolist() == [4, 2, 1]
    assert (np.diff(filled.gain[3:]) < 0).all()


def test_a_small_gamma_still_tells_rows_apart():
    """At gamma = 0.01 the residual is about 1e-5, below what float32 sums resolve."""
    X = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    selection = select(Dpp(gamma=0.01), pool_of(X), 200)
    S = similarity(X.astype(np.float64), "vmf", 0.01)
    chosen = S[np.ix_(selection.index, selection.index)]
    assert selection.gain.sum() == pytest.approx(np.linalg.slogdet(chosen)[1], rel=1e-6)
    assert selection.gain[-1] > np.log(1e-10)


def test_a_ridge_carries_a_linear_kernel_past_its_rank(caplog):
    pool = pool_of(np.random.default_rng(0).normal(size=(20, 3)))
    select(Dpp(kernel="linear"), pool, 10)
    assert "only 4 examples differ" in caplog.text
    caplog.clear()
    select(Dpp(kernel="linear", ridge=0.01), pool, 10)
    assert not caplog.text


def test_gamma_is_chosen_for_a_number_of_effective_items():
    X = np.random.default_rng(0).normal(size=(60, 5))
    pool = pool_of(X)
    gamma = gamma_for(X, 25, "vmf", np.random.default_rng(0))
    chosen = select(Dpp(effective_items=25), pool, 20)
    np.testing.assert_array_equal(chosen.index, select(Dpp(gamma=gamma), pool, 20).index)
    assert chosen.gain.sum() == pytest.approx(
        np.linalg.slogdet(similarity(X, "vmf", gamma)[np.ix_(chosen.index, chosen.index)])[1]
    )
    # γ does not depend on the budget
    np.testing.assert_array_equal(select(Dpp(effective_items=25), pool, 8).index, chosen.index[:8])


def test_theta_without_quality_is_refused():
    with pytest.raises(InputError, match=r"strategy.theta is 0.1, but there is no quality"):
        select(Dpp(theta=0.1), pool_of(np.eye(3)), 2)


def test_a_constant_quality_is_remarked_on(caplog):
    assert select(Dpp(theta=0.1), pool_of(np.eye(3), np.full(3, 7.0)), 2).index.tolist() == [0, 1]
    assert "same for every example" in caplog.text


@pytest.mark.parametrize(
    "parameters",
    [
        {"gamma": 0.0},
        {"theta": -0.5},
        {"theta": 1.5},
        {"ridge": -1.0},
        {"effective_items": 1.0},
        {"effective_items": 9.0, "kernel": "linear"},
    ],
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InputError, match=rf"strategy\.{next(iter(parameters))} (is|needs)"):
        Dpp(**parameters)
