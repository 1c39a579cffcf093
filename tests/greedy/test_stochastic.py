"""Stochastic greedy: close to greedy, drawn from the seed alone, and greedy itself when the sample is
everything."""

from __future__ import annotations

import numpy as np

from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.greedy import maximize

X = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)


def test_close_to_greedy_and_reproducible():
    f = FacilityLocation(X)
    greedy = f.value(maximize(f, 40).index)
    values = [
        f.value(maximize(f, 40, method="stochastic", epsilon=0.05, seed=seed).index) for seed in range(5)
    ]
    assert min(values) >= (1 - 1 / np.e - 0.05) * greedy
    assert np.mean(values) >= 0.97 * greedy
    a, b, c = (maximize(f, 40, method="stochastic", epsilon=0.05, seed=seed).index for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_sample_of_everything_is_greedy():
    for f in (FacilityLocation(X), GraphCut(X, lam=2.0), LogDet(X), LogDet(X, kernel="vmf")):
        np.testing.assert_array_equal(
            maximize(f, 25, method="stochastic", epsilon=1e-12).index, maximize(f, 25).index
        )


def test_limits_hold():
    s = maximize(
        LogDet(X),
        200,
        method="stochastic",
        costs=1 + np.arange(600) % 5,
        groups=np.arange(600) % 3,
        limits=[9, 600, 600],
    )
    assert (1 + s.index % 5).sum() <= 200
    assert (s.index % 3 == 0).sum() <= 9
    np.testing.assert_allclose(LogDet(X).gains(s.index), s.gain, rtol=1e-8)


def test_copies_end_it():
    assert (
        len(maximize(LogDet(np.repeat(X[:5], 4, axis=0), kernel="vmf"), 20, method="stochastic", epsilon=0.5))
        == 5
    )
