"""Submodular mutual information: values, greedy selections against brute force, and what each function is
for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smartdpp.errors import InputError
from smartdpp.functions import FLQMI, FLVMI, GCMI, FacilityLocation
from smartdpp.functions.point_coverage import PointCoverage
from smartdpp.greedy import maximize

TIE = 1e-10


def cosines(X, Y, normalize=True):
    X, Y = X.astype(np.longdouble), Y.astype(np.longdouble)
    if normalize:
        X, Y = (A / np.sqrt((A**2).sum(1))[:, None] for A in (X, Y))
    return X @ Y.T


def brute_value(f, A):
    """The formulas, in 80-bit floats on dense kernels."""
    A, X, Q = list(A), np.asarray(f.X), np.asarray(f.Q)
    if not A:
        return 0.0
    VA, QA, VQ, AA = (cosines(*pair, f.normalize) for pair in ((X, X[A]), (Q, X[A]), (X, Q), (X[A], X[A])))
    match f:
        case FLQMI():
            return QA.max(1).clip(0).sum() + f.eta * QA.max(0).clip(0).sum()
        case FLVMI():
            return np.minimum(VA.max(1).clip(0), f.eta * VQ.max(1).clip(0)).sum()
        case GCMI():
            return 2 * f.lam * QA.sum() - f.redundancy * AA.sum()


def features(seed, n, d, kind):
    rng = np.random.default_rng(seed)
    if kind == "clustered":
        X = rng.normal(size=(3, d))[rng.integers(3, size=n)] + 0.3 * rng.normal(size=(n, d))
    elif kind == "duplicated":
        X = rng.normal(size=(max(1, n // 3), d))[rng.integers(max(1, n // 3), size=n)]
    else:
        X = rng.normal(size=(n, d))
    return X.astype(np.float32)


@st.composite
def problems(draw):
    kind, d, seed = (
        draw(st.sampled_from(["gaussian", "clustered", "duplicated"])),
        draw(st.integers(2, 5)),
        draw(st.integers(0, 10**6)),
    )
    X, Q = (
        features(seed, draw(st.integers(1, 14)), d, kind),
        features(seed + 1, draw(st.integers(1, 5)), d, kind),
    )
    normalize, weight = draw(st.booleans()), draw(st.sampled_from([0.0, 0.3, 1.0, 20.0]))
    return draw(
        st.sampled_from(
            [
                FLQMI(X, Q, weight, normalize),
                FLVMI(X, Q, weight, normalize),
                GCMI(X, Q, 0.5, 0.0, normalize),
                GCMI(X, Q, 2.0, weight, normalize),
            ]
        )
    )


@settings(max_examples=150, deadline=None)
@given(problems(), st.data())
def test_greedy_is_the_brute_force_greedy(f, data):
    n = len(f)
    start = data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n - 1))
    found = maximize(f, data.draw(st.integers(1, n - len(start))), start=start)
    chosen = list(start)
    for pick, gain in zip(found.index.tolist(), found.gain, strict=True):
        now = brute_value(f, chosen)
        gains = {j: brute_value(f, [*chosen, j]) - now for j in range(n) if j not in chosen}
        best, scale = max(gains.values()), 1 + max(map(abs, gains.values())) + abs(now)
        assert gains[pick] >= best - TIE * scale
        assert not any(
            gains[j] >= best - 1e-16 * scale
            for j in gains
            if j < pick and gains[pick] >= best - 1e-16 * scale
        )
        assert gain == pytest.approx(float(gains[pick]), rel=1e-9, abs=1e-9 * float(scale))
        chosen.append(pick)


@settings(max_examples=60, deadline=None)
@given(problems(), st.data())
def test_values_and_prescribed_gains_are_the_formulas(f, data):
    order = data.draw(st.lists(st.integers(0, len(f) - 1), unique=True))
    values = [float(brute_value(f, order[: k + 1])) for k in range(len(order))]
    np.testing.assert_allclose(np.cumsum(f.gains(order)), values, rtol=1e-9, atol=1e-9)
    assert f.value(order) == pytest.approx(values[-1] if order else 0.0, rel=1e-9, abs=1e-9)


def big(n=3000, m=40, d=16):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, d))
    return (centres[rng.integers(12, size=n)] + 0.4 * rng.normal(size=(n, d))).astype(np.float32), (
        centres[rng.integers(3, size=m)] + 0.4 * rng.normal(size=(m, d))
    ).astype(np.float32)


@pytest.mark.parametrize("make", [FLQMI, FLVMI, lambda X, Q: GCMI(X, Q, redundancy=0.05)])
def test_windows_and_tiles_change_nothing(make, monkeypatch):
    """More rows than a window, a chunk and a tile hold: the picks are those of looking at every gain each
    time."""
    monkeypatch.setattr("smartdpp.functions.point_coverage.TILE_BYTES", 2**20)
    X, Q = big(1100)
    found = maximize(make(X, Q), 12)
    state, taken = make(X, Q).state(12), np.zeros(len(X), dtype=bool)
    for pick, claimed in zip(found.index, found.gain, strict=True):
        gain = np.where(taken, -np.inf, state.gains())
        assert gain[pick] >= gain.max() - 1e-9
        assert claimed == pytest.approx(gain[pick], rel=1e-9)
        state.add(np.array([pick]))
        taken[pick] = True


def test_a_large_relevance_makes_flvmi_facility_location():
    X, Q = big(400)
    X, Q = np.abs(X), np.abs(Q)  # every cosine above 0: no example is irrelevant
    expected, found = maximize(FacilityLocation(X), 40), maximize(FLVMI(X, Q, eta=1e6), 40)
    assert found.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(found.gain, expected.gain, rtol=1e-6)


def test_a_query_of_some_clusters_draws_the_selection_there():
    X, Q = big(600)
    near = cosines(X, Q).max(1) > 0.8
    share = {
        f: near[maximize(f, 60).index].mean()
        for f in (FLQMI(X, Q), FLVMI(X, Q), GCMI(X, Q), FacilityLocation(X))
    }
    flqmi, flvmi, gcmi, untargeted = share.values()
    assert min(flqmi, gcmi) > 0.8
    assert untargeted < 0.5
    assert flvmi > untargeted


def test_redundancy_takes_the_appeal_from_copies():
    rng = np.random.default_rng(0)
    Q = np.eye(3)[[0, 0, 1]].astype(np.float32)
    X = np.concatenate([np.eye(3)[[0] * 10], np.eye(3)[[1] * 10]]) + 0.01 * rng.normal(size=(20, 3))
    assert set(maximize(GCMI(X, Q), 10).index) == set(range(10))
    assert len(set(maximize(GCMI(X, Q, redundancy=0.2), 10).index) & set(range(10))) in (6, 7)


def test_only_one_number_a_point_is_kept():
    X, Q = big(2000)
    state = FLQMI(X, Q).state(10)
    assert isinstance(state, PointCoverage)
    assert sum(v.numel() for v in vars(state).values() if isinstance(v, torch.Tensor)) == len(X) + len(Q)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_device_selects_the_same():
    X, Q = big()
    for make in (FLQMI, FLVMI, GCMI):
        there = make(torch.from_numpy(X).cuda(), torch.from_numpy(Q).cuda())
        assert maximize(there, 50).index.tolist() == maximize(make(X, Q), 50).index.tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X, Q: FLQMI(X, Q, eta=-1), "eta is -1"),
        (lambda X, Q: FLVMI(X, Q, eta=np.nan), "eta is nan"),
        (lambda X, Q: GCMI(X, Q, lam=0), "lam is 0"),
        (lambda X, Q: GCMI(X, Q, redundancy=-0.1), "redundancy is -0.1"),
        (lambda X, Q: maximize(FLQMI(X, Q[:, :2]), 3), "Q has 2 columns where X has 3"),
        (lambda X, Q: maximize(GCMI(X, Q[:0]), 3), "at least 1"),
        (lambda X, Q: maximize(FLVMI(X, 0 * Q), 3), "not zero: 2 of 2"),
    ],
)
def test_what_cannot_be_used_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make(features(0, 9, 3, "gaussian"), features(1, 2, 3, "gaussian"))
