"""Agreement with other libraries on data without ties, where they are installed (the extra ``bench``)."""

from __future__ import annotations

import numpy as np
import pytest

from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.greedy import maximize

N, K = 300, 40


def positive(seed: int) -> np.ndarray:
    """float64[N, 16] unit vectors without a negative entry: apricot refuses negative similarities."""
    X = np.random.default_rng(seed).uniform(size=(N, 16)) ** 3
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["facility location", "graph cut"])
def test_apricot(name, seed):
    apricot = pytest.importorskip("apricot")
    X = positive(seed)
    if name == "facility location":
        f, peer = (
            FacilityLocation(X),
            apricot.FacilityLocationSelection(K, metric="precomputed", optimizer="naive"),
        )
    else:
        f, peer = (
            GraphCut(X, lam=0.4),
            apricot.GraphCutSelection(K, metric="precomputed", alpha=1 / 0.4, optimizer="naive"),
        )
    assert maximize(f, K).index.tolist() == peer.fit(X @ X.T).ranking[:K].tolist()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["facility location", "graph cut", "log det"])
def test_submodlib(name, seed):
    """Gains, objective and nearly all picks: submodlib computes in float32, and parts where two gains differ
    by less than that holds."""
    submodlib = pytest.importorskip("submodlib")
    X = positive(seed)
    S = X @ X.T
    match name:
        case "facility location":
            f, peer = (
                FacilityLocation(X),
                submodlib.FacilityLocationFunction(n=N, mode="dense", sijs=S, separate_rep=False),
            )
        case "graph cut":
            f, peer = (
                GraphCut(X, lam=0.4),
                submodlib.GraphCutFunction(n=N, mode="dense", lambdaVal=0.4, ggsijs=S, separate_rep=False),
            )
        case _:
            f, peer = LogDet(X), submodlib.LogDeterminantFunction(n=N, mode="dense", lambdaVal=1.0, sijs=S)
    theirs = peer.maximize(
        budget=K, optimizer="NaiveGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    index, gain = (np.array(part) for part in zip(*theirs, strict=True))
    np.testing.assert_allclose(f.gains(index), gain, rtol=1e-4)
    # all first gains of a log determinant are equal: that tie is not compared
    ours = maximize(f, K - 1, start=index[:1])
    assert f.value(index) == pytest.approx(f.value(np.append(index[:1], ours.index)), rel=1e-5)
    assert np.mean(ours.index == index[1:]) > 0.9
