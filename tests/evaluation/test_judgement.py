"""The win rate at equal length, against simulations in which the true preference is known and length biases
the judge."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from smartdpp.evaluation.compare import mean_interval
from smartdpp.evaluation.judgement import at_equal_length, facts, said
from smartdpp.types import Spent, Verdict


def simulated(
    n: int, seed: int, level: float = -0.6, bias: float = 1.5, hard: float = 0.0
) -> tuple[np.ndarray, ...]:
    """A judge that prefers the answer with log odds ``level``, plus what its length and the instruction's
    difficulty do; answers are longer than references on average."""
    rng = np.random.default_rng(seed)
    difference = np.round(rng.normal(150, 200, n))
    difficulty = rng.normal(0, 1, n)
    odds = level + bias * np.tanh(difference / difference.std()) + hard * difficulty
    return (rng.random(n) < expit(odds)).astype(float), difference, difficulty


def test_the_true_preference_is_found_where_length_biases_the_judge() -> None:
    preference, difference, _ = simulated(20_000, seed=0)
    assert preference.mean() > 0.5  # the raw win rate says that it is the better one
    assert at_equal_length(preference, difference).mean() == pytest.approx(expit(-0.6), abs=0.015)


def test_without_a_bias_of_length_it_is_the_win_rate() -> None:
    preference, difference, _ = simulated(20_000, seed=1, bias=0.0)
    assert at_equal_length(preference, difference).mean() == pytest.approx(preference.mean(), abs=0.01)


def test_difficulty_is_averaged_over_and_makes_the_estimate_firmer() -> None:
    preference, difference, difficulty = simulated(20_000, seed=2, hard=2.0)
    truth = expit(-0.6 + 2.0 * difficulty).mean()
    without, given = (at_equal_length(preference, difference, known) for known in (None, difficulty))
    assert given.mean() == pytest.approx(truth, abs=0.015)
    assert given.std() < 0.95 * without.std()


def test_the_spread_of_the_parts_is_that_of_the_estimate() -> None:
    """Over simulations of 150 instructions: the standard error, and how often the interval has the truth."""
    estimates, errors, covered = [], [], 0
    for seed in range(200):
        preference, difference, _ = simulated(150, seed=seed + 10)
        parts = at_equal_length(preference, difference)
        estimates.append(parts.mean())
        errors.append(parts.std(ddof=1) / np.sqrt(len(parts)))
        covered += abs(estimates[-1] - expit(-0.6)) < 1.976 * errors[-1]
    assert np.mean(estimates) == pytest.approx(expit(-0.6), abs=0.01)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.15)
    assert 0.91 <= covered / 200 <= 0.985


def test_its_parts_are_samples_as_any_others() -> None:
    preference, difference, _ = simulated(100, seed=3)
    parts = at_equal_length(preference, difference)
    samples = [{"task": "t", "id": str(i), "lc_win_rate": part} for i, part in enumerate(parts)]
    found = mean_interval(samples, "lc_win_rate")
    assert found["estimate"] == pytest.approx(parts.mean())
    assert 0 <= found["low"] < found["estimate"] < found["high"] <= 1


def test_preferences_between_0_and_1_are_parts_of_a_win() -> None:
    soft = np.array([0.2, 0.7, 0.9, 0.4] * 50)
    difference = np.tile([1.0, -1.0], 100)
    assert at_equal_length(soft, difference).mean() == pytest.approx(soft.mean(), abs=1e-3)


@pytest.mark.parametrize(
    ("preference", "difference"),
    [([1.0, 1.0, 1.0], [1.0, 2.0, 9.0]), ([0.0, 1.0, 0.5], [4.0, 4.0, 4.0]), ([0.5], [3.0])],
)
def test_where_nothing_can_be_told_apart_the_preferences_stand(
    preference: list[float], difference: list[float]
) -> None:
    assert at_equal_length(np.array(preference), np.array(difference)).tolist() == preference


def test_length_that_separates_all_wins_gives_a_finite_answer() -> None:
    preference, difference = np.array([0.0] * 10 + [1.0] * 10), np.arange(-9.5, 10.5)
    parts = at_equal_length(preference, difference)
    assert np.isfinite(parts).all()
    assert parts.mean() == pytest.approx(0.5, abs=0.05)


VERDICTS = [
    Verdict(1.0, 1.0),
    Verdict(1.0, 0.0),
    Verdict(0.0, 0.0),
    Verdict(None, 1.0),
    Verdict(0.8, 0.9),
]
LENGTHS = np.array([[30, 10], [10, 10], [5, 10], [50, 10], [40, 20]])
RIGHT = np.array([[1, 0], [0, 1], [1, 0], [1, 0], [1, 1]], dtype=float)


def test_what_else_there_is_to_know_is_counted() -> None:
    found = facts(VERDICTS, LENGTHS, RIGHT, Spent(10, 2, 900), equal=0, cut=1, seconds=1.5)
    preference, difference = [1.0, 0.5, 0.0, 0.85], [20, 0, -5, 20]
    assert found == {
        "mean_length": 27.0,
        "reference_length": 12.0,
        "length_correlation": pytest.approx(np.corrcoef(preference, difference)[0, 1]),
        "disagreement": 0.25,
        "first_shown": pytest.approx((0.5 + 1.0 + 0.5 + 0.45) / 4),
        "agreement": pytest.approx((1.0 + 0.5 + 0.0) / 3),
        "agreement_n": 3,
        "unread": 1,
        "calls": 10,
        "kept": 2,
        "tokens": 900,
        "equal": 0,
        "cut": 1,
        "seconds": 1.5,
    }
    text = "\n".join(said(found))
    for part in (
        "disagree on 25%",
        "prefers it in 50%",
        "1 verdicts could not be read",
        "1 answers were cut",
    ):
        assert part in text
    assert "10 calls (2 replies were there already), 900 tokens, 1.5 s" in text


def test_what_could_not_be_had_is_none_and_not_said() -> None:
    found = facts(VERDICTS[:1], LENGTHS[:1], RIGHT[4:], Spent(), equal=0, cut=0, seconds=0.0)
    assert (found["length_correlation"], found["agreement"], found["agreement_n"]) == (None, None, 0)
    assert "correlate" not in "\n".join(said(found))
