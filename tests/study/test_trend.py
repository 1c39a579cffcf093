"""A trend is the mean over worlds of least squares within each."""

import numpy as np
import pytest
from scipy.stats import linregress, t, ttest_1samp

from smartdpp.evaluation.intervals import influence
from smartdpp.study.lines import logarithmic
from smartdpp.study.trend import slope


def test_it_is_the_mean_slope_of_the_worlds_with_a_t_interval_over_them():
    rng, x = np.random.default_rng(0), np.array([1.0, 2, 4, 8])
    y = 0.3 * x + rng.normal(0, 1, (6, 1)) + rng.normal(0, 0.1, (6, 4))
    found, each = slope(x, y), [linregress(x, of_world).slope for of_world in y]
    assert found.mean == pytest.approx(np.mean(each))
    assert found.half == pytest.approx(t.ppf(0.975, 5) * np.std(each, ddof=1) / np.sqrt(6))
    assert found.p == pytest.approx(ttest_1samp(each, 0).pvalue)
    assert (found.seeds, found.documents) == (6, 0)


def test_a_document_that_is_hard_at_every_value_makes_no_trend_and_one_that_gets_harder_does():
    keys = [("gcd", str(i)) for i in range(4)]

    def of(losses):
        return influence(keys, np.array(losses), np.ones(4))

    x, y = np.array([1.0, 2, 3]), np.zeros((2, 3))
    level = [[of([9.0, 1, 1, 1])] * 3] * 2
    assert slope(x, y, level).half_documents == pytest.approx(0)
    rising = [[of([1.0, 1, 1, 1]), of([2.0, 1, 1, 1]), of([3.0, 1, 1, 1])]] * 2
    found = slope(x, y, rising)
    # one document's slope is 1 and three have 0: the standard error of their mean, with 3 degrees of freedom
    assert found.half_documents == pytest.approx(t.ppf(0.975, 3) * np.std([1, 0, 0, 0], ddof=1) / 2)
    assert found.documents == 4


def test_documents_that_are_not_the_same_tell_nothing():
    one, other = influence([("a", "0"), ("a", "1")], np.ones(2), np.ones(2)), {}
    assert slope([1, 2], np.zeros((2, 2)), [[one, other]] * 2).documents == 0


def test_no_trend_is_claimed_one_time_in_twenty():
    rng, x = np.random.default_rng(1), np.arange(10.0)
    p = [slope(x, rng.normal(0, 1, (5, 1)) + rng.normal(0, 0.1, (5, 10))).p for _ in range(2000)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(
    ("values", "factors"),
    [
        ([10, 40, 160], True),
        ([8, 40, 216], True),
        ([10, 100], True),
        ([1, 3, 5, 6, 8, 10], False),
        (range(1, 11), False),
        ([0, 1, 10], False),
        ([2, 4, 8], False),
    ],
)
def test_a_step_is_a_factor_where_values_are_apart_by_factors(values, factors):
    assert logarithmic(list(values)) is factors
