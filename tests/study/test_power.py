"""What a study can show."""

import numpy as np
import pytest

from smartdpp.study.power import smallest, stated, would_show


@pytest.mark.parametrize(("seeds", "comparisons"), [(5, 1), (8, 1), (8, 5)])
def test_the_smallest_difference_is_found_in_eight_of_ten_simulated_studies(seeds, comparisons):
    from scipy.stats import ttest_1samp

    delta, rng = smallest(0.24, seeds, comparisons), np.random.default_rng(0)
    p = ttest_1samp(rng.normal(delta, 0.24, size=(4000, seeds)), 0, axis=1).pvalue
    assert np.mean(p < 0.05 / comparisons) == pytest.approx(0.8, abs=0.025)


def test_one_seed_shows_nothing():
    assert np.isnan(smallest(0.24, 1))


@pytest.mark.parametrize("comparisons", [1, 4, 28])
@pytest.mark.parametrize("seeds", [5, 8, 30])
def test_what_an_interval_would_have_shown_is_no_less_than_what_the_corrected_t_test_finds(
    seeds, comparisons
):
    from scipy.special import stdtrit

    half = 0.24 * -stdtrit(seeds - 1, 0.025) / np.sqrt(seeds)
    least = smallest(0.24, seeds, comparisons)
    assert least <= would_show(half, seeds, comparisons) <= 1.15 * least
    # an interval as wide, all of it over so many documents that its quantiles are normal
    from scipy.stats import norm

    many = (norm.isf(0.025 / comparisons) + norm.isf(0.2)) * half / norm.isf(0.025)
    assert would_show(half, seeds, comparisons) >= 0.999 * many


def test_one_seed_would_have_shown_nothing():
    assert np.isnan(would_show(0.1, 1))


def test_a_plan_says_what_its_study_can_show_and_what_it_cannot():
    assert stated(None, 8, 6) is None
    assert stated(0.24, 3, 6) == "3 seeds show nothing: a claim needs 5."
    corrected, alone = (f"{smallest(0.24, 8, n):.2g}" for n in (5, 1))
    assert stated(0.24, 8, 6) == (
        f"8 seeds show a difference of {corrected} in 8 of 10 such studies, where pairs differ by 0.24 "
        f"from seed to seed and 5 comparisons are corrected for ({alone} without)."
    )
