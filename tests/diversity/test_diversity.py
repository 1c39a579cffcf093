import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from smartdpp.diversity import LogDetDistance, NoMeasure, log_det_distance, uniform_sphere
from smartdpp.diversity.references import greedy_gains
from smartdpp.diversity.rows import copies
from smartdpp.errors import InputError

CONF = Path(__file__).parents[2] / "conf"
CLAMPED = np.log(1e-20)


def vmf(X, gamma=1.0):
    X = X.astype(np.float64)
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    return np.exp(gamma * (X @ X.T - 1) / 2)


def residuals(S, order):
    """Δ of a prescribed order, from determinants."""
    logdet = [0.0, *(np.linalg.slogdet(S[np.ix_(order[:m], order[:m])])[1] for m in range(1, len(order) + 1))]
    return np.diff(logdet)


def greedy_residuals(S):
    """Δ of the greedy order, from determinants, by trying every row."""
    order = []
    for _ in range(len(S)):
        rest = [i for i in range(len(S)) if i not in order]
        gains = [round(np.linalg.slogdet(S[np.ix_([*order, i], [*order, i])])[1], 9) for i in rest]
        order.append(rest[int(np.argmax(gains))])
    return residuals(S, order)


@cache
def golden():
    """The set that the published numbers are given for, measured once."""
    return log_det_distance(uniform_sphere(2000, 64, seed=0), reference_seeds=(0,))


def test_golden_log_determinant_and_greedy_gains():
    gains = golden().log_gains
    assert gains.sum() == pytest.approx(-5261.953, abs=5e-4)
    assert gains[1] == pytest.approx(-0.283445, abs=5e-7)
    assert gains[-1] == pytest.approx(-3.28588, abs=5e-6)
    assert gains[:400].mean() == pytest.approx(-1.93483, abs=5e-6)


def test_a_reference_is_at_no_distance_from_itself():
    assert golden().value == 0
    assert not golden().curve.any()


def test_a_uniform_set_reads_zero():
    for seed in (7, 8, 9):
        result = log_det_distance(uniform_sphere(1000, 64, seed))
        assert abs(result.value) < 1e-3
        assert abs(result.value) < 4 * result.sd


def test_fewer_dimensions_are_farther_away():
    rng = np.random.default_rng(0)
    values = []
    for k in (128, 64, 32, 16):
        basis = np.linalg.qr(rng.normal(size=(128, k)))[0]
        values.append(log_det_distance(rng.normal(size=(512, k)) @ basis.T, reference_seeds=(0,)).value)
    assert abs(values[0]) < 5e-3
    np.testing.assert_allclose(values[1:], [0.30, 0.76, 1.79], atol=0.03)


@pytest.mark.parametrize("kernel_gamma", [0.3, 1.0, 10.0])
def test_the_definition_written_out(kernel_gamma):
    X, R = np.random.default_rng(3).normal(size=(9, 5)), uniform_sphere(9, 5, seed=4)
    ours, theirs = greedy_residuals(vmf(X, kernel_gamma)), greedy_residuals(vmf(R, kernel_gamma))
    result = log_det_distance(X, gamma=kernel_gamma, reference_seeds=(4,), truncate=-50)
    np.testing.assert_allclose(result.log_gains, ours, atol=1e-7)
    np.testing.assert_allclose(result.curve, np.cumsum(theirs - ours) / np.arange(1, 10), atol=1e-7)
    assert result.value == result.untruncated == result.curve[-1]


def test_steps_below_the_truncation_are_dropped_on_both_sides_and_counted():
    X, R = np.random.default_rng(3).normal(size=(12, 5)), uniform_sphere(12, 5, seed=4)
    ours, theirs = greedy_residuals(vmf(X)), greedy_residuals(vmf(R))
    threshold = float(np.sort(ours)[4] + 1e-6)  # drops five of ours
    result = log_det_distance(X, reference_seeds=(4,), truncate=threshold)
    n = min(7, (theirs >= threshold).sum())
    assert (result.kept, result.size, result.kept_share) == (7, 12, 7 / 12)
    assert result.reference_kept == ((theirs >= threshold).sum(),)
    assert result.n == len(result.curve) == n
    assert result.value == pytest.approx(
        (theirs[theirs >= threshold][:n] - ours[ours >= threshold][:n]).mean()
    )
    assert result.untruncated_n == 12
    assert result.untruncated == pytest.approx((theirs - ours).mean())


def test_an_order_changes_the_steps_but_not_their_sum():
    X = np.random.default_rng(5).normal(size=(20, 8))
    order = np.random.default_rng(6).permutation(20)
    greedy, prescribed = log_det_distance(X), log_det_distance(X, order=order)
    np.testing.assert_allclose(prescribed.log_gains, residuals(vmf(X), order.tolist()), atol=1e-7)
    assert prescribed.untruncated == pytest.approx(greedy.untruncated)
    # greedy prefixes are the more diverse
    assert (prescribed.curve[:-1] >= greedy.curve[:-1] - 1e-9).mean() > 0.9


