"""A pool in shares: the picks of the pool in one piece, however it is cut and whatever a share forgets on the
way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartdpp.errors import InputError
from smartdpp.functions import GraphCut, LogDet
from smartdpp.greedy import maximize as in_one_piece
from smartdpp.greedy.partitions import Share, maximize, pieces
from smartdpp.runtime.local import here
from tests.greedy.test_maximize import features, narrow, pools


@st.composite
def linear(draw, X: np.ndarray):
    if draw(st.booleans()):
        return GraphCut(X, lam=draw(st.sampled_from([0.0, 0.4, 1.0, 30.0])), normalize=draw(st.booleans()))
    weights = {
        "quality": np.random.default_rng(1).uniform(0.5, 20, size=len(X)),
        "theta": draw(st.sampled_from([0.0, 0.1])),
    }
    kernel, ridge = draw(st.sampled_from(["cosine", "linear"])), draw(st.sampled_from([1.0, 1e-3]))
    return LogDet(X, kernel=kernel, gamma=draw(st.sampled_from([0.3, 1.0])), ridge=ridge, **weights)


def shares(function, ends) -> list[Share]:
    return [
        Share(function.subset(slice(a, b)), a)
        for a, b in zip([0, *ends], [*ends, len(function)], strict=True)
    ]


def forgetful(parts: list[Share], every: int):
    """Each share is made anew from its rows before every so many questions: what a process that died and came
    back knows."""
    asked = [0]

    def ask(question, which=None):
        answers = []
        for i in range(len(parts)) if which is None else which:
            asked[0] += 1
            if asked[0] % every == 0:
                parts[i] = Share(parts[i].function, parts[i].begin)
            answers.append(question(parts[i]))
        return answers

    return ask


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_picks_and_gains_are_those_of_the_pool_in_one_piece(data):
    X = data.draw(pools())
    function = data.draw(linear(X))
    ends = sorted(data.draw(st.sets(st.integers(1, max(1, len(X) - 1)), max_size=3)) - {len(X)})
    parts = shares(function, ends)
    if data.draw(st.booleans()):
        for part in parts:
            narrow(part.state, *data.draw(st.sampled_from([(2, 3, 2), (3, 4, 2), (1, 2, 1)])))
    budget = data.draw(st.integers(1, len(X)))
    whole, chosen = in_one_piece(function, budget), maximize(here(parts), budget)
    assert chosen.index.tolist() == whole.index.tolist()
    np.testing.assert_allclose(chosen.gain, whole.gain, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("make", [GraphCut, LogDet, lambda X: LogDet(X, ridge=1e-3)])
def test_a_larger_pool_in_single_precision_and_shares_that_forget(make):
    """Above 2,048 rows d² is tracked in float32; a share that starts afresh half-way goes on as if nothing
    had happened."""
    function = make(features(3, 12_000, 24, "clustered"))
    whole = in_one_piece(function, 600).index.tolist()
    assert maximize(here(shares(function, [3000, 5000])), 600).index.tolist() == whole
    assert maximize(forgetful(shares(function, [3000, 5000]), every=4), 600).index.tolist() == whole


def test_copies_all_over_the_pool_go_to_the_lowest_index():
    X = np.tile(features(0, 50, 8, "gaussian"), (200, 1))
    for function in (GraphCut(X), LogDet(X)):
        assert (
            maximize(here(shares(function, [2500, 2501, 9000])), 120).index.tolist()
            == in_one_piece(function, 120).index.tolist()
        )


def test_ends_early_where_only_copies_are_left():
    X = np.tile(features(0, 5, 8, "gaussian"), (4, 1))
    assert len(maximize(here(shares(LogDet(X, ridge=0.0), [7])), 20)) == 5


def test_what_cannot_be_is_refused():
    X = features(0, 20, 4, "gaussian")
    with pytest.raises(InputError, match="two_rounds"):
        maximize(here(shares(LogDet(X, kernel="vmf"), [7])), 3)
    with pytest.raises(InputError, match="budget is 21"):
        maximize(here(shares(GraphCut(X), [7])), 21)
    with pytest.raises(InputError, match="follow on each other"):
        maximize(here([Share(GraphCut(X), 0), Share(GraphCut(X), 10)]), 3)
    with pytest.raises(InputError, match="one length"):
        maximize(here([Share(GraphCut(X), 0), Share(GraphCut(X[:, :3]), 20)]), 3)


def test_a_pool_is_cut_into_pieces_of_nearly_one_size():
    assert [(s.start, s.stop) for s in pieces(10, 3)] == [(0, 3), (3, 6), (6, 10)]
    assert len(pieces(2, 5)) == 2
