"""maximize against the definition: hundreds of small random problems, and the cases other libraries get
wrong."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet, coverage
from smartdpp.functions.coverage import Coverage
from smartdpp.functions.logdet import LogDetState
from smartdpp.functions.point_coverage import PointCoverage
from smartdpp.greedy import maximize
from smartdpp.greedy.exact import exact
from smartdpp.greedy.limits import Limits
from smartdpp.greedy.picks import Picks
from tests.greedy.brute import check


def features(seed: int, n: int, d: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "clustered":
        X = rng.normal(size=(3, d))[rng.integers(3, size=n)] + 0.3 * rng.normal(size=(n, d))
    elif kind == "duplicated":
        X = rng.normal(size=(max(1, n // 3), d))[rng.integers(max(1, n // 3), size=n)]
    elif kind == "positive":
        X = rng.uniform(0.1, 1, size=(n, d))
    else:
        X = rng.normal(size=(n, d))
    return X.astype(np.float32)


@st.composite
def pools(draw) -> np.ndarray:
    kind = draw(st.sampled_from(["gaussian", "clustered", "duplicated", "positive"]))
    return features(draw(st.integers(0, 10**6)), draw(st.integers(1, 36)), draw(st.integers(2, 6)), kind)


@st.composite
def functions(draw, X: np.ndarray):
    match draw(st.sampled_from(["fl", "gc", "ld"])):
        case "fl":
            return FacilityLocation(X, normalize=draw(st.booleans()))
        case "gc":
            return GraphCut(
                X, lam=draw(st.sampled_from([0.0, 0.4, 0.5, 1.0, 30.0])), normalize=draw(st.booleans())
            )
    quality = np.random.default_rng(1).uniform(0.5, 20, size=len(X))
    return LogDet(
        X,
        kernel=draw(st.sampled_from(["cosine", "vmf", "rbf", "linear"])),
        gamma=draw(st.sampled_from([0.3, 1.0, 10.0])),
        ridge=draw(st.sampled_from([None, 1.0, 1e-6, 0.0])),
        quality=quality,
        theta=draw(st.sampled_from([0.0, 0.1, 0.9])),
    )


def narrow(state, chunk: int, active: int, width: int):
    """The same state with its sets made so small that every path of the algorithm is walked."""
    state.chunk, state.active, state.width = chunk, active, width
    return state


def run(state, n: int, budget: float, costs=None, groups=None, limits=None, start=None):
    room, picks = Limits(n, budget, costs, groups, limits, start), Picks(n)
    if room.start.size:
        state.add(room.start)
    exact(state, room, picks)
    return picks.done()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_picks_and_gains_are_brute_forces(data):
    X = data.draw(pools())
    f = data.draw(functions(X))
    budget = data.draw(st.integers(1, len(X)))
    s = maximize(f, budget)
    rounding = check(f, s.index, s.gain, budget=budget)
    assert (np.abs(f.gains(s.index) - s.gain) <= 1e-5 * np.abs(s.gain) + 1e-7 + 2 * rounding).all()
    assert f.value(s.index) == pytest.approx(s.gain.sum(), rel=1e-5, abs=1e-6 + 2 * rounding.sum())


# seed, n, kind, gamma, ridge, theta: two numbers a row, so that a few rows say nearly all of the others
NEARLY_SINGULAR = [
    (24344, 34, "gaussian", 1.0, 0.0, 0.9),
    (297062, 36, "clustered", 0.3, None, 0.9),
    (602208, 27, "positive", 10.0, 0.0, 0.9),
    (824638, 16, "clustered", 10.0, 0.0, 0.9),
]


@pytest.mark.parametrize("case", NEARLY_SINGULAR)
def test_where_rounding_decides_a_gain_it_is_known_to_that_and_no_further(case):
    seed, n, kind, gamma, ridge, theta = case
    quality = np.random.default_rng(1).uniform(0.5, 20, size=n)
    f = LogDet(
        features(seed, n, 2, kind), kernel="vmf", gamma=gamma, ridge=ridge, quality=quality, theta=theta
    )
    s = maximize(f, n)
    rounding = check(f, s.index, s.gain, budget=n)
    assert rounding[0] < 1e-14, "the first gain is known well"
    assert (np.abs(f.gains(s.index) - s.gain) <= 1e-5 * np.abs(s.gain) + 1e-7 + 2 * rounding).all()


def test_the_definition_still_tells_a_wrong_gain_and_a_wrong_pick():
    f = LogDet(features(24344, 34, 2, "gaussian"), kernel="vmf")
    s = maximize(f, 4)
    check(f, s.index, s.gain, budget=4)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(f, s.index, s.gain + 1e-4 * (np.arange(4) == 3), budget=4)
    with pytest.raises(AssertionError):
        check(f, s.index[[0, 2, 1, 3]], s.gain[[0, 2, 1, 3]], budget=4)
    with pytest.raises(AssertionError, match="ended early"):
        check(f, s.index[:3], s.gain[:3], budget=4)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_small_windows_change_nothing(data):
    X = data.draw(pools())
    f = data.draw(functions(X))
    sizes = [data.draw(st.integers(1, 5)) for _ in range(3)]
    s = run(narrow(f.state(len(X)), *sizes), len(X), len(X))
    check(f, s.index, s.gain, budget=len(X))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_costs_groups_and_start_sets(data):
    X = data.draw(pools())
    f, n = data.draw(functions(X)), len(X)
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    start = (
        rng.permutation(n)[: data.draw(st.integers(0, n // 2))]
        if not isinstance(f, LogDet)
        else np.empty(0, dtype=int)
    )
    costs = rng.integers(1, 9, size=n) if data.draw(st.booleans()) else None
    groups, limits = (
        (rng.integers(3, size=n), rng.integers(0, 5, size=3)) if data.draw(st.booleans()) else (None, None)
    )
    budget = (
        int(rng.integers(costs.min(), costs.sum() + 1))
        if costs is not None
        else data.draw(st.integers(1, n - len(start)))
    )
    narrowed = narrow(f.state(n), *(data.draw(st.integers(1, 6)) for _ in range(3)))
    for s in (
        maximize(f, budget, costs=costs, groups=groups, limits=limits, start=start),
        run(narrowed, n, budget, costs, groups, limits, start),
    ):
        check(f, s.index, s.gain, budget=budget, cost=costs, groups=groups, limits=limits, start=start)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_facility_location_in_float32_and_on_devices(data):
    X = data.draw(pools())
    f = FacilityLocation(X)
    single = narrow(Coverage(f.features, double=0), *(data.draw(st.integers(1, 6)) for _ in range(3)))
    device = narrow(PointCoverage(f.features, f.features), *(data.draw(st.integers(1, 6)) for _ in range(3)))
    device.tile = 3
    for state in (single, device):
        s = run(state, len(X), len(X))
        check(f, s.index, s.gain, budget=len(X), tie=2e-7, absolute=1e-6)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_log_det_tracked_in_single_precision_picks_as_in_double(data):
    X = data.draw(pools())
    f, n = data.draw(functions(X).filter(lambda f: isinstance(f, LogDet))), len(X)
    costs = np.random.default_rng(2).integers(1, 9, size=n) if data.draw(st.booleans()) else None
    budget = n if costs is None else int(costs.max() + costs.sum() // 3)
    state = narrow(LogDetState(f, n, double=0), n, *(data.draw(st.integers(1, 6)) for _ in range(2)))
    s = run(state, n, budget, costs)
    check(f, s.index, s.gain, budget=budget, cost=costs)


@pytest.mark.parametrize("make", [FacilityLocation, GraphCut, LogDet, lambda X: LogDet(X, kernel="vmf")])
def test_larger_pools(make):
    """Large enough for float32 rows, several blocks and more than one window."""
    f = make(features(0, 2100, 12, "clustered"))
    s = maximize(f, 12)
    check(f, s.index, s.gain, budget=12, tie=1e-8)


@pytest.mark.parametrize("keep", [0, 2**20, 2**31])  # bytes for compressed rows: none, too few, plenty
def test_facility_location_on_a_kernel_made_piece_by_piece(monkeypatch, keep):
    for name, value in {
        "WHOLE_BYTES": 0,
        "TILE": 256,
        "COLUMNS": 700,
        "BLOCK_BYTES": 2**20,
        "KEEP_BYTES": keep,
    }.items():
        monkeypatch.setattr(coverage, name, value)
    f = FacilityLocation(features(0, 2100, 12, "clustered"))
    s = maximize(f, 40)
    check(f, s.index, s.gain, budget=40, tie=1e-8)


@pytest.mark.parametrize("keep", [2**12, 2**31])  # bytes for compressed rows: too few, plenty
@pytest.mark.parametrize("double", [0, 2048])
@pytest.mark.parametrize("kind", ["gaussian", "clustered", "duplicated"])
def test_facility_locations_own_loop_picks_what_the_windows_pick(monkeypatch, kind, double, keep):
    monkeypatch.setattr(coverage, "KEEP_BYTES", keep)
    f, n = FacilityLocation(features(3, 400, 8, kind)), 400
    own = run(Coverage(f.features, double=double), n, 150, start=[5, 9])
    state, alone = Coverage(f.features, double=double), Limits(n, 150, None, None, None, [5, 9])
    state.add(alone.start)
    index, gain = state.ahead(state.gains(), alone.free, 64)
    assert (len(index) > 0) == (kind != "duplicated"), "where two rows are the same, none is certain"
    assert np.array_equal(index, own.index[: len(index)])
    assert np.array_equal(gain, own.gain[: len(index)])
    monkeypatch.setattr(Limits, "plain", False)
    windows = run(Coverage(f.features, double=double), n, 150, start=[5, 9])
    assert np.array_equal(own.index, windows.index)
    assert own.gain == pytest.approx(windows.gain, rel=1e-5, abs=1e-5)


def test_starting_where_a_selection_ended_continues_it():
    X = features(3, 300, 8, "clustered")
    for f in (FacilityLocation(X), GraphCut(X), LogDet(X), LogDet(X, kernel="vmf")):
        whole = maximize(f, 60)
        rest = maximize(f, 35, start=whole.index[:25])
        np.testing.assert_array_equal(rest.index, whole.index[25:])
        np.testing.assert_allclose(rest.gain, whole.gain[25:], rtol=1e-9)


def test_facility_location_is_within_1_minus_1_over_e_of_the_optimum():
    for seed in range(5):
        f = FacilityLocation(features(seed, 11, 3, "gaussian"))
        best = max(f.value(list(some)) for some in itertools.combinations(range(11), 3))
        assert f.value(maximize(f, 3).index) >= (1 - 1 / np.e) * best


# What other libraries get wrong.


def test_rows_repeated_many_times():
    """Lazy greedy elsewhere returns 60 distinct rows where the exact answer has all 100."""
    X = np.repeat(features(0, 100, 32, "gaussian"), 20, axis=0)
    for f in (FacilityLocation(X), LogDet(X, kernel="vmf")):
        assert sorted(set(maximize(f, 100).index // 20)) == list(range(100))


def test_a_tiny_ridge_past_the_rank_still_ends():
    X = features(0, 120, 5, "gaussian")
    s = maximize(LogDet(X, ridge=1e-6), 120)
    check(LogDet(X, ridge=1e-6), s.index, s.gain, budget=120, tie=1e-6, relative=1e-4)
    assert len(set(s.index)) == 120


def test_nothing_is_picked_twice_and_nan_is_refused():
    X = features(0, 50, 4, "gaussian")
    X[7, 2] = np.nan
    for function in (FacilityLocation, GraphCut, LogDet):
        with pytest.raises(InputError, match="row 7"):
            maximize(function(X), 5)


def test_graph_cut_where_similarities_are_negative():
    """Plain lazy greedy takes old gains for bounds; a pick opposite to an item raises that item's gain."""
    X = np.concatenate([features(0, 200, 3, "gaussian"), -features(0, 200, 3, "gaussian")])
    for lam in (0.4, 5.0):
        f = GraphCut(X, lam=lam)
        s = run(narrow(f.state(150), 10, 40, 10), 400, 150)
        assert len(s) == 150
        check(f, s.index, s.gain, budget=150)