def test_copies_are_dropped_counted_and_clamped():
    distinct = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    X = np.concatenate([distinct, distinct[:10]])
    without, result = log_det_distance(distinct), log_det_distance(X)
    assert result.duplicate_share == 0.25
    assert without.duplicate_share == 0
    assert (result.kept, result.n) == (30, 30)
    np.testing.assert_allclose(result.log_gains[:30], without.log_gains, atol=1e-9)
    assert (result.log_gains[30:] == CLAMPED).all()
    assert result.untruncated - result.value > 10  # ten of forty steps at 46 nats


@pytest.mark.parametrize("kernel", ["vmf", "linear", "rbf"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_copy_is_what_the_kernel_takes_for_one(kernel, dtype):
    distinct = np.random.default_rng(0).normal(size=(30, 16)).astype(dtype)
    # in float32 rounded, too
    scaled = distinct[:6] * np.array([2, 3, 0.1, 1e3, 7, 1 / 3], dtype=dtype)[:, None]
    result = log_det_distance(
        np.concatenate([distinct, scaled, distinct[6:10], -distinct[10:12]]), kernel=kernel, n=5, whole=False
    )
    assert result.duplicate_share == (4 if kernel == "rbf" else 10) / 42


def test_copies_leaves_one_of_each_and_marks_no_neighbour():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 3))
    near = X[:50] + 1e-4 * rng.normal(size=(50, 3))  # close, but not copies
    rows = np.concatenate([X, near, np.repeat(X[:20], 5, axis=0) * rng.uniform(0.5, 2, size=(100, 1))])[
        rng.permutation(350)
    ]
    repeated = copies(rows, normalised=True)
    assert repeated.sum() == 100
    left = rows[~repeated] / np.linalg.norm(rows[~repeated], axis=1, keepdims=True)
    assert len(np.unique(left.round(9), axis=0)) == 250
    assert not copies(rows, normalised=False).any()
    assert copies(np.ones((5, 2), dtype=np.float16), normalised=True).sum() == 4
    assert copies(np.array([[1.0], [2.0], [-1.0]]), normalised=True).sum() == 1


def test_copies_weigh_the_same_in_any_order():
    distinct = np.random.default_rng(0).normal(size=(6, 4))
    X = np.repeat(distinct, 2, axis=0)
    for order in (None, np.arange(12), np.random.default_rng(1).permutation(12)):
        result = log_det_distance(X, order=order)
        assert (result.log_gains == CLAMPED).sum() == 6
        assert result.log_gains.sum() == pytest.approx(np.linalg.slogdet(vmf(distinct))[1] + 6 * CLAMPED)


def test_one_point_repeated_is_at_no_distance_but_all_duplicates():
    result = log_det_distance(np.ones((10, 3)))
    assert (result.value, result.n, result.kept, result.duplicate_share) == (0, 1, 1, 0.9)
    assert result.untruncated > 10


def test_neither_row_order_nor_rotation_nor_scale_matters():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(40, 12))
    rotation = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    value = log_det_distance(X).value
    moved = (X @ rotation * rng.uniform(0.1, 9, size=(40, 1)))[rng.permutation(40)]
    # the first pick is a tie, broken by row
    assert log_det_distance(moved).value == pytest.approx(value, abs=0.01)
    first = np.concatenate([moved[[0]], moved[1:][rng.permutation(39)]])
    assert log_det_distance(first).value == pytest.approx(log_det_distance(moved).value, abs=1e-9)


def test_n_reads_the_curve_and_grows():
    X = np.random.default_rng(0).normal(size=(60, 4)) + 1
    full, at = log_det_distance(X), log_det_distance(X, n=10)
    assert at.n == at.untruncated_n == 10
    assert at.value == full.curve[9] < full.value == full.curve[-1]


def test_greedy_stops_where_the_value_is_known(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "smartdpp.diversity.log_det.greedy_gains", lambda f, m: asked.append(m) or greedy_gains(f, m)
    )
    monkeypatch.setattr("smartdpp.diversity.log_det.FIRST", 8)
    X = np.random.default_rng(0).normal(size=(90, 6)) + 1
    full = log_det_distance(X, truncate=-5)
    at, to_truncation = log_det_distance(X, n=10, truncate=-5), log_det_distance(X, truncate=-5, whole=False)
    assert asked == [90, 10, 8, 16, 32]
    assert 16 < full.kept < 32
    assert (at.value, at.kept, at.reference_kept) == (full.curve[9], 10, (10, 10, 10))
    assert np.isnan(at.kept_share)  # ten or more
    assert not at.all_kept_known
    assert (to_truncation.value, to_truncation.kept_share) == (full.value, full.kept_share)
    np.testing.assert_array_equal(to_truncation.curve, full.curve)
    assert np.isnan(to_truncation.untruncated)
    assert log_det_distance(X, n=10, truncate=-5, whole=True).kept_share == full.kept_share


