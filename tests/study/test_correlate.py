"""Correlations are scipy's, mixtures are what they count, and nothing is said where there is nothing to
say."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import finished_run

from smartdpp.study.correlations import (
    FEWEST,
    LENGTH,
    deciding,
    estimate,
    kendall,
    leave_one_out,
    partial,
    pearson,
    rank_measures,
    reading,
    spearman,
    within_budgets,
)
from smartdpp.study.results import collect

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def xyz():
    """Two variables that share a cause, with ties."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=30)
    return np.round(np.stack([z + rng.normal(size=30), z + rng.normal(size=30), z]), 1)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(pearson, stats.pearsonr), (spearman, stats.spearmanr), (kendall, stats.kendalltau)],
    ids=["r", "rho", "tau"],
)
def test_the_coefficients_are_scipys_on_every_sample(xyz, ours, theirs):
    draws = np.random.default_rng(1).integers(30, size=(20, 30))
    samples = xyz[:, draws].transpose(1, 0, 2)
    np.testing.assert_allclose(ours(samples), [theirs(s[0], s[1]).statistic for s in samples], atol=1e-12)


def test_a_constant_has_no_correlation():
    samples = np.array([[[1.0, 1, 1], [1, 2, 3], [3, 1, 2]]])
    for statistic in (pearson, spearman, kendall, partial):
        assert np.isnan(statistic(samples)).all()


def test_the_partial_correlation_is_that_of_residuals(xyz):
    more = np.vstack([xyz, np.random.default_rng(2).normal(size=30)])
    # the last: two that explain each other
    for variables in (xyz, more, np.vstack([more, more[2] + more[3]])):
        Z = np.column_stack([np.ones(30), variables[2:].T])
        x, y = (v - Z @ np.linalg.lstsq(Z, v, rcond=None)[0] for v in variables[:2])
        assert partial(variables[None])[0] == pytest.approx(stats.pearsonr(x, y).statistic)


@pytest.mark.parametrize("n", [8, 40])
def test_the_interval_covers_the_true_correlation_about_as_often_as_it_says(n):
    rng, covered = np.random.default_rng(0), 0
    draws = rng.integers(n, size=(300, n))
    for _ in range(200):
        x = rng.normal(size=n)
        found = estimate(pearson, np.stack([x, 0.6 * x + 0.8 * rng.normal(size=n)]), draws)
        covered += found.low <= 0.6 <= found.high
    assert 0.93 <= covered / 200 <= 0.99


@pytest.mark.parametrize(
    "statistic", [pearson, spearman, kendall, partial], ids=["r", "rho", "tau", "partial"]
)
def test_where_nothing_is_related_few_intervals_say_otherwise(statistic):
    rng, shown = np.random.default_rng(1), 0
    draws = rng.integers(8, size=(200, 8))
    for _ in range(200):
        found = estimate(statistic, np.exp(rng.normal(size=(3, 8))), draws, lost=int(statistic is partial))
        shown += not found.low <= 0 <= found.high
    assert shown / 200 <= 0.06


def test_the_interval_is_the_wider_of_fishers_and_the_percentiles():
    rng = np.random.default_rng(3)
    x = rng.normal(size=30)
    # resamples without any spread
    few = estimate(pearson, np.stack([x, x + rng.normal(size=30)]), np.tile(np.arange(30), (10, 1)))
    z, error = np.arctanh(few.value), 1.96 / np.sqrt(27)
    assert (few.low, few.high) == pytest.approx((np.tanh(z - error), np.tanh(z + error)), abs=1e-6)


def test_leaving_one_out_finds_the_run_that_carries_the_correlation():
    x = np.append(np.random.default_rng(0).normal(size=12), 50.0)
    low, high = leave_one_out(x, np.append(np.random.default_rng(1).normal(size=12), 50.0))
    assert low < 0.5 < 0.98 < high
    each = [stats.pearsonr(np.delete(x, i), np.delete(x, i) ** 2).statistic for i in range(13)]
    assert leave_one_out(x, x**2) == pytest.approx((min(each), max(each)))


def table_of(n, seed=0):
    rng = np.random.default_rng(seed)
    loss = rng.normal(size=n)
    return pd.DataFrame(
        {
            "label": "random",
            "seed": np.arange(n) % 5,
            "mixture_content": [f"m{i}" for i in range(n)],
            "loss": loss,
            "ldd": loss + 0.3 * rng.normal(size=n),
            "diversity_vendi": -loss + rng.normal(size=n),
            "diversity_radius": rng.normal(size=n),
            "diversity_coverage": 0.5,  # the same for all
            LENGTH: rng.normal(size=n),
            "tokens": rng.normal(size=n),
        }
    )


