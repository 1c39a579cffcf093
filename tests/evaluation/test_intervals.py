"""Intervals: the textbook's where there is one, and their coverage where there is none."""

import numpy as np
import pytest
from scipy.stats import t

from smartdpp.evaluation.compare import paired
from smartdpp.evaluation.intervals import (
    CLAIM,
    Spread,
    holm,
    influence,
    moderated,
    paired_difference,
    t_interval,
)


def test_t_interval_is_scipys() -> None:
    values = [2.0, 2.5, 2.1]
    mean, half = t_interval(values)
    assert (mean - half, mean + half) == pytest.approx(
        t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / np.sqrt(3))
    )
    assert np.isnan(t_interval([2.0])[1])


def test_holm_steps_down_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, np.nan, 0.5])[[0, 2]] == pytest.approx([0.08, 0.5])
    assert np.isnan(holm([0.04, np.nan])[1])
    assert len(holm([])) == 0


def test_holm_keeps_the_rate_of_any_false_claim() -> None:
    p = np.random.default_rng(0).random((2000, 10))
    assert np.mean([holm(row).min() < 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)


def test_documents_alone_agree_with_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    sides = [
        [
            {
                "task": task,
                "id": str(i),
                "nll": float(rng.gamma(3) + shift),
                "tokens": int(rng.integers(1, 6)),
            }
            for task in "ab"
            for i in range(60)
        ]
        for shift in (0, 0.3)
    ]
    boot = paired(*sides, "loss")
    adds = [
        influence(
            [(s["task"], s["id"]) for s in side],
            np.array([s["nll"] for s in side]),
            np.array([s["tokens"] for s in side], dtype=float),
        )
        for side in sides
    ]
    found = paired_difference([boot["estimate"]], [{key: adds[1][key] - adds[0][key] for key in adds[0]}])
    assert found.half_documents == pytest.approx((boot["high"] - boot["low"]) / 2, rel=0.1)
    assert (found.documents, found.seeds) == (120, 1)
    assert np.isnan([found.half, found.half_seeds, found.p]).all()


def test_seeds_alone_are_the_paired_t_test() -> None:
    from scipy.stats import ttest_1samp

    differences = [-0.1, -0.05, -0.12]
    found = paired_difference(differences, [])
    test = ttest_1samp(differences, 0)
    low, high = test.confidence_interval()
    assert found.p == pytest.approx(test.pvalue)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert np.isnan(found.half_documents)


def test_seeds_and_documents_together_cover_the_truth() -> None:
    """The truth is of all seeds and all documents: either alone is too sure of it."""
    rng = np.random.default_rng(1)
    S, D, trials = 4, 40, 400
    covered = np.zeros(3)
    keys = [("task", str(i)) for i in range(D)]
    for _ in range(trials):
        values = rng.normal(0, 0.1, (S, 1)) + rng.normal(0, 0.6, (1, D)) + rng.normal(0, 0.3, (S, D))
        found = paired_difference(values.mean(axis=1), [influence(keys, row, np.ones(D)) for row in values])
        covered += np.abs(found.mean) <= [found.half, found.half_seeds, found.half_documents]
    both, seeds, documents = covered / trials
    assert both >= 0.93
    assert both > documents > seeds


def test_seeds_and_documents_add_as_squares_and_p_is_where_the_interval_meets_zero() -> None:
    documents = [{("a", str(i)): 0.01 * (-1) ** i for i in range(40)}] * 5
    found = paired_difference([0.1, 0.16, 0.12, 0.2, 0.09], documents)
    assert found.half == pytest.approx(np.hypot(found.half_seeds, found.half_documents))
    assert found.half_documents == pytest.approx(t.ppf(0.975, 39) * np.sqrt(40) * 0.01)
    at_the_edge = paired_difference(
        (np.array([0.1, 0.16, 0.12, 0.2, 0.09]) - found.mean + found.half).tolist(), documents
    )
    assert at_the_edge.p == pytest.approx(0.05)


def test_seeds_that_agree_by_luck_are_not_taken_for_many() -> None:
    """Four degrees of freedom must hold 2.78 standard errors; Satterthwaite's would go towards the documents'
    1.96 as the seeds agree."""
    documents = [{("a", str(i)): 0.002 * (-1) ** i for i in range(200)}] * 5
    found = paired_difference([0.1, 0.12, 0.11, 0.09, 0.08], documents)
    assert (
        found.half
        > found.half_seeds
        == pytest.approx(t.ppf(0.975, 4) * np.std([0.1, 0.12, 0.11, 0.09, 0.08], ddof=1) / np.sqrt(5))
    )


def differences(
    S: int, noise: list[float], baseline: float, rng: np.random.Generator
) -> list[dict[int, float]]:
    """Of ways that are all paired with one baseline, whose noise over seeds they share."""
    values = rng.normal(size=(len(noise), S)) * np.array(noise)[:, None] - baseline * rng.normal(size=S)
    return [dict(enumerate(row)) for row in values.tolist()]


def test_moderated_variances_never_fall_and_have_the_degrees_of_freedom_that_ways_can_tell() -> None:
    rng = np.random.default_rng(0)
    ways = differences(5, [1.0] * 16, 1.0, rng)
    own = [np.var(list(way.values()), ddof=1) for way in ways]
    spreads = [spread for spread in moderated(ways) if spread]
    assert len(spreads) == 16
    assert all(spread.variance >= variance for spread, variance in zip(spreads, own, strict=True))
    assert min(spread.variance for spread in spreads) > 1 > min(own)
    assert [spread.df for spread in spreads] == pytest.approx([spreads[0].df] * 16)
    assert 4 < spreads[0].df <= 4 * 16 / (1 + 15 / 4) + 1e-9  # they share the baseline, so 16 ways are not 16


def test_a_noisy_baseline_makes_ways_agree_in_variance_without_telling_more() -> None:
    ways = differences(5, [0.01] * 10, 1.0, np.random.default_rng(0))
    assert {round(spread.df, 1) for spread in moderated(ways) if spread} == {4.0}


def test_unequal_variances_are_told_apart() -> None:
    ways = differences(8, [0.1, 0.1, 0.1, 0.1, 3.0, 3.0, 3.0, 3.0], 0.1, np.random.default_rng(0))
    spreads = [spread for spread in moderated(ways) if spread]
    assert max(spread.df for spread in spreads) < 7 + 2
    assert spreads[0].variance < 0.2 < 3 < spreads[4].variance


def test_too_few_ways_or_seeds_keep_their_own_variance() -> None:
    assert moderated([{0: 1.0, 1: 3.0, 2: 2.0}, {0: 1.0}]) == [Spread(1.0, 2), None]
    assert moderated([]) == []
    three = moderated([{0: 1.0, 1: 3.0}, {0: 1.0}, {1: 2.0, 2: 2.0}, {0: 1.0, 1: 4.0, 2: 2.0}])
    assert three[1] is None  # and the one without any variance is no third
    assert three[2] == Spread(0.0, 1)


def false_and_true_claims(
    S: int, ways: int, noise: list[float], baseline: float, documents: float, trials: int, seed: int
) -> np.ndarray:
    """Shares of trials with any false claim, and of true differences (of four standard errors) claimed: the
    whole procedure with Holm."""
    rng, found = np.random.default_rng(seed), np.zeros(2)
    T, D = 8, 25
    for _ in range(trials):
        seeds = differences(S, noise, baseline, rng)
        spreads = moderated(seeds)
        sd = np.sqrt((np.square(noise) + baseline**2) / S)
        adds = rng.normal(size=(ways, T, D)) * documents * sd.mean() / np.sqrt(T * D)
        for effect in (0.0, 4.0):
            p = []
            for i, way in enumerate(seeds):
                shift = adds[i].sum() + (effect * np.hypot(sd[i], documents * sd.mean()) if i % 3 == 0 else 0)
                mine = {
                    (str(task), j): float(v) for task, row in enumerate(adds[i]) for j, v in enumerate(row)
                }
                p.append(paired_difference([v + shift for v in way.values()], [mine] * S, spreads[i]).p)
            claimed = holm(p) < 0.05
            found += [claimed.any(), 0] if effect == 0 else [0, claimed[::3].mean()]
    return found / trials


@pytest.mark.parametrize("noise", [[1.0] * 8, [1.0, 3.0] * 4], ids=["equal", "unequal"])
def test_claims_are_false_no_more_often_than_they_say(noise: list[float]) -> None:
    level, power = false_and_true_claims(CLAIM, 8, noise, 1.0, 0.4, 300, 0)
    assert level <= 0.06
    assert power > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("S", [CLAIM, 6, 8])
@pytest.mark.parametrize("baseline", [1.0, 3.0])
@pytest.mark.parametrize("documents", [0.2, 0.6])
@pytest.mark.parametrize("ways", [3, 16])
@pytest.mark.parametrize("noise", ["equal", "half", "one"])
def test_claims_keep_their_level_at_any_noise(
    S: int, baseline: float, documents: float, ways: int, noise: str
) -> None:
    of = {
        "equal": [1.0] * ways,
        "half": [(1.0, 3.0)[i % 2] for i in range(ways)],
        "one": [5.0, *[1.0] * (ways - 1)],
    }[noise]
    level, _ = false_and_true_claims(S, ways, of, baseline, documents, 600, 1)
    assert level <= 0.06 + 2 * np.sqrt(0.06 * 0.94 / 600)
