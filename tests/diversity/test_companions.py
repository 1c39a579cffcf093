"""Each measure against its definition written out, on sets whose answer is known, and whatever block size."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartdpp import diversity
from smartdpp.diversity import (
    cluster_entropy,
    coverage,
    knn_distance,
    mean_pairwise_distance,
    novelsum,
    radius,
    targets_covered,
    task_entropy,
    uniform_sphere,
    vendi_score,
)
from smartdpp.errors import InputError

POOL = np.random.default_rng(9).normal(size=(50, 6))


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(23, 6))


@pytest.fixture(params=[2**26, 2**9], ids=["one block", "many blocks"], autouse=True)
def blocks(request, monkeypatch):
    monkeypatch.setattr("smartdpp.diversity.rows.BLOCK_BYTES", request.param)


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize("q", [0.5, 1.0, 2.0, np.inf])
@pytest.mark.parametrize("d", [6, 40])
def test_vendi_is_the_hill_number_of_the_kernels_eigenvalues(q, d):
    X = np.random.default_rng(0).normal(size=(23, d))
    p = np.linalg.eigvalsh(unit(X) @ unit(X).T / 23)
    p = p[p > 1e-12]
    entropy = (
        -(p * np.log(p)).sum()
        if q == 1
        else -np.log(p.max())
        if q == np.inf
        else np.log((p**q).sum()) / (1 - q)
    )
    assert vendi_score(X, q=q) == pytest.approx(np.exp(entropy))


@pytest.mark.parametrize("q", [0.0, 1.0, 2.0, np.inf])
def test_vendi_counts_what_is_different(q):
    assert vendi_score(np.eye(7), q=q) == pytest.approx(7)
    assert vendi_score(np.repeat(np.eye(3), 5, axis=0), q=q) == pytest.approx(3)
    assert vendi_score(np.ones((9, 4)), q=q) == pytest.approx(1)


def test_mean_pairwise_distance_is_that_of_all_pairs(X):
    U = unit(X)
    assert mean_pairwise_distance(X) == pytest.approx(
        np.mean([1 - U[i] @ U[j] for i, j in combinations(range(23), 2)])
    )
    assert mean_pairwise_distance(X[:1]) == 0


@pytest.mark.parametrize("k", [1, 5, 22, 100])
def test_knn_distance_is_the_mean_of_the_sorted_distances(X, k):
    distance = 1 - unit(X) @ unit(X).T
    np.fill_diagonal(distance, np.inf)
    assert knn_distance(X, k=k) == pytest.approx(np.sort(distance, axis=1)[:, : min(k, 22)].mean())


def test_radius_is_the_geometric_mean_of_the_spreads(X):
    assert radius(X) == pytest.approx(np.prod(unit(X).std(axis=0)) ** (1 / 6))
    assert radius(np.hstack([X, np.zeros((23, 1))])) == 0


@pytest.mark.parametrize("pool", [None, POOL])
@pytest.mark.parametrize(("alpha", "beta", "k"), [(1.0, 0.5, 10), (2.0, 0.0, 3), (0.0, 1.0, 1)])
def test_novelsum_is_the_loop_of_its_definition(X, pool, alpha, beta, k):
    U, P = unit(X), np.unique(unit(X if pool is None else pool), axis=0)
    values = []
    for x in U:
        near = np.sort(((P - x) ** 2).sum(1))[1 : k + 1]
        delta = np.sort(1 - U @ x)
        weight = 1 / np.arange(1, len(U) + 1) ** alpha
        values.append((near.mean() + 1e-9) ** -beta * np.average(delta, weights=weight))
    assert novelsum(X, pool=pool, alpha=alpha, beta=beta, k=k) == pytest.approx(np.mean(values))


def test_coverage_is_facility_location_per_example(X):
    from smartdpp.functions import FacilityLocation

    f = FacilityLocation(np.concatenate([POOL, X]))
    of_pool = FacilityLocation(POOL)
    assert coverage(POOL[[3, 7]], pool=POOL) == pytest.approx(of_pool.value([3, 7]) / 50)
    assert coverage(X, pool=np.concatenate([POOL, X])) == pytest.approx(f.value(np.arange(50, 73)) / 73)
    assert coverage(POOL, pool=POOL) == pytest.approx(1)


def test_entropy_is_that_of_the_counts():
    assert task_entropy(["a", "b", "b", "c"]) == pytest.approx(-(0.5 * np.log(0.25) + 0.5 * np.log(0.5)))
    assert task_entropy(["a"] * 5) == 0


def test_clusters_are_found_and_their_entropy_is_the_spread():
    centres = 10 * np.eye(5)
    pool = np.repeat(centres, 20, axis=0) + 0.1 * np.random.default_rng(0).normal(size=(100, 5))
    assert cluster_entropy(pool, pool=pool, clusters=5) == pytest.approx(np.log(5))
    assert cluster_entropy(pool[:20], pool=pool, clusters=5) == 0
    assert cluster_entropy(np.ones((4, 3)), clusters=100) == 0  # one distinct row makes one cluster


UNARY = [vendi_score, mean_pairwise_distance, knn_distance, novelsum, radius]


@pytest.mark.parametrize("measure", UNARY, ids=lambda m: m.__name__)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 40))
def test_neither_row_order_nor_scale_matters_and_nothing_is_written(measure, seed, n):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    X.flags.writeable = False
    moved = (X * rng.uniform(0.1, 9, size=(n, 1)))[rng.permutation(n)]
    assert measure(moved) == pytest.approx(measure(X), rel=1e-9)
    if measure is not radius:
        rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
        assert measure(X @ rotation) == pytest.approx(measure(X), rel=1e-7)


@pytest.mark.parametrize("measure", [m for m in UNARY if m is not novelsum], ids=lambda m: m.__name__)
def test_a_narrow_set_is_less_diverse(measure):
    wide = uniform_sphere(200, 16, 0)
    assert measure(wide + 2 * np.eye(16)[0]) < measure(wide)


@pytest.mark.parametrize("measure", UNARY, ids=lambda m: m.__name__)
@pytest.mark.parametrize(
    ("X", "message"),
    [(np.ones(4), "shape"), (np.ones((0, 4)), "shape"), (np.array([[1.0, np.nan], [0, 1]]), "row 0"),
     (np.array([[1.0, 0], [0, 0]]), "zero")],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(measure, X, message):
    with pytest.raises(InputError, match=message):
        measure(X)


@pytest.mark.parametrize(
    "call",
    [lambda X: vendi_score(X, q=-1), lambda X: knn_distance(X, k=0), lambda X: novelsum(X, k=0), lambda X: novelsum(X, beta=-1),  # noqa: E501
     lambda X: cluster_entropy(X, clusters=0)],
)  # fmt: skip
def test_parameters_out_of_range_are_refused(X, call):
    with pytest.raises(InputError, match=r"(-1|0)"):
        call(X)


def test_a_target_is_covered_where_some_row_is_nearest_to_an_example_of_it():
    query, target = np.eye(4)[[0, 1, 2, 3, 0]], np.array([0, 1, 1, 2, 3])
    X = np.array([[3, 1, 0, 0], [0, 2, 1, 0], [0, 1, 5, 0], [2, 0, 0, 1]])  # the fourth never comes first
    assert targets_covered(X, query=query, target=target) == 2 / 4
    assert targets_covered(X[1:3], query=query, target=target) == 1 / 4
    assert targets_covered(np.eye(4), query=query, target=target) == 3 / 4


MEASURES = [*UNARY, lambda X: coverage(X, pool=X), lambda X: novelsum(X, pool=X)]


@pytest.mark.parametrize(
    "measure", MEASURES, ids=[*(m.__name__ for m in UNARY), "coverage", "novelsum of a pool"]
)
def test_no_table_of_all_pairs_is_made(measure, monkeypatch):
    monkeypatch.setattr("smartdpp.diversity.rows.BLOCK_BYTES", 2**18)
    X = np.random.default_rng(0).normal(size=(2000, 8))  # 128 kB, and 32 MB for all pairs
    measure(X[:10])  # what is imported on the way
    tracemalloc.start()
    try:
        measure(X)
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()


def test_every_public_name_is_there():
    assert all(hasattr(diversity, name) for name in diversity.__all__)