def test_copies_end_a_selection_without_a_ridge():
    X = np.repeat(features(0, 10, 6, "gaussian"), 3, axis=0)
    s = maximize(LogDet(X, kernel="vmf"), 30)
    assert len(s) == 10
    assert (s.index % 3 == 0).all()  # the first of each


def test_the_same_call_gives_the_same_selection_and_a_prefix_is_the_smaller_budget():
    X = features(1, 500, 8, "clustered")
    for f in (FacilityLocation(X), GraphCut(X), LogDet(X, kernel="rbf")):
        a, b = maximize(f, 60), maximize(f, 60)
        np.testing.assert_array_equal(a.index, b.index)
        np.testing.assert_array_equal(a.gain, b.gain)
        np.testing.assert_array_equal(maximize(f, 20).index, a.index[:20])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0}, "budget is 0"),
        ({"budget": 21}, "from 1 to 20"),
        ({"budget": 2.5}, "whole number"),
        ({"budget": 3, "method": "lazy"}, "exact or stochastic"),
        ({"budget": 3, "epsilon": 0.0}, "epsilon"),
        ({"budget": 0.5, "costs": np.ones(20)}, "cheapest"),
        ({"budget": 3, "costs": np.zeros(20)}, "above 0"),
        ({"budget": 3, "groups": np.zeros(20, int)}, "both or neither"),
        ({"budget": 3, "groups": np.full(20, 4), "limits": [1, 1]}, "0..1"),
        ({"budget": 3, "start": [1, 1]}, "distinct"),
        ({"budget": 3, "start": [20]}, "0..19"),
        ({"budget": 19, "start": [0, 1]}, "from 1 to 18"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    budget = arguments.pop("budget")
    with pytest.raises(InputError, match=message):
        maximize(GraphCut(features(0, 20, 3, "gaussian")), budget, **arguments)


@pytest.mark.parametrize("gamma", [1.0, 10.0, 100.0, 1000.0])
def test_ties_go_to_the_first_row_whatever_the_size_of_the_kernel(gamma: float) -> None:
    """Rows close together, each as far from all others: d² is a small difference of large numbers."""
    for d, apart in ((30, 1e-3), (30, 3e-4), (16, 1e-3)):
        X = np.ones((d, d)) + apart * d**0.5 * np.eye(d)
        chosen = maximize(LogDet(X, kernel="linear", gamma=gamma, ridge=0.0), budget=d - 2)
        assert chosen.index.tolist() == list(range(d - 2))


@pytest.mark.parametrize("kernel", ["cosine", "vmf", "rbf", "linear"])
def test_the_tolerance_of_a_default_kernel_is_that_of_unit_diagonals(kernel: str) -> None:
    f = LogDet(np.eye(4), kernel=kernel)
    smallest = f.S.rho or 1e-9  # of d²
    expected = max(1e-11, 4e-15 / smallest)
    assert LogDetState(f, 2).tolerance(0, float(np.log(smallest))) == pytest.approx(expected, rel=1e-12)
