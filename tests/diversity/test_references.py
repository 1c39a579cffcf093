"""Reference sets: what they are made of, and that their gains are found once."""

from pathlib import Path

import numpy as np
import pytest

from smartdpp.diversity import log_det_distance, references, sensitivity, shuffled_columns, uniform_sphere
from smartdpp.diversity.references import greedy_gains
from smartdpp.diversity.sensitivity import summary
from smartdpp.errors import InputError
from smartdpp.functions import LogDet
from smartdpp.greedy import maximize


@pytest.fixture
def X():
    return (np.random.default_rng(0).normal(size=(40, 6)) + 1).astype(np.float32)


@pytest.fixture
def found(monkeypatch, tmp_path):
    """Counts the greedy runs, with a cache of its own."""
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / "cache"))
    references._sphere.cache_clear()
    runs = []
    monkeypatch.setattr(references, "maximize", lambda *args: runs.append(args) or maximize(*args))
    yield runs
    references._sphere.cache_clear()


def test_a_reference_is_found_once_and_then_read_from_disk(found, X, tmp_path):
    first = log_det_distance(X, reference_seeds=(11, 12))
    assert len(found) == 3  # the set's own, and two references
    references._sphere.cache_clear()  # as in another process
    again = log_det_distance(X, reference_seeds=(11, 12))
    assert len(found) == 4
    np.testing.assert_array_equal(again.curve, first.curve)
    assert len(list((tmp_path / "cache" / "references").iterdir())) == 2
    log_det_distance(X, reference_seeds=(11,), gamma=2.0)
    assert len(found) == 6  # another gamma is another reference
    log_det_distance(X, reference_seeds=(11, 12), n=7)
    assert len(found) == 7  # the first picks of a reference are those of its longest run
    log_det_distance(X, reference_seeds=(13,), n=7)
    log_det_distance(X, reference_seeds=(13,), n=9)
    assert len(found) == 11  # a longer run is made, and takes the shorter one's place
    assert len(list((tmp_path / "cache" / "references").iterdir())) == 4


def test_a_damaged_cache_file_is_made_again(found, X, tmp_path):
    expected = log_det_distance(X, reference_seeds=(11,)).value
    (file,) = (tmp_path / "cache" / "references").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    references._sphere.cache_clear()
    assert log_det_distance(X, reference_seeds=(11,)).value == expected


def test_a_cache_that_cannot_be_written_is_remarked_on_and_costs_nothing_else(
    found, X, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / "file"))
    assert np.isfinite(log_det_distance(X, reference_seeds=(11,)).value)
    assert "could not be kept" in caplog.text


def test_shuffling_keeps_every_column_and_breaks_the_rows(X):
    S = shuffled_columns(X, 3)
    np.testing.assert_array_equal(np.sort(S, axis=0), np.sort(X, axis=0))
    assert len(set(map(bytes, S)) & set(map(bytes, X))) == 0


def test_a_set_of_independent_columns_is_at_no_distance_from_its_shuffling():
    rng = np.random.default_rng(0)
    independent = rng.normal(size=(400, 24)) + 1
    shared = independent + 2 * rng.normal(size=(400, 1))  # one feature in all columns
    assert abs(log_det_distance(independent, reference="shuffled").value) < 0.02
    assert log_det_distance(shared, reference="shuffled").value > 0.2
    assert log_det_distance(independent).value > 0.2  # far from the sphere: it lies to one side


def test_a_set_is_at_no_distance_from_itself_held_out(X):
    result = log_det_distance(X, reference=X, reference_seeds=(0,))
    assert result.value == pytest.approx(0, abs=1e-3)  # the same rows; the first pick is a tie
    assert result.reference == "held out, 40 rows"


def test_the_definition_with_a_held_out_reference():
    rng = np.random.default_rng(1)
    X, R = rng.normal(size=(12, 5)), rng.normal(size=(30, 5))
    rows = np.sort(np.random.default_rng(4).permutation(30)[:12])
    ours, theirs = (greedy_gains(LogDet(Z, kernel="vmf", ridge=0.0), 12) for Z in (X, R[rows]))
    result = log_det_distance(X, reference=R, reference_seeds=(4,), truncate=-60)
    np.testing.assert_allclose(result.curve, np.cumsum(theirs - ours) / np.arange(1, 13))


