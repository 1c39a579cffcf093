"""Near-duplicate removal against its definition, and a score alone against sorting."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smartdpp.errors import InputError
from smartdpp.strategies import dedup
from smartdpp.strategies.dedup import Dedup, leaders
from smartdpp.strategies.top import Top
from smartdpp.types import Pool


def pool_of(X: np.ndarray, quality: np.ndarray | None = None) -> Pool:
    n = len(X)
    return Pool(
        np.array([f"{i:05d}" for i in range(n)]),
        X.astype(np.float32),
        np.zeros(n, int),
        ["t"],
        np.ones(n, int),
        quality,
    )


SINGLE = 8 * float(np.finfo(np.float32).eps)  # what float32 makes of a cosine of three numbers a row


def check_definition(X: np.ndarray, threshold: float, kept: np.ndarray) -> None:
    """A row stays exactly if every cosine with a leader before it is below the threshold. Within rounding of
    the threshold either is right, and the rows after it are judged by what was chosen there; everywhere else
    ``kept`` (bool[n]) is the definition's, row by row."""
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    nearest = np.array([(X[:i][kept[:i]] @ X[i]).max(initial=-1) for i in range(len(X))])
    assert (nearest[kept] < threshold - dedup.ROUNDING + SINGLE).all()
    assert (nearest[~kept] >= threshold - dedup.ROUNDING - SINGLE).all()


@example(6396, 0.95, 3)  # a cosine within 1e-7 of the threshold
@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.8, 0.95]), st.sampled_from([3, 16, 1024]))
def test_leaders_are_those_of_the_definition_whatever_the_blocks(
    seed: int, threshold: float, block: int
) -> None:
    X = np.random.default_rng(seed).normal(size=(60, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "BLOCK", block)
        kept = leaders(X, np.arange(60), threshold)
    check_definition(X, threshold, kept)


def test_the_first_of_each_group_stays_and_copies_only_fill_up(caplog: pytest.LogCaptureFixture) -> None:
    X = np.repeat(np.eye(4), 3, axis=0)  # rows 0-2 are copies, 3-5, ...
    with caplog.at_level(logging.WARNING, logger="smartdpp"):
        four = Dedup().select(pool_of(X), 4, np.random.default_rng(0))
    assert sorted(four.index) == [0, 3, 6, 9]
    assert not caplog.records
    six = Dedup().select(pool_of(X), 6, np.random.default_rng(0))
    assert six.index[:4].tolist() == four.index.tolist()
    assert "only 4 examples" in caplog.text
    assert "2 removed ones fill the budget of 6" in caplog.text


def test_the_best_of_each_group_can_stay_instead() -> None:
    X = np.repeat(np.eye(4), 3, axis=0)
    quality = np.tile([1.0, 9.0, 2.0], 4)
    chosen = Dedup(first="quality").select(pool_of(X, quality), 4, np.random.default_rng(0))
    assert sorted(chosen.index) == [1, 4, 7, 10]
    with pytest.raises(InputError, match="there is no quality"):
        Dedup(first="quality").select(pool_of(X), 4, np.random.default_rng(0))


def test_equal_vectors_are_duplicates_at_a_threshold_of_one() -> None:
    X = np.random.default_rng(0).normal(size=(200, 50))
    kept = leaders(np.concatenate([X, 3 * X]).astype(np.float32), np.arange(400), 1.0)
    assert kept.tolist() == [True] * 200 + [False] * 200


def test_rows_of_zeros_duplicate_nothing() -> None:
    assert leaders(np.zeros((3, 2)), np.arange(3), 0.9).all()


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.1, float("nan")])
def test_a_threshold_is_a_cosine(threshold: float) -> None:
    with pytest.raises(InputError, match=r"strategy\.threshold is"):
        Dedup(threshold=threshold)


def test_top_takes_the_best_first_and_the_lowest_id_among_equals() -> None:
    pool = pool_of(np.eye(5), np.array([2.0, 5.0, 1.0, 5.0, 2.0]))
    highest = Top().select(pool, 4, np.random.default_rng(0))
    assert highest.index.tolist() == [1, 3, 0, 4]
    assert highest.gain.tolist() == [5, 5, 2, 2]
    lowest = Top("lowest").select(pool, 3, np.random.default_rng(0))
    assert lowest.index.tolist() == [2, 0, 4]
    assert lowest.gain.tolist() == [-1, -2, -2]


def test_top_needs_a_quality_and_says_when_it_decides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="strategy=top needs a quality"):
        Top().select(pool_of(np.eye(3)), 1, np.random.default_rng(0))
    with caplog.at_level(logging.WARNING, logger="smartdpp"):
        Top().select(pool_of(np.eye(3), np.ones(3)), 2, np.random.default_rng(0))
    assert "the same for every example" in caplog.text
