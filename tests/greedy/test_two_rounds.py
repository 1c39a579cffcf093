"""Greedy in two rounds: never below its bound, close to the exact answer, and the exact answer where there is
but one part."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.greedy import maximize
from smartdpp.greedy.two_rounds import two_rounds
from tests.greedy.test_maximize import features


def test_one_part_is_greedy():
    X = features(0, 60, 6, "clustered")
    for function in (
        FacilityLocation(X),
        LogDet(X, kernel="vmf"),
        LogDet(X, kernel="rbf", quality=np.arange(1, 61), theta=0.3),
    ):
        whole, found = maximize(function, 12), two_rounds(function, 12, parts=1)
        assert found.selection.index.tolist() == whole.index.tolist()
        np.testing.assert_allclose(found.selection.gain, whole.gain, rtol=1e-7)
        assert found.value == pytest.approx(function.value(whole.index))


@pytest.mark.parametrize("seed", range(8))
def test_expected_value_stays_above_the_bound_of_randomised_greedy(seed):
    function = FacilityLocation(features(seed, 14, 3, "gaussian"))
    optimum = max(function.value(np.array(pick)) for pick in combinations(range(14), 4))
    mean = np.mean([two_rounds(function, 4, parts=4, seed=draw).value for draw in range(12)])
    assert (1 - 1 / np.e) / 2 * optimum <= mean <= optimum


@pytest.mark.parametrize("make", [FacilityLocation, lambda X: LogDet(X, kernel="vmf")])
def test_little_is_lost_against_the_exact_answer(make):
    function = make(features(1, 600, 8, "clustered"))
    exact, found = function.value(maximize(function, 40).index), two_rounds(function, 40, parts=5)
    assert found.value >= exact - 0.03 * abs(exact)
    assert found.value >= found.alone.max() - 1e-9
    assert np.unique(found.selection.index).size == 40


def test_witnesses_are_a_sample_that_the_second_round_sums_over():
    function = FacilityLocation(features(2, 400, 8, "clustered"))
    whole, sampled = (two_rounds(function, 20, parts=4, witnesses=w) for w in (None, 100))
    assert 0.9 * whole.value < sampled.value <= 1.02 * whole.value
    assert sampled.value == pytest.approx(function.value(sampled.selection.index))


def test_what_cannot_be_is_refused():
    X = features(0, 20, 4, "gaussian")
    for function in (GraphCut(X), LogDet(X)):
        with pytest.raises(InputError, match="exactly over shares"):
            two_rounds(function, 3, parts=2)
    with pytest.raises(InputError, match="parts is 0"):
        two_rounds(FacilityLocation(X), 3, parts=0)
    with pytest.raises(InputError, match="budget is 21"):
        two_rounds(FacilityLocation(X), 21, parts=2)
    with pytest.raises(InputError, match="witnesses is 0"):
        two_rounds(FacilityLocation(X), 3, parts=2, witnesses=0)
