"""Methods that look at the pool alone, each against a straight reading of its rule on a small pool."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, LogDet
from smartdpp.functions.min_distance import MinDistance
from smartdpp.functions.with_bonus import WithBonus
from smartdpp.greedy import maximize
from smartdpp.strategies import novelselect
from smartdpp.strategies.clusters import kmeans
from smartdpp.strategies.gist import Gist, distances
from smartdpp.strategies.k_center import KCenter
from smartdpp.strategies.kmq import KMeansQuality, KMeansRandom
from smartdpp.strategies.kmq_rounds import KMeansRounds
from smartdpp.strategies.novelselect import NovelSelect
from smartdpp.strategies.qdit import Qdit
from smartdpp.strategies.s2l import S2L, smallest_first
from smartdpp.strategies.tagcos import Tagcos
from smartdpp.types import Pool, Strategy

SIZES = (3, 8, 9, 20)  # of clusters far from each other: the best of 20 k-means finds them


def pool_of(seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    n, cluster = sum(SIZES), np.repeat(np.arange(4), SIZES)
    X = (20 * np.eye(4, 6)[cluster] + rng.normal(size=(n, 6))).astype(np.float32)
    ids = np.array([f"{i:03d}" for i in range(n)])
    return Pool(ids, X, cluster % 2, ["odd", "even"], np.ones(n, int), rng.uniform(1, 5, n))


CLUSTER = np.repeat(np.arange(4), SIZES)


def select(strategy: Strategy, pool: Pool, budget: int, seed: int = 0) -> np.ndarray:
    return strategy.select(pool, budget, np.random.default_rng(seed)).index


def unit(X: np.ndarray) -> np.ndarray:
    X = X.astype(np.float64)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize("normalize", [True, False])
def test_k_center_takes_what_is_farthest_from_all_chosen(normalize: bool) -> None:
    pool = pool_of()
    V = unit(pool.X) if normalize else pool.X.astype(np.float64)
    far = np.linalg.norm(V[:, None] - V, axis=2)
    chosen, gain = [0], [0.0]
    while len(chosen) < 40:
        nearest = far[:, chosen].min(1)
        chosen.append(int(nearest.argmax()))
        gain.append(nearest.max())
    found = KCenter(first="id", normalize=normalize).select(pool, 40, np.random.default_rng(0))
    assert found.index[:39].tolist() == chosen[:39]
    np.testing.assert_allclose(found.gain[:39], gain[:39], atol=1e-6)


def test_k_center_is_exact_where_few_rows_are_looked_at() -> None:
    X = np.random.default_rng(1).normal(size=(9000, 3))
    V = unit(X)
    nearest, chosen = np.square(V - V[5]).sum(1), [5]
    for _ in range(60):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(V - V[chosen[-1]]).sum(1))
    assert maximize(MinDistance(X), 60, start=[5]).index.tolist() == chosen[1:]


def test_k_center_goes_on_from_what_was_chosen_before() -> None:
    pool = pool_of()
    whole = select(KCenter(first="id"), pool, 12)
    rest = select(KCenter(), replace(pool, start=whole[:5]), 7)
    assert rest.tolist() == whole[5:].tolist()


def test_k_center_begins_anywhere() -> None:
    assert len({select(KCenter(), pool_of(), 1, seed)[0] for seed in range(9)}) > 3


def test_every_cluster_gives_as_much_and_what_small_ones_lack_comes_from_the_others() -> None:
    pool = pool_of()
    for strategy in (KMeansRandom(clusters=4, restarts=20), KMeansQuality(clusters=4, restarts=20)):
        for budget, expected in (
            (8, [2, 2, 2, 2]),
            (10, [2, 2, 3, 3]),
            (28, [3, 8, 8, 9]),
            (40, [3, 8, 9, 20]),
        ):
            counts = np.bincount(CLUSTER[select(strategy, pool, budget)], minlength=4)
            assert counts.tolist() == expected


def test_inside_a_cluster_rows_are_drawn_by_the_exponential_of_their_quality() -> None:
    pool = pool_of()
    pool.quality[CLUSTER == 0] = np.log([1.0, 2.0, 5.0])
    strategy = KMeansQuality(clusters=4, restarts=20)
    draws = np.array([select(strategy, pool, 4, seed) for seed in range(400)])
    first = draws[CLUSTER[draws] == 0]
    np.testing.assert_allclose(np.bincount(first, minlength=3) / 400, [1 / 8, 2 / 8, 5 / 8], atol=0.08)
    log = replace(strategy, scale="log")
    as_exponential = replace(pool, quality=np.exp(pool.quality))
    assert select(log, as_exponential, 12).tolist() == select(strategy, pool, 12).tolist()


def test_shares_are_dealt_smallest_first() -> None:
    """sizes 3, 8, 9, 20 and 22 to give: 3 of 22/4, then of the 19 left 6 (19/3), 6 (13/2) and 7."""
    assert smallest_first(np.array([20, 3, 9, 8]), 22).tolist() == [7, 3, 6, 6]
    assert smallest_first(np.array([20, 3, 9, 8]), 40).tolist() == [20, 3, 9, 8]


def test_s2l_takes_small_sources_and_small_clusters_first() -> None:
    """even has clusters of 8 and 20, odd of 3 and 9: half of 22 comes from odd, the rest from even."""
    counts = np.bincount(CLUSTER[select(S2L(clusters=2, restarts=20), pool_of(), 22)], minlength=4)
    assert counts.tolist() == [3, 5, 8, 6]
    as_one = np.bincount(
        CLUSTER[select(S2L(clusters=4, restarts=20, per_source=False), pool_of(), 22)], minlength=4
    )
    assert as_one.tolist() == [3, 6, 6, 7]


def test_s2l_leaves_clusters_of_one_or_two_to_the_end() -> None:
    pool = pool_of()
    pool.X[:1] = 50
    for budget, rows_of_tiny in ((37, 0), (38, 1)):
        chosen = select(S2L(clusters=5, restarts=20, per_source=False), pool, budget)
        lone = np.isin(chosen, np.arange(3)).sum()  # a cluster of one and one of two
        assert lone == rows_of_tiny


def pursuit_as_written(A: np.ndarray, b: np.ndarray, budget: int, lam: float) -> list[int]:
    """The authors' loop, one step a line: passes over what is left, each ended by a row it holds already."""
    left, chosen = list(range(len(A))), []
    while budget > 0:
        held: list[int] = []
        residual = b.copy()
        for _ in range(budget):
            if held and np.linalg.norm(residual) / np.linalg.norm(b) < 1e-4:
                break
            j = max(left, key=lambda j: (A[j] @ residual, -j))
            if j in held:
                break
            held.append(j)
            weights = [A[j] @ residual / (A[j] @ A[j])]
            if len(held) > 1:
                while True:
                    B = A[held]
                    penalised = B @ B.T + lam * np.eye(len(held)) if len(held) > 1 else B @ B.T
                    weights = np.linalg.lstsq(penalised, B @ b, rcond=None)[0]
                    if len(held) == 1 or min(weights) >= 0:
                        break
                    del held[int(np.argmin(weights))]
            residual = b - np.asarray(weights) @ A[held]
        chosen += held
        left = [j for j in left if j not in held]
        budget -= len(held)
    return chosen