@pytest.mark.parametrize(
    ("reference", "size", "message"),
    [("cube", None, "choose sphere or shuffled"), (np.ones((50, 3)), None, "6 columns"),
     (np.ones((20, 6)), None, "20 rows, but 40"),
     ("shuffled", 80, "leave it out")],
)  # fmt: skip
def test_a_reference_that_does_not_fit_is_refused(X, reference, size, message):
    with pytest.raises(InputError, match=message):
        log_det_distance(X, reference=reference, reference_size=size)


def test_sensitivity_varies_one_choice_at_a_time_and_reads_all_sets_at_one_n():
    rng = np.random.default_rng(0)
    sets = {
        "wide": uniform_sphere(60, 8, 5),
        "narrow": rng.normal(size=(60, 8)) + 3,
        "copies": np.repeat(uniform_sphere(15, 8, 6), 4, axis=0),
    }
    table = sensitivity(sets, reference_seeds=(0, 1))
    usual = table[table["varied"] == "none"].set_index("set")
    assert set(table["varied"]) == {"none", "reference", "gamma", "truncation", "n"}
    assert (table.groupby(["varied", "setting"], sort=False)["n"].nunique() == 1).all()
    assert usual["n"].iloc[0] == 15  # no more are kept of the copies
    expected = log_det_distance(sets["narrow"], n=15, reference_seeds=(0, 1)).value
    assert usual.loc["narrow", "value"] == pytest.approx(expected)
    undropped = table[(table["varied"] == "truncation") & (table["setting"] == "none")].set_index("set")
    assert undropped["n"].iloc[0] == 60
    assert undropped.loc["copies", "rank"] == 3
    short = summary(table).set_index(["varied", "setting"])
    assert short.loc[("reference", "sphere"), "Kendall τ with the ranking as measured"] == 1
    assert short.loc[("none", "as measured"), "largest move in rank"] == "0"


def test_sensitivity_needs_two_sets_and_a_reachable_n():
    with pytest.raises(InputError, match="at least two"):
        sensitivity({"a": np.eye(3)})
    with pytest.raises(InputError, match="choose at most 3"):
        sensitivity({"a": np.eye(3), "b": np.eye(3)}, n=4)


@pytest.mark.large
def test_golden_determinant_of_ten_thousand_points():
    """np.random.seed(0), randn(10000, 256), gamma = 1: minutes and gigabytes."""
    gains = greedy_gains(LogDet(uniform_sphere(10_000, 256, 0), kernel="vmf", gamma=1.0, ridge=0.0), 10_000)
    assert gains.sum() == pytest.approx(-23914.483, abs=0.01)


@pytest.mark.large
def test_golden_gains_of_the_authors_reference():
    """np.random.seed(0), randn(99284, 4096), gamma = 1, the first picks: a minute and 10 GB. Their 55,000
    picks take a large GPU."""
    function = LogDet(uniform_sphere(99_284, 4096, 0), kernel="vmf", gamma=1.0, ridge=0.0)
    # all rows tie for the first pick; of those tried, row 6 leads to their numbers
    theirs = maximize(function, 2, start=[6])
    np.testing.assert_allclose(theirs.gain, [-0.42538, -0.58132], atol=5e-6)


def test_golden_distance_of_subspaces():
    """64, 32 and 16 of 128 dimensions, about 12 points a dimension, against a reference of twice as many."""
    rng = np.random.default_rng(0)
    values = []
    for k in (64, 32, 16):
        basis = np.linalg.qr(rng.normal(size=(128, k)))[0]
        values.append(
            log_det_distance(
                rng.normal(size=(1536, k)) @ basis.T, reference_seeds=(0,), reference_size=3072
            ).value
        )
    np.testing.assert_allclose(values, [0.36, 1.18, 2.65], atol=0.04)


def test_the_cache_lies_in_the_users_cache_directory(cache: Path, X):
    log_det_distance(X, reference_seeds=(91,))
    assert list((cache / "references").glob("*.npy"))