def test_an_order_is_followed_until_n_are_kept():
    X = np.repeat(np.random.default_rng(0).normal(size=(20, 8)), 3, axis=0)
    full, at = log_det_distance(X, order=np.arange(60)), log_det_distance(X, order=np.arange(60), n=6)
    assert at.value == pytest.approx(full.curve[5])
    assert len(at.log_gains) == 24  # 6, then 12, then 24: every third row is new
    assert np.isnan(at.kept_share)
    assert log_det_distance(X, order=np.arange(60), whole=False).kept_share == pytest.approx(1 / 3)


def test_an_n_beyond_the_curve_names_the_counts():
    X = np.repeat(np.random.default_rng(0).normal(size=(5, 8)), 2, axis=0)
    with pytest.raises(InputError, match=r"n is 6, but the curve has 5 entries: of 10 rows 5 are kept"):
        log_det_distance(X, n=6)


def test_a_larger_reference_looks_more_diverse():
    X = uniform_sphere(200, 16, seed=9)
    same, double = log_det_distance(X), log_det_distance(X, reference_size=400)
    assert double.reference_size == 400
    assert len(double.curve) == 200
    assert double.value > same.value + 0.005


def test_the_spread_is_that_of_the_references():
    X = np.random.default_rng(1).normal(size=(30, 6))
    each = [log_det_distance(X, reference_seeds=(s,)).value for s in (3, 4, 5, 6)]
    result = log_det_distance(X, reference_seeds=(3, 4, 5, 6))
    assert result.value == pytest.approx(np.mean(each))
    assert result.sd == pytest.approx(np.std(each, ddof=1))
    assert np.isnan(log_det_distance(X, reference_seeds=(3,)).sd)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_other_kernels(kernel):
    X = np.random.default_rng(1).normal(size=(10, 20))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    # on unit rows, rbf at gamma is vmf at 4 gamma
    S = {"rbf": vmf(X, 4.0), "linear": (X @ X.T + 1) / 2}[kernel]
    assert log_det_distance(X, kernel=kernel).log_gains.sum() == pytest.approx(np.linalg.slogdet(S)[1])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.array([[1.0, np.nan], [0, 1]]), "finite"),
        (np.array([[1.0, 0], [0, 0]]), "zero"),
        (np.ones(4), "shape"),
        (np.ones((0, 4)), "shape"),
    ],
)
def test_a_matrix_that_cannot_be_measured_is_refused(X, message):
    with pytest.raises(InputError, match=message):
        log_det_distance(X)


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [0, 1, 3]])
@pytest.mark.parametrize("n", [None, 1])
def test_an_order_must_be_a_permutation(order, n):
    with pytest.raises(InputError, match=r"order has 2|distinct|0\.\.2"):
        log_det_distance(np.eye(3), order=np.array(order), n=n)


def test_the_component_measures_what_the_function_does_and_its_numbers_are_json():
    with initialize_config_dir(str(CONF), version_base=None):
        measure = instantiate(
            compose(overrides=["+diversity=logdet", "diversity.reference_seeds=[1,2]"]).diversity
        )
    X = np.random.default_rng(0).normal(size=(25, 5)).astype(np.float32)
    numbers, result = (
        json.loads(json.dumps(measure.measure(X), allow_nan=False)),
        log_det_distance(X, reference_seeds=(1, 2)),
    )
    assert numbers["ldd"] == result.value
    assert numbers["ldd_sd"] == result.sd
    assert numbers["curve"] == result.curve.tolist()
    assert (numbers["kept"], numbers["size"], numbers["reference_seeds"], numbers["reference_size"]) == (
        25,
        25,
        [1, 2],
        25,
    )
    assert json.dumps(LogDetDistance(reference_seeds=(0,)).measure(X), allow_nan=False)
    stopped = LogDetDistance(n=5).measure(X)
    assert (stopped["kept"], stopped["kept_share"], stopped["size"]) == (None, None, 25)


def test_an_empty_mixture_and_no_measure_have_no_numbers():
    with initialize_config_dir(str(CONF), version_base=None):
        assert instantiate(compose(overrides=["+diversity=none"]).diversity) == NoMeasure()
    assert LogDetDistance().measure(np.zeros((0, 4), np.float32)) == {}
    assert NoMeasure().measure(np.ones((3, 4), np.float32)) == {}


@pytest.mark.parametrize(
    "parameters",
    [
        {"gamma": 0.0},
        {"n": 0},
        {"reference_seeds": ()},
        {"reference_seeds": (-1,)},
        {"reference_size": 0},
        {"truncate": 0.0},
    ],
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InputError, match=rf"diversity\.{next(iter(parameters))} is"):
        LogDetDistance(**parameters)