def test_tagcos_takes_the_same_part_of_every_cluster_by_pursuit_of_its_mean() -> None:
    pool = pool_of()
    chosen = select(Tagcos(clusters=4, restarts=20, penalty=0.5), pool, 20)
    assert np.bincount(CLUSTER[chosen], minlength=4).tolist() == [1, 4, 4, 11]
    for cluster in range(4):
        rows = np.flatnonzero(cluster == CLUSTER)
        mine = chosen[CLUSTER[chosen] == cluster]
        A = pool.X[rows].astype(np.float64)
        expected = pursuit_as_written(A, pool.X[rows].mean(0).astype(np.float64), len(mine), 0.5)
        assert mine.tolist() == rows[expected].tolist()


def test_qdit_is_greedy_on_coverage_and_quality_added() -> None:
    pool, alpha = pool_of(), 0.3
    S = np.maximum(unit(pool.X) @ unit(pool.X).T, 0)
    best, chosen, gains = np.zeros(40), [], []
    for _ in range(40):
        gain = (1 - alpha) * np.maximum(S - best, 0).sum(1) + alpha * pool.quality
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        gains.append(gain.max())
        best = np.maximum(best, S[chosen[-1]])
    found = Qdit(alpha=alpha).select(pool, 40, np.random.default_rng(0))
    assert found.index.tolist() == chosen
    np.testing.assert_allclose(found.gain, gains, rtol=1e-6)
    assert select(Qdit(alpha=1.0), pool, 9).tolist() == np.argsort(-pool.quality)[:9].tolist()
    assert select(Qdit(alpha=0.0), pool, 9).tolist() == maximize(FacilityLocation(pool.X), 9).index.tolist()


