"""Whether scores prefer the same ways of choosing, and whether a judge sees what the tasks' own rules see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr
from synthetic_runs import finished_run

from smartdpp.report.judged import orders, section
from smartdpp.study.orders import judged_and_scored, pairs
from smartdpp.study.results import collect

WAYS = ("random", "smart", "dpp", "oracle")


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """The task score follows the loss; the judge turns the order round under every seed but one."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(4):
        for i, way in enumerate(WAYS):
            better = i + 0.1 * rng.random()
            found.append(
                finished_run(
                    tmp_path,
                    f"{way}-{seed}",
                    strategy=way,
                    seed=seed,
                    loss=3 - 0.3 * better,
                    task_score=0.1 + 0.2 * better,
                    evaluations="judge",
                    **{
                        "judge/win_rate": 0.2 + 0.1 * (better if seed == 0 else -better),
                        "judge/judge_calls": 8,
                    },
                )
            )
    return found


def test_two_scores_agree_seed_by_seed_with_better_up_in_both(runs: list[Path]) -> None:
    results = collect(runs)
    found = {pair.scores: pair for pair in pairs(results)}
    assert set(found) == {
        ("loss", "task_score"),
        ("loss", "judge/win_rate"),
        ("task_score", "judge/win_rate"),
    }
    assert found["loss", "task_score"].kendall == [1.0] * 4
    judged = found["loss", "judge/win_rate"]
    assert (judged.kendall, judged.of_means, judged.ways) == ([1.0, -1.0, -1.0, -1.0], -1.0, 4)
    of_seed = results.table[results.table["seed"] == 2]
    for statistic, ours in ((kendalltau, judged.kendall[2]), (spearmanr, judged.spearman[2])):
        assert ours == pytest.approx(statistic(-of_seed["loss"], of_seed["judge/win_rate"]).statistic)
    (shown,) = orders(results)
    line = shown.blocks[0].frame.set_index("scores").loc["loss and win rate (judge)"]
    assert line["Kendall τ"].startswith("-0.50 ± 1.59")
    assert line["seeds"] == 4


def test_a_seed_that_lacks_a_way_and_two_ways_alone_make_no_order(runs: list[Path]) -> None:
    assert {len(pair.kendall) for pair in pairs(collect(runs[:-1]))} == {3}
    assert not list(pairs(collect([run for run in runs if run.name.startswith(("random", "smart"))])))


def test_a_score_that_is_the_same_for_all_ways_has_no_correlation(runs: list[Path]) -> None:
    for run in runs:
        file = run / "result.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"exact_match": 0.0}))
    (found,) = [pair for pair in pairs(collect(runs)) if pair.scores == ("loss", "exact_match")]
    assert (found.kendall, found.spearman, np.isnan(found.of_means)) == ([], [], True)
    assert "exact match" in orders(collect(runs))[0].blocks[0].frame["scores"].str.cat()


def test_runs_without_a_judge_are_not_ordered(tmp_path: Path) -> None:
    runs = [finished_run(tmp_path, way, strategy=way, task_score=0.1) for way in WAYS]
    assert orders(collect(runs)) == []


def test_the_judge_stands_beside_the_score_of_the_very_same_answers(tmp_path: Path) -> None:
    run = finished_run(tmp_path, evaluations="judge", win_rate=0.5, lc_win_rate=0.5, judge_calls=2)
    scores = tmp_path / "store" / "scores" / run.name

    def write(name: str, samples: list[dict]) -> None:
        (scores / name).parent.mkdir(exist_ok=True, parents=True)
        (scores / name).write_text("".join(json.dumps(one) + "\n" for one in samples))

    worth = [0.0, 0.2, 0.5, 1.0, 0.9]  # the last answer is another one here than there
    names = [{"task": "t", "id": str(i), "generation": f"answer {i}"} for i in range(5)]
    own = [one | {"task_score": score} for one, score in zip(names, worth, strict=True)]
    write("samples.jsonl", [*own[:4], own[4] | {"generation": "longer"}])
    said = [0.1, 0.5, 0.7, 0.9, 0.3]
    judged = [
        one | {"win_rate": rate, "reference": "right", "target": "right"}
        for one, rate in zip(names, said, strict=True)
    ]
    write("judge/samples.jsonl", judged)
    found = judged_and_scored(run, "judge")
    assert found is not None
    assert (found.answers, found.rho, found.worse) == (4, 1.0, 3)
    assert found.seen == pytest.approx((1 + 0.5 + 0) / 3)
    write("judge/samples.jsonl", [one | {"reference": "the base model's"} for one in judged])
    found = judged_and_scored(run, "judge")
    assert found is not None
    assert (found.worse, np.isnan(found.seen)) == (0, True)
    assert judged_and_scored(run, "elsewhere") is None
    write("judge/samples.jsonl", judged)
    write("samples.jsonl", [])
    assert [one.title for one in section(collect([run]))] == ["The judge"]
    write("other/samples.jsonl", own)
    assert judged_and_scored(run, "judge") is not None