def test_measures_are_ranked_by_how_well_they_predict():
    ranking = rank_measures(table_of(25), "loss", given=[[LENGTH], [LENGTH, "tokens"], ["absent"]])
    assert list(ranking["measure"])[:2] == ["ldd", "diversity_vendi"]
    assert "diversity_coverage" not in set(ranking["measure"])
    first = ranking.iloc[0]
    assert first["pearson"].low < first["pearson"].value < first["pearson"].high
    assert not np.isnan(first[f"given {LENGTH}, tokens"].low)
    assert str(first["given absent"]) == ""
    length = ranking.set_index("measure").loc[LENGTH]
    assert str(length[f"given {LENGTH}"]) == ""  # nothing is left of it given itself
    assert not np.isnan(length["pearson"].value)
    assert rank_measures(table_of(5), "loss").empty


def test_a_correlation_that_one_unusual_strategy_makes_is_shown_as_that():
    rng = np.random.default_rng(0)
    strategy = np.repeat(["smart", "dpp", "random", "few_tasks"], 5)
    far = 10.0 * (strategy == "few_tasks")  # narrow and bad; the others differ by chance alone
    mixtures = [f"m{i}" for i in range(20)]
    table = pd.DataFrame(
        {
            "label": strategy,
            "seed": 0,
            "mixture_content": mixtures,
            "loss": far + rng.normal(size=20),
            "ldd": far + rng.normal(size=20),
        }
    )
    line = rank_measures(table, "loss").iloc[0]
    low, high = line["leave_one_strategy_out"]
    assert line["leave_one_out"][0] > 0.9
    assert low < 0.3 < 0.9 < high
    assert line["within"].low < 0 < line["within"].high
    without = table[strategy != "few_tasks"]
    assert low == pytest.approx(stats.pearsonr(without["ldd"], without["loss"]).statistic)
    centred = table[["ldd", "loss"]] - table.groupby("label")[["ldd", "loss"]].transform("mean")
    assert line["within"].value == pytest.approx(stats.pearsonr(centred["ldd"], centred["loss"]).statistic)


def test_where_seeds_are_worlds_of_their_own_r_within_them_decides():
    rng, tables = np.random.default_rng(0), []
    for world in range(6):  # harder worlds are less diverse; in each, the more diverse mixture is the better
        ldd = rng.normal(size=8)
        tables.append(
            pd.DataFrame(
                {
                    "label": [f"s{i}" for i in range(8)],
                    "seed": world,
                    "mixture_content": [f"{world}-{i}" for i in range(8)],
                    "ldd": ldd + 10 * world,
                    "loss": 0.5 * ldd + 0.3 * rng.normal(size=8) - 10 * world,
                }
            )
        )
    line = rank_measures(pd.concat(tables), "loss", ["ldd"]).iloc[0]
    each = [np.arctanh(stats.pearsonr(one["ldd"], one["loss"]).statistic) for one in tables]
    half = stats.sem(each) * stats.t.ppf(0.975, 5)
    found = line["within_seeds"]
    assert (found.value, found.low, found.high) == pytest.approx(
        tuple(np.tanh([np.mean(each), np.mean(each) - half, np.mean(each) + half]))
    )
    assert line["seeds"] == 6
    assert reading("ldd", line["pearson"], lower_is_better=True) == "worse"
    assert reading("ldd", deciding(line), lower_is_better=True) == "better"
    few = rank_measures(pd.concat(tables[:4]), "loss", ["ldd"]).iloc[0]
    assert deciding(few) == few["pearson"]


def test_seeds_with_three_mixtures_have_no_correlation_of_their_own():
    line = rank_measures(table_of(15), "loss", ["ldd"]).iloc[0]
    assert (str(line["within_seeds"]), line["seeds"]) == ("", 0)


def test_two_strategies_are_too_few_to_leave_one_out():
    table = table_of(20).assign(label=["smart", "random"] * 10)
    line = rank_measures(table, "loss").iloc[0]
    assert np.isnan(line["leave_one_strategy_out"]).all()
    assert str(line["within"]) == ""


