"""How much of the oracle's gain a strategy recovers, and how sure that is."""

import numpy as np
import pytest

from smartdpp.study.gain import Way, recovered

S = 8


def ways(rng, share, noise=0.1, gain=1.0, seeds=S):
    """Losses of a world each: random 4, the oracle ``gain`` below, the strategy a share of the way there."""
    world = rng.normal(0, 0.5, seeds)
    means = (4 - gain * share, 4.0, 4 - gain)
    return [Way(list(mean + world + rng.normal(0, noise, seeds)), []) for mean in means]


def test_a_strategy_that_is_the_oracle_has_all_and_one_that_is_random_nothing():
    own, random, oracle = ways(np.random.default_rng(0), 0.5)
    assert recovered(oracle, random, oracle, True).value == 1
    assert recovered(random, random, oracle, True).value == 0
    assert recovered(own, random, oracle, True).value == pytest.approx(0.5, abs=0.15)


def test_higher_scores_are_the_better_ones_where_the_metric_says_so():
    own, random, oracle = ways(np.random.default_rng(1), 0.7)
    turned = [Way([-value for value in way.values], []) for way in (own, random, oracle)]
    assert recovered(*turned, False) == recovered(own, random, oracle, True)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        found = recovered(*ways(rng, 0.6, noise=0.2), True)
        hits += found.low <= 0.6 <= found.high
    assert 0.91 <= hits / 200 <= 0.99


def test_there_is_no_share_where_the_oracle_gains_nothing_or_there_is_one_seed():
    rng = np.random.default_rng(3)
    for case in (ways(rng, 0.5, gain=0.0), ways(rng, 0.5, seeds=1)):
        found = recovered(*case, True)
        assert np.isnan([found.value, found.low, found.high]).all()


def test_documents_widen_the_interval_by_what_they_add_to_each_run():
    rng = np.random.default_rng(4)
    own, random, oracle = ways(rng, 0.5)
    known = []
    for way in (own, random, oracle):
        adds = [{("t", f"{s}-{d}"): rng.normal(0, 0.05) for d in range(20)} for s in range(S)]
        known.append(Way(way.values, adds))
    without, with_them = recovered(own, random, oracle, True), recovered(*known, True)
    assert with_them.value == without.value
    assert with_them.high - with_them.low > without.high - without.low
