"""Values, prescribed-order gains, golden numbers and refusals of the three functions."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.greedy import maximize


def sphere(n: int, d: int, seed: int = 0) -> np.ndarray:
    np.random.seed(seed)
    X = np.random.randn(n, d).astype(np.float32)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def cosine(X: np.ndarray) -> np.ndarray:
    V = X.astype(np.float64)
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    return V @ V.T


def test_values_are_the_formulas():
    X = sphere(40, 5) * 3
    S, Y = cosine(X), [4, 17, 30, 2]
    SY = S[np.ix_(Y, Y)]
    square = ((X[Y].astype(np.float64)[:, None] - X[Y].astype(np.float64)) ** 2).sum(-1)
    q = np.arange(1.0, 41)
    for function, value in [
        (FacilityLocation(X), np.maximum(S[:, Y].max(1), 0).sum()),
        (GraphCut(X, lam=0.3), S[:, Y].sum() - 0.3 * SY.sum()),
        (LogDet(X), np.linalg.slogdet(SY + np.eye(4))[1]),
        (LogDet(X, kernel="vmf", gamma=2), np.linalg.slogdet(np.exp(SY - 1))[1]),
        (LogDet(X, kernel="rbf", gamma=0.2), np.linalg.slogdet(np.exp(-0.2 * square))[1]),
        (
            LogDet(X, kernel="linear", gamma=3, ridge=0.1),
            np.linalg.slogdet(1.5 * (SY + 1) + 0.1 * np.eye(4))[1],
        ),
        (
            LogDet(X, quality=q, theta=0.25),
            0.25 * np.log(q[Y]).sum() + 0.75 * np.linalg.slogdet(SY + np.eye(4))[1],
        ),
    ]:
        assert function.value(Y) == pytest.approx(value, rel=1e-6, abs=1e-9)
        assert function.value([]) == 0
        assert len(function.gains([])) == 0
        np.testing.assert_allclose(
            np.cumsum(function.gains(Y)), [function.value(Y[: k + 1]) for k in range(4)], rtol=1e-9
        )


def test_golden_log_determinant_of_a_sphere():
    s = maximize(LogDet(sphere(2000, 64), kernel="vmf"), 2000)
    assert len(s) == 2000
    assert s.gain.sum() == pytest.approx(-5261.953, abs=5e-4)
    assert s.gain[1] == pytest.approx(-0.283445, abs=5e-7)
    assert s.gain[-1] == pytest.approx(-3.28588, abs=5e-6)
    assert s.gain[:400].mean() == pytest.approx(-1.93483, abs=5e-6)


def test_golden_log_determinant_in_any_order():
    f = LogDet(sphere(2000, 64), kernel="vmf")
    order = np.random.default_rng(0).permutation(2000)
    assert f.value(order) == pytest.approx(-5261.953, abs=5e-4)


def test_an_exact_copy_in_a_prescribed_order_has_d2_1e_20():
    X = np.concatenate([sphere(5, 3), sphere(5, 3)])
    gain = LogDet(X, kernel="vmf").gains(np.arange(10))
    np.testing.assert_array_equal(gain[5:], np.log(1e-20))
    assert np.isfinite(gain[:5]).all()


def test_a_small_gamma_keeps_its_residuals():
    """The plateau of d² is exp(-γ/2)-like and falls to 1e-5 at γ = 0.01: float32 would stop there."""
    s = maximize(LogDet(sphere(1000, 24), kernel="vmf", gamma=0.01), 300)
    assert len(s) == 300
    np.testing.assert_allclose(
        LogDet(sphere(1000, 24), kernel="vmf", gamma=0.01).gains(s.index), s.gain, rtol=1e-7
    )


def test_a_factor_larger_than_memory_lives_in_a_file(monkeypatch):
    f = LogDet(sphere(300, 8), kernel="vmf")
    expected = maximize(f, 40)
    monkeypatch.setattr("smartdpp.functions.storage.FREE_SHARE", 0)
    np.testing.assert_array_equal(maximize(f, 40).index, expected.index)


def test_input_of_any_kind_gives_the_same_selection(tmp_path):
    X = sphere(300, 8)
    np.save(tmp_path / "X.npy", X)
    kinds = [
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        torch.from_numpy(X),
        X.astype(">f4"),
        X[::-1][::-1],
        np.asfortranarray(X),
    ]
    for function in (FacilityLocation, GraphCut, LogDet):
        expected = maximize(function(X), 30)
        for kind in kinds:
            np.testing.assert_array_equal(maximize(function(kind), 30).index, expected.index)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((0, 4), np.float32), "at least 1"),
        (np.zeros(4, np.float32), r"shape \(4,\)"),
        (np.array([["a"]]), "real numbers"),
        ([[1.0]], "not list"),
        (np.array([[1, 0], [np.inf, 0]], np.float32), "1 of 2 rows are not, the first is row 1"),
        (np.array([[0, 0], [1, 0]], np.float32), "1 of 2 are, the first is row 0"),
        (torch.zeros(2, 2, dtype=torch.complex64), "real numbers"),
    ],
)
@pytest.mark.parametrize("function", [FacilityLocation, GraphCut, LogDet])
def test_features_that_cannot_be_used_are_named(function, X, message):
    with pytest.raises(InputError, match=message):
        maximize(function(X), 1)
    with pytest.raises(InputError, match=message):
        function(X).value([0])


@pytest.mark.parametrize(
    "make",
    [
        lambda X: GraphCut(X, lam=-1),
        lambda X: FacilityLocation(X, neighbors=0),
        lambda X: LogDet(X, kernel="poly"),
        lambda X: LogDet(X, gamma=0),
        lambda X: LogDet(X, ridge=-1),
        lambda X: LogDet(X, theta=2),
        lambda X: LogDet(X, theta=0.5),
        lambda X: LogDet(X, theta=0.5, quality=np.zeros(10)).value([0]),
        lambda X: LogDet(X, theta=0.5, quality=np.ones(3)).value([0]),
    ],
)
def test_parameters_out_of_range_are_refused(make):
    with pytest.raises(InputError):
        make(sphere(10, 3))


def test_zero_rows_are_fine_where_no_norm_is_taken():
    X = np.concatenate([np.zeros((1, 3), np.float32), sphere(9, 3)])
    for function in (
        FacilityLocation(X, normalize=False),
        GraphCut(X, normalize=False),
        LogDet(X, kernel="rbf"),
    ):
        assert len(maximize(function, 10)) == 10


def test_neighbours_come_close_to_the_exact_objective():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(40, 32))[rng.integers(40, size=3000)] + 0.7 * rng.normal(size=(3000, 32))).astype(
        np.float32
    )
    f = FacilityLocation(X)
    exact, near = maximize(f, 150), maximize(FacilityLocation(X, neighbors=64), 150)
    assert len(set(near.index)) == 150
    assert f.value(near.index) >= 0.995 * exact.gain.sum()


def test_all_neighbours_are_the_exact_function():
    X = np.abs(sphere(60, 4))
    np.testing.assert_array_equal(
        maximize(FacilityLocation(X, neighbors=60), 20).index, maximize(FacilityLocation(X), 20).index
    )


def test_importing_the_engine_loads_nothing_heavy():
    code = (
        "import sys, smartdpp.functions, smartdpp.greedy; sys.exit(any(m in sys.modules for m in ('torch', "
        "'numba', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", [FacilityLocation, GraphCut, LogDet, lambda X: LogDet(X, kernel="vmf")])
def test_a_device_gives_the_hosts_selection(make):
    X = sphere(5000, 32)
    host, device = maximize(make(X), 100), maximize(make(torch.from_numpy(X).cuda()), 100)
    np.testing.assert_array_equal(host.index, device.index)
    np.testing.assert_allclose(host.gain, device.gain, rtol=1e-5)