def test_a_reading_needs_an_interval_without_zero():
    ranking = rank_measures(table_of(25), "loss").set_index("measure")["pearson"]
    assert reading("ldd", ranking["ldd"], lower_is_better=True) == "better"  # closer to uniform, lower loss
    assert reading("ldd", ranking["ldd"], lower_is_better=False) == "worse"
    assert reading("diversity_vendi", ranking["diversity_vendi"], lower_is_better=True) == "better"
    assert reading("diversity_radius", ranking["diversity_radius"], lower_is_better=True) == "nothing shown"
    assert reading(LENGTH, ranking[LENGTH], lower_is_better=True) == ""


def test_runs_are_compared_within_a_budget_with_a_warning_where_they_are_few(tmp_path):
    rng = np.random.default_rng(0)
    for budget, seeds in ((40, 8), (80, 3)):
        for seed in range(seeds):
            d = rng.random()
            finished_run(
                tmp_path,
                f"r{budget}-{seed}",
                budget=budget,
                seed=seed,
                loss=2 + d,
                curve=(0.1, d),
                mean_response_tokens=9 + rng.random(),
            )
    groups = list(within_budgets(collect(sorted((tmp_path / "runs").iterdir())), "loss"))
    assert [(group.where["budget"], len(group.runs)) for group in groups] == [(40, 8), (80, 3)]
    assert groups[0].ranking.iloc[0]["measure"] == "ldd"
    assert groups[0].ranking.iloc[0]["pearson"].value == pytest.approx(1)
    assert "n = 8 mixtures are few" in groups[0].warning
    assert groups[1].ranking.empty
    assert groups[1].warning == "n = 3 mixtures, too few to say anything."


def seeds_of(mixtures, seeds, rng):
    """Runs of deterministic strategies: every seed of one trains on the same mixture; nothing is related."""
    table = pd.DataFrame({"ldd": rng.normal(size=mixtures), "own": rng.normal(size=mixtures)})
    table = table.assign(
        label=[f"s{i}" for i in range(mixtures)], mixture_content=[f"m{i}" for i in range(mixtures)]
    )
    table = table.loc[table.index.repeat(seeds)].reset_index(drop=True)
    table = table.assign(seed=np.tile(np.arange(seeds), mixtures))
    return table.assign(loss=table["own"] + 0.3 * rng.normal(size=len(table)))


def test_the_seeds_of_one_mixture_are_one_point():
    table = seeds_of(7, 5, np.random.default_rng(0))
    line = rank_measures(table, "loss", ["ldd"]).iloc[0]
    assert (line["n"], line["runs"]) == (7, 35)
    means = table.groupby("mixture_content")[["ldd", "loss"]].mean()
    assert line["pearson"].value == pytest.approx(stats.pearsonr(means["ldd"], means["loss"]).statistic)
    each = [stats.pearsonr(*means.drop(m).to_numpy().T).statistic for m in means.index]
    assert line["leave_one_out"] == pytest.approx((min(each), max(each)))
    assert rank_measures(seeds_of(FEWEST - 1, 5, np.random.default_rng(0)), "loss").empty


def test_seeds_do_not_make_a_correlation_where_nothing_is_related():
    rng, readings = np.random.default_rng(0), []
    for _ in range(100):
        readings.append(
            reading(
                "ldd", rank_measures(seeds_of(7, 5, rng), "loss", ["ldd"], (), 200).iloc[0]["pearson"], True
            )
        )
    assert sum(said != "nothing shown" for said in readings) <= 8  # resampling runs: 43


def test_a_measure_that_is_the_same_for_all_is_no_predictor_however_means_round():
    table = seeds_of(7, 3, np.random.default_rng(0)).assign(diversity_radius=0.1).drop(index=[0, 4])
    assert list(rank_measures(table, "loss", ["ldd", "diversity_radius"])["measure"]) == ["ldd"]


def test_warnings_count_mixtures(tmp_path):
    rng = np.random.default_rng(0)
    for mixture in range(5):
        d = rng.random()
        for seed in range(4):
            loss = 2 + rng.random()
            finished_run(
                tmp_path,
                f"r{mixture}-{seed}",
                strategy=f"s{mixture}",
                seed=seed,
                loss=loss,
                curve=(d,),
                mixture_content=f"{mixture}",
            )
    (group,) = within_budgets(collect(sorted((tmp_path / "runs").iterdir())), "loss")
    assert group.ranking.empty
    assert group.warning == "n = 5 mixtures (20 runs), too few to say anything."