def test_a_bonus_counts_with_a_function_of_any_kind() -> None:
    X, bonus = pool_of().X, np.linspace(0, 3, 40)
    make = LogDet(X, kernel="rbf", ridge=0.1, gamma=0.01)
    found, chosen = maximize(WithBonus(make, bonus, 0.5), 8), []
    for _ in range(8):
        gains = [-np.inf if j in chosen else 0.5 * make.gains([*chosen, j])[-1] + bonus[j] for j in range(40)]
        chosen.append(int(np.argmax(gains)))
    assert found.index.tolist() == chosen


def test_gist_is_the_best_of_sets_by_quality_that_keep_a_distance() -> None:
    pool, weight = pool_of(), 2.0
    far = np.linalg.norm(unit(pool.X)[:, None] - unit(pool.X), axis=2)
    best, expected = -np.inf, []
    for d in distances(0.1):
        kept: list[int] = []
        for i in np.argsort(-pool.quality):
            if len(kept) < 8 and all(far[i, j] > d for j in kept):
                kept.append(int(i))
        if len(kept) < 8:
            break
        pairs = far[np.ix_(kept, kept)] + 9 * np.eye(8)
        value = pool.quality[kept].mean() / pool.quality.max() + weight * pairs.min()
        if value > best:
            best, expected = value, kept
    found = select(Gist(diversity=weight), pool, 8)
    assert found.tolist() == expected
    assert found.tolist() != select(Gist(diversity=0), pool, 8).tolist()
    assert select(Gist(diversity=0), pool, 8).tolist() == np.argsort(-pool.quality)[:8].tolist()


@pytest.mark.parametrize("block", [1024, 3])
def test_novelselect_takes_the_most_novel_by_distance_rank_and_density(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(novelselect, "BLOCK", block)
    pool = pool_of()
    V = unit(pool.X)
    cosine = V @ V.T
    squared = 2 - 2 * cosine
    rho = np.array([1 / np.sqrt(np.sort(np.delete(squared[i], i))[:10].mean() + 1e-9) for i in range(40)])
    found = NovelSelect().select(pool, 30, np.random.default_rng(3))
    chosen = [int(found.index[0])]
    while len(chosen) < 30:
        value = np.full(40, -np.inf)
        for i in set(range(40)) - set(chosen):
            weighted = sorted((rho[i] + rho[j]) * (1 - cosine[i, j]) for j in chosen)
            value[i] = sum(w / rank for rank, w in enumerate(weighted, 1)) / len(chosen)
        chosen.append(int(value.argmax()))
        np.testing.assert_allclose(found.gain[len(chosen) - 1], value.max(), rtol=1e-4)
    assert found.index.tolist() == chosen


def test_novelselect_says_that_a_pool_has_fewer_neighbours(caplog: pytest.LogCaptureFixture) -> None:
    pool, draw = pool_of(), np.random.default_rng
    with caplog.at_level(logging.INFO, logger="smartdpp"):
        all_others = NovelSelect(neighbors=39).select(pool, 5, draw(3))
        assert caplog.text == ""
        more = NovelSelect(neighbors=400).select(pool, 5, draw(3))
    assert np.array_equal(all_others.index, more.index)
    assert "neighbors is 400: all 39 other rows of the pool" in caplog.text


def test_density_by_clusters_is_near_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    features = novelselect.Features(X)
    V = features.whole(novelselect._single()).numpy()
    exact = novelselect.density(features, V, 10)
    monkeypatch.setattr(novelselect, "EXACT", 100)
    off = np.abs(novelselect.density(features, V, 10) / exact - 1)
    assert 0 < off.max() < 0.3
    assert np.quantile(off, 0.99) < 0.05


@pytest.mark.parametrize("strategy", [KMeansQuality(clusters=4, restarts=20), Qdit(), Gist()])
def test_what_weighs_quality_needs_one_and_says_when_it_decides_nothing(
    strategy: Strategy, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InputError, match="needs a quality, but there is none"):
        select(strategy, replace(pool_of(), quality=None), 5)
    with caplog.at_level(logging.WARNING, logger="smartdpp"):
        select(strategy, replace(pool_of(), quality=np.ones(40)), 5)
    assert "the same for every example" in caplog.text


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"strategy\.epsilon is 2"):
        Gist(epsilon=2)
    with pytest.raises(InputError, match=r"strategy\.temperature is 0"):
        KMeansQuality(temperature=0)


