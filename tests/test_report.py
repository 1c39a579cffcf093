"""The report says what the files say, with n and intervals, and works on whatever part of a sweep is there."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, t
from synthetic_runs import finished_run, put

from smartdpp.gather import collect, settings
from smartdpp.report import main

pytestmark = pytest.mark.filterwarnings("error")


def report(out: Path) -> str:
    return (out / "report.md").read_text()


def section(text: str, title: str) -> str:
    return re.search(rf"## {title}.*?(?=\n## |\Z)", text, re.DOTALL)[0]


def lines(table: str) -> list[dict[str, str]]:
    """A Markdown table's rows."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line.startswith("|") and "---" not in line
    ]
    return [dict(zip(rows[0], row, strict=False)) for row in rows[1:]]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two strategies, three seeds, made-up losses; LDD curves of different lengths."""
    rng = np.random.default_rng(0)
    for i, strategy in enumerate(("smart", "random")):
        for seed in range(3):
            curve = tuple(np.linspace(0.1, 0.2 + 0.1 * i, 5 + seed) + rng.normal(0, 0.01))
            finished_run(
                tmp_path,
                f"{strategy}-{seed}",
                strategy=strategy,
                seed=seed,
                loss=2 + 0.2 * i + 0.01 * seed**2,
                curve=curve,
                mean_response_tokens=9 + rng.random(),
            )
    return tmp_path


def test_the_leaderboard_gives_mean_and_t_interval_over_seeds_best_first(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep / "runs"), "--out", str(sweep / "out")]) == 0
    rows = lines(section(report(sweep / "out"), "Results"))
    half = t.ppf(0.975, 2) * np.std([2, 2.01, 2.04], ddof=1) / np.sqrt(3)
    assert [(row["strategy"], row["seeds"], row["loss (nats/token)"]) for row in rows] == [
        ("smart", "3", f"{np.mean([2, 2.01, 2.04]):.3f} ± {half:.3f}"),
        ("random", "3", f"{np.mean([2.2, 2.21, 2.24]):.3f} ± {half:.3f}"),
        ("base model, not finetuned", "", "4.000"),
    ]
    assert {(row["selection (s)"], row["run (s)"]) for row in rows[:2]} == {("1.5", "62")}
    assert "2 held-out tasks (50 documents)" in report(sweep / "out")
    assert str(sweep / "out") in capsys.readouterr().out


def test_differences_are_paired_by_seed(sweep: Path) -> None:
    (sweep / "runs" / "random-2" / "result.json").unlink()  # this seed has no pair now
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    (row,) = lines(section(report(sweep / "out"), "Against random"))
    assert (row["pairs"], row["Δ loss (nats/token)"], row["loss: reading"]) == ("2", "-0.200 ± 0.000", "no claim from 2 seeds")
    assert "One or two seeds carry no claim." in report(sweep / "out")


@pytest.mark.parametrize(("shift", "reading"), [(-0.3, "better"), (0.3, "worse"), (0.0, "no difference shown")])
def test_three_pairs_are_read_by_their_interval(tmp_path: Path, shift: float, reading: str) -> None:
    for seed, noise in enumerate((-0.02, 0.0, 0.03)):
        finished_run(tmp_path, f"r{seed}", strategy="random", seed=seed, loss=2.0)
        finished_run(tmp_path, f"s{seed}", seed=seed, loss=2.0 + shift + noise)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    (row,) = lines(section(report(tmp_path / "out"), "Against random"))
    assert (row["pairs"], row["loss: reading"]) == ("3", reading)


def test_the_full_pool_is_compared_at_every_budget(tmp_path: Path) -> None:
    for budget in (40, 80):
        finished_run(tmp_path, f"r{budget}", strategy="random", budget=budget, loss=2 - budget / 100)
    finished_run(tmp_path, "full", strategy="full", budget=None, loss=1.0)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    rows = lines(section(report(tmp_path / "out"), "Against random"))
    assert [(row["strategy"], row["budget (examples)"], row["Δ loss (nats/token)"]) for row in rows] == [
        ("full", "40", "-0.600"),
        ("full", "80", "-0.200"),
    ]


def test_diversity_is_read_at_one_n_within_a_budget(sweep: Path) -> None:
    table = collect([sweep / "runs" / f"smart-{seed}" for seed in range(3)]).table
    curves = [json.loads((sweep / "store" / "diversity" / f"smart-{seed}" / "diversity.json").read_text())["curve"] for seed in range(3)]
    assert list(table["ldd_n"]) == [5, 5, 5]
    assert list(table["ldd"]) == pytest.approx([curve[4] for curve in curves])


def test_correlations_need_six_runs_in_a_budget(sweep: Path) -> None:
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    row = {row["measure"]: row for row in lines(section(report(sweep / "out"), "Diversity against performance"))}[
        "log determinant distance"
    ]
    table = pd.read_csv(sweep / "out" / "results.csv")
    assert (row["n runs"], row["n strategies"]) == ("6", "2")
    assert row["Pearson r"].startswith(f"{pearsonr(table['ldd'], table['loss']).statistic:+.2f}")
    (sweep / "runs" / "smart-0" / "result.json").unlink()
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    assert "n = 5, too few runs to say anything." in section(report(sweep / "out"), "Diversity against performance")


def test_the_partial_correlation_is_the_textbook_one(sweep: Path) -> None:
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    row = {row["measure"]: row for row in lines(section(report(sweep / "out"), "Diversity against performance"))}[
        "log determinant distance"
    ]
    table = pd.read_csv(sweep / "out" / "results.csv")
    r = np.corrcoef(table[["ldd", "loss", "mean_response_tokens"]].T)
    partial = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert row["Pearson r given mean response length"].startswith(f"{partial:+.2f} (")


def test_any_logged_column_can_be_controlled_for(sweep: Path) -> None:
    from smartdpp.errors import InputError
    from smartdpp.report import write
    from smartdpp.study import Cell, Wanted

    found = [Cell((run.name,), run, "done") for run in sorted((sweep / "runs").iterdir())]
    text, _ = write(found, Wanted("x", given=("train_seed",)), sweep / "out")
    rows = lines(section(text, "Diversity against performance"))
    assert all("Pearson r given train_seed" in row for row in rows)
    assert rows[0]["Pearson r given train_seed"]
    with pytest.raises(InputError, match=r"report.given names colour, which no run logged"):
        write(found, Wanted("x", given=("colour",)), sweep / "out")


def test_settings_are_what_differs_apart_from_seeds() -> None:
    def run(strategy: str, budget: int, seed: int, **config: object) -> tuple[dict, dict]:
        return {"budget": budget, "seed": seed, "root": f"/{seed}", **config}, {
            "strategy": strategy,
            "model": "tiny",
            "budget": budget,
            "tracker": str(seed),
        }

    runs = [
        run("smart", 40, 0, **{"strategy.num_tasks": 4, "strategy.temperature": 1.0, "recipe.rank": 16}),
        run("smart", 40, 1, **{"strategy.num_tasks": 8, "strategy.temperature": 1.0, "recipe.rank": 16}),
        run("dpp", 40, 0, **{"strategy.gamma": 1.0, "strategy.temperature": 3.0, "recipe.rank": 16}),
    ]
    found = settings(*map(list, zip(*runs, strict=True)))
    assert list(found) == ["strategy", "strategy.num_tasks"]  # temperature is another parameter in another strategy
    assert "budget" in settings(*map(list, zip(*runs, run("dpp", 80, 0), strict=True)))


def test_parameters_of_a_strategy_are_rows_of_their_own(tmp_path: Path) -> None:
    for num_tasks in (4, 8):
        config = {"strategy": {"num_tasks": num_tasks, "tasks": {"lam": 0.4}}}
        finished_run(tmp_path, f"smart-{num_tasks}", config=config, loss=2 + num_tasks / 10)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    rows = lines(section(report(tmp_path / "out"), "Results"))
    assert [(row["strategy.num_tasks"], row["seeds"]) for row in rows[:2]] == [("4", "1"), ("8", "1")]
    assert "One seed: no interval." in report(tmp_path / "out")
    assert list(pd.read_csv(tmp_path / "out" / "results.csv")["label"]) == ["smart, num_tasks=4", "smart, num_tasks=8"]


def test_every_finished_run_is_one_flat_row(sweep: Path) -> None:
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    table = pd.read_csv(sweep / "out" / "results.csv")
    for row in table.to_dict("records"):
        original = json.loads((sweep / "runs" / row["run"] / "result.json").read_text())
        assert all(row[key] == value for key, value in original.items() if value is not None)
    shares = pd.read_csv(sweep / "out" / "tasks.csv")
    assert len(shares) == 6 * 3
    assert shares.groupby("run")["share"].sum().tolist() == pytest.approx([1] * 6)


def test_unfinished_and_failed_runs_are_listed_with_their_first_error_line(sweep: Path) -> None:
    put(sweep / "runs" / "broken" / "error.txt", "InputError: a | b <i>c</i>\nTraceback\n")
    put(sweep / "runs" / "stopped" / ".hydra" / "config.yaml", "budget: 3")
    assert main([str(sweep / "runs"), "--out", str(sweep / "out")]) == 0
    text = section(report(sweep / "out"), "Cells")
    assert "8 cells: 6 done, 1 failed, 1 unfinished." in text
    assert r"| broken | failed | InputError: a \| b \<i\>c\</i\> |" in text
    assert "| stopped | unfinished |" in text
    assert "Traceback" not in text


def test_one_run_is_reported_in_its_own_folder(tmp_path: Path) -> None:
    run = finished_run(tmp_path, loss_change=-2.0, loss_change_low=-2.2, loss_change_high=-1.8)
    assert main([str(run)]) == 0
    assert {path.name for path in (run / "report").iterdir()} == {
        "report.md", "results.csv", "tasks.csv", "task_shares.png", "heldout.png", "diversity.png"
    }  # fmt: skip
    text = report(run / "report")
    assert "- loss (nats/token): -2.000 (-2.200 to -1.800)" in text
    assert lines(section(text, "Held-out tasks"))[0] == {"task": "gcd", "base model": "4.500", "smart": "2.000"}
    for figure in re.findall(r"\]\((.*?)\)", text):
        assert (run / "report" / figure).is_file()


def test_result_json_alone_is_enough(tmp_path: Path) -> None:
    for seed in range(2):
        run = finished_run(tmp_path, f"r{seed}", seed=seed)
        (run / "artifacts.json").unlink()
        (run / ".hydra" / "config.yaml").unlink()
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert lines(section(report(tmp_path / "out"), "Results"))[0]["LDD (nats/example)"] == "0.300"


def test_a_task_name_stays_literal_in_the_tables(tmp_path: Path) -> None:
    name = "a|b ![x](http://x) {{ 7*7 }} ${oc.env:HOME}"
    run = finished_run(tmp_path, **{f"loss/{name}": 2.0})
    main([str(run)])
    assert r"a\|b \!\[x\](http://x) {{ 7\*7 }} ${oc.env:HOME}" in report(run / "report")


def test_a_study_is_reported_from_its_yaml_before_during_and_after(tmp_path: Path) -> None:
    from smartdpp.study import cells

    study = tmp_path / "experiments" / "small.yaml"
    put(
        study,
        "defaults: [config, _self_]\nhydra: {mode: MULTIRUN, sweeper: {params: {strategy: 'random,equal'}}}\nreport: {title: Small}\n",
    )
    arguments, out = [str(study), f"root={tmp_path}"], study.parent / "results" / "small"
    assert main(arguments) == 0
    assert report(out).startswith("# Small\n")
    assert "2 cells: 2 missing." in report(out)
    assert str(tmp_path) not in report(out)
    finished_run(tmp_path, cells(study, arguments[1:])[1].path.name, strategy="equal")
    assert main(arguments) == 0
    assert "2 cells: 1 missing, 1 done." in report(out)
    assert "There is no finished run of random to compare with." in report(out)
    assert lines(section(report(out), "Results"))[0]["strategy"] == "equal"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nowhere", "nowhere: there is no such file or folder"),
        ("nowhere.yaml", "nowhere.yaml: there is no such file"),
        ("empty", "empty: no run in this folder"),
        ("note.txt", "note.txt is a file: give run folders, or a study's YAML"),
        ("strategy.yaml", "strategy.yaml is not a study"),
    ],
)
def test_what_cannot_be_reported_gets_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "note.txt", "hello")
    put(tmp_path / "strategy.yaml", "_target_: smartdpp.strategies.baselines.Random\n")
    assert main([str(tmp_path / what)]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1


def test_an_unwritable_folder_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "report.md")

    monkeypatch.setattr("smartdpp.report.write_text", full)
    assert main([str(finished_run(tmp_path))]) == 1
    assert capsys.readouterr().err == "error: cannot write report.md: No space left on device. Choose another folder with --out PATH\n"