def test_features_that_are_not_finite_are_not_clustered() -> None:
    pool = pool_of()
    pool.X[3] = np.nan
    with pytest.raises(InputError, match="features of 1 examples are not finite"):
        select(KMeansRandom(), pool, 3)


def test_fewer_different_rows_than_clusters_are_fewer_clusters(caplog: pytest.LogCaptureFixture) -> None:
    X = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    with caplog.at_level(logging.INFO, logger="smartdpp"):
        found = kmeans(X, np.arange(12), 5, np.random.default_rng(0), iterations=9)
    assert sorted(found.sizes) == sorted(len(rows) for rows in found.rows)
    assert sum(found.sizes) == 12
    assert len(found.rows) <= 3
    assert "where 5 were asked for" in caplog.text


def test_gist_by_facility_location_covers_the_pool_with_rows_that_lie_apart() -> None:
    """For every distance the greedy order among rows far enough from those taken; the best of them by f."""
    pool, budget, weight = pool_of(3), 6, 3.0
    V = unit(pool.X)
    S = V @ V.T
    best, expected, gains = -np.inf, [], []
    for d in distances(0.05):
        reached, free, chosen, gain = np.zeros(len(V)), np.ones(len(V), bool), [], []
        while len(chosen) < budget and free.any():
            new = np.where(free, np.maximum(S - reached, 0).sum(1), -np.inf)
            j = int(new.argmax())
            chosen, gain = [*chosen, j], [*gain, new[j]]
            reached = np.maximum(reached, S[j])
            free &= ~(S[j] > 1 - d**2 / 2) if d else np.arange(len(V)) != j
        if len(chosen) < budget:
            break
        between = np.sqrt(2 - 2 * S[np.ix_(chosen, chosen)][~np.eye(budget, dtype=bool)].max())
        if (value := sum(gain) / len(V) + weight * between) > best:
            best, expected, gains = value, chosen, gain
    found = Gist(weight, 0.05, FacilityLocation).select(pool, budget, np.random.default_rng(0))
    assert found.index.tolist() == expected
    np.testing.assert_allclose(found.gain, gains, rtol=1e-5)
    assert expected != maximize(FacilityLocation(pool.X), budget).index.tolist()


def test_gist_adds_no_function_that_can_fall() -> None:
    with pytest.raises(InputError, match="must be monotone"):
        Gist(function=LogDet)


def test_a_round_gives_clusters_shares_by_the_exponential_of_how_far_answers_are_behind() -> None:
    """Of 40 rows 8 are chosen, 2 of each cluster. The means of the gaps are 1, 0 and ln 2, and of the first
    cluster, of which nothing is known, their mean 0.564: of 16 more e, 1, 2 and 1.758 parts of 7.476, which
    are 5.8, 2.1, 4.3 and 3.8. Rounded down, the two that are left over go to the heaviest: 6, 2, 5, 3. The
    first cluster has one row left; the next two go to the heaviest with room, as the second has six."""
    pool, rounds = pool_of(), KMeansRounds(clusters=4, restarts=20)
    first = rounds.select(pool, 8, np.random.default_rng(1)).index
    assert np.bincount(CLUSTER[first]).tolist() == [2, 2, 2, 2]
    gap = np.full(40, np.nan)
    for cluster, values in ((1, (1.5, 0.5)), (2, (-3.0, 3.0)), (3, (np.log(2), np.nan))):
        gap[first[CLUSTER[first] == cluster]] = values
    gap[first[CLUSTER[first] == 0]] = np.nan
    after = replace(pool, start=first, gap=gap)
    second = rounds.select(after, 16, np.random.default_rng(1)).index
    counts = np.bincount(CLUSTER[second], minlength=4)
    assert not set(second) & set(first)
    assert counts.tolist() == [1, 6, 3, 6]
