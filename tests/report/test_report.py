"""The report says what the files say, with n and intervals, and works on whatever part of a sweep is
there."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, t
from synthetic_runs import finished_run, put

from smartdpp.report import main
from smartdpp.study.results import collect
from smartdpp.study.settings import settings

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("undrawn")]


def report(out: Path) -> str:
    return (out / "report.md").read_text()


def section(text: str, title: str) -> str:
    return re.search(rf"## {title}.*?(?=\n## |\Z)", text, re.DOTALL)[0]


def lines(table: str) -> list[dict[str, str]]:
    """A Markdown table's rows."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in table.splitlines()
        if line.startswith("|") and "---" not in line
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


@pytest.mark.drawn
def test_the_leaderboard_gives_mean_and_t_interval_over_seeds_best_first(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sweep / "runs"), "--out", str(sweep / "out")]) == 0
    rows = lines(section(report(sweep / "out"), "Results"))
    half = t.ppf(0.975, 2) * np.std([2, 2.01, 2.04], ddof=1) / np.sqrt(3)
    assert [(row["strategy"], row["seeds"], row["loss (nats/token)"]) for row in rows] == [
        ("smart", "3", f"{np.mean([2, 2.01, 2.04]):.3f} ± {half:.3f}"),
        ("random", "3", f"{np.mean([2.2, 2.21, 2.24]):.3f} ± {half:.3f}"),
        ("base model, not finetuned", "", "4.000"),
    ]
    cost = lines(section(report(sweep / "out"), "Cost"))
    assert {(row["mixture (s)"], row["in all (s)"], row["peak memory (GiB)"]) for row in cost} == {
        ("1.5", "62", "2.50")
    }
    assert "2 held-out tasks (50 documents)" in report(sweep / "out")
    assert str(sweep / "out") in capsys.readouterr().out


def test_differences_are_paired_by_seed(sweep: Path) -> None:
    (sweep / "runs" / "random-2" / "result.json").unlink()  # this seed has no pair now
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    (row,) = lines(section(report(sweep / "out"), "Against random"))
    assert (row["pairs"], row["± over seeds"], row["reading"]) == (
        "2",
        "0.000",
        "no claim from 2 seeds: it needs 5",
    )
    assert row["Δ loss (nats/token)"].startswith("-0.200 ± ")
    assert (
        "A claim needs 5 seeds: from fewer, differences and their intervals are shown and nothing is claimed."
        in report(sweep / "out")
    )


@pytest.mark.parametrize(
    ("shift", "reading"),
    [
        (-0.3, "better"),
        (0.3, "worse"),
        (0.0, "no difference shown; 0.036 would show in 8 of 10 such studies"),
    ],
)
def test_five_pairs_are_read_by_their_interval(tmp_path: Path, shift: float, reading: str) -> None:
    for seed, noise in enumerate((-0.02, 0.0, 0.03, 0.01, -0.01)):
        finished_run(tmp_path, f"r{seed}", strategy="random", seed=seed, loss=2.0)
        finished_run(tmp_path, f"s{seed}", seed=seed, loss=2.0 + shift + noise)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    (row,) = lines(section(report(tmp_path / "out"), "Against random"))
    assert (row["pairs"], row["reading"]) == ("5", reading)


def test_four_pairs_are_no_claim_however_well_they_agree(tmp_path: Path) -> None:
    for seed in range(4):
        finished_run(tmp_path, f"r{seed}", strategy="random", seed=seed, loss=2.0)
        finished_run(tmp_path, f"s{seed}", seed=seed, loss=1.0 + seed / 1000)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    (row,) = lines(section(report(tmp_path / "out"), "Against random"))
    assert (row["p"], row["p (Holm)"], row["reading"]) == ("", "", "no claim from 4 seeds: it needs 5")
    assert row["Δ loss (nats/token)"].startswith("-0.998 ± ")
    assert "Fewer than 5 seeds" in section(report(tmp_path / "out"), "Results")


def test_ways_that_chose_the_same_mixtures_are_one_comparison(tmp_path: Path) -> None:
    """facility and graph_cut chose alike, and same chose as random does: two comparisons are left of four
    ways."""
    rng = np.random.default_rng(0)
    losses = {"random": 2.0, "facility": 1.9, "graph_cut": 1.9, "dpp": 1.95, "same": 2.0}
    for seed in range(5):
        noise = rng.normal(0, 0.03, 3)
        for name, loss in losses.items():
            chosen = {"graph_cut": "facility", "same": "random"}.get(name, name)
            own = noise[["random", "facility", "dpp"].index(chosen)]
            finished_run(
                tmp_path,
                f"{name}-{seed}",
                strategy=name,
                seed=seed,
                loss=loss + own,
                mixture_content=f"{chosen}{seed}",
            )
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    text = section(report(tmp_path / "out"), "Against random")
    rows = {row["strategy"]: row for row in lines(text)}
    assert rows["same"]["reading"] == "the same mixtures as random, no comparison"
    assert rows["same"]["p"] == ""
    assert {**rows["facility"], "strategy": ""} == {**rows["graph_cut"], "strategy": ""}
    assert float(rows["facility"]["p (Holm)"]) == pytest.approx(2 * float(rows["facility"]["p"]), rel=0.1)
    assert "1 of these ways chose the same mixtures as another one here, and count once." in text
    assert "corrected for all 2 comparisons" in text
    # two are too few for that
    assert "How much a way varies over seeds is estimated from all ways" not in text


def test_ways_tell_of_each_others_variance_over_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.05, (4, 5))
    noise[3] = noise[0] + [0.01, -0.01, 0.01, -0.01, 0]  # agrees with the baseline's by luck
    for name, own in zip(("random", "smart", "dpp", "lucky"), noise, strict=True):
        for seed in range(5):
            finished_run(tmp_path, f"{name}-{seed}", strategy=name, seed=seed, loss=2.0 + own[seed])
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    text = section(report(tmp_path / "out"), "Against random")
    rows = {row["strategy"]: row for row in lines(text)}
    assert float(rows["lucky"]["± over seeds"]) > 1.15 * 0.0124  # which is its t interval alone
    assert (
        "How much a way varies over seeds is estimated from all ways that are compared with the same runs"
        in text
    )


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


def test_the_full_pool_is_compared_at_every_budget_in_tokens(tmp_path: Path) -> None:
    for tokens in (400, 800):
        budget = {"budget": None, "budget_tokens": tokens}
        finished_run(tmp_path, f"r{tokens}", strategy="random", loss=2 - tokens / 1000, **budget)
    finished_run(tmp_path, "full", strategy="full", budget=None, loss=1.0)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    rows = lines(section(report(tmp_path / "out"), "Against random"))
    assert [(row["strategy"], row["budget (tokens)"], row["Δ loss (nats/token)"]) for row in rows] == [
        ("full", "400", "-0.600"),
        ("full", "800", "-0.200"),
    ]


def test_diversity_is_read_at_one_n_within_a_budget(sweep: Path) -> None:
    table = collect([sweep / "runs" / f"smart-{seed}" for seed in range(3)]).table
    curves = [
        json.loads((sweep / "store" / "diversity" / f"smart-{seed}" / "diversity.json").read_text())["curve"]
        for seed in range(3)
    ]
    assert list(table["ldd_n"]) == [5, 5, 5]
    assert list(table["ldd"]) == pytest.approx([curve[4] for curve in curves])


def test_correlations_need_six_runs_in_a_budget(sweep: Path) -> None:
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    row = {
        row["measure"]: row for row in lines(section(report(sweep / "out"), "Diversity against performance"))
    }["log determinant distance"]
    table = pd.read_csv(sweep / "out" / "results.csv")
    assert (row["n mixtures"], row["n runs"], row["n strategies"]) == ("6", "6", "2")
    assert row["Pearson r"].startswith(f"{pearsonr(table['ldd'], table['loss']).statistic:+.2f}")
    (sweep / "runs" / "smart-0" / "result.json").unlink()
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    assert "n = 5 mixtures, too few to say anything." in section(
        report(sweep / "out"), "Diversity against performance"
    )


@pytest.mark.parametrize("probe", ["gradient.Gradient", "tfidf.Tfidf"])
def test_the_vendi_score_of_gradients_is_called_g_vendi_and_nearness_to_a_query_is_shown(
    tmp_path: Path, probe: str
) -> None:
    for seed in range(6):
        finished_run(
            tmp_path,
            f"targeted-{seed}",
            strategy="targeted",
            seed=seed,
            loss=2 + 0.1 * seed,
            config={"probe": {"_target_": f"smartdpp.embedding.{probe}"}},
            diversity_vendi=3.0 - seed**2,
            query_coverage=0.5 + 0.1 * (seed % 2),
            targets_covered=1.0,
            mean_response_tokens=9.0 + seed % 3,
        )
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    text = report(tmp_path / "out")
    measures = {row["measure"]: row for row in lines(section(text, "Diversity against performance"))}
    assert ("Vendi score of gradients (G-Vendi)" in measures) == (probe == "gradient.Gradient")
    assert ("Vendi score" in measures) == (probe == "tfidf.Tfidf")
    assert measures["coverage of the query"]["more diverse is"] == ""
    row = lines(section(text, "Results"))[0]
    assert row["query coverage"].startswith("0.550 ±")
    assert row["targets covered"] == "1.000"


def test_the_partial_correlation_is_the_textbook_one(sweep: Path) -> None:
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    row = {
        row["measure"]: row for row in lines(section(report(sweep / "out"), "Diversity against performance"))
    }["log determinant distance"]
    table = pd.read_csv(sweep / "out" / "results.csv")
    r = np.corrcoef(table[["ldd", "loss", "mean_response_tokens"]].T)
    partial = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert row["Pearson r given mean response length"].startswith(f"{partial:+.2f} (")


def test_any_logged_column_can_be_controlled_for(sweep: Path) -> None:
    from smartdpp.errors import InputError
    from smartdpp.report import write
    from smartdpp.study.cells import Cell, Wanted

    found = [Cell((run.name,), run, "done") for run in sorted((sweep / "runs").iterdir())]
    text, *_ = write(found, Wanted("x", given=("train_seed",)), sweep / "out")
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
    # temperature is another parameter in another strategy
    assert list(found) == ["strategy", "strategy.num_tasks"]
    assert "budget" in settings(*map(list, zip(*runs, run("dpp", 80, 0), strict=True)))


def test_parameters_of_a_strategy_are_rows_of_their_own(tmp_path: Path) -> None:
    for num_tasks in (4, 8):
        config = {"strategy": {"num_tasks": num_tasks, "tasks": {"lam": 0.4}}}
        finished_run(tmp_path, f"smart-{num_tasks}", config=config, loss=2 + num_tasks / 10)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    rows = lines(section(report(tmp_path / "out"), "Results"))
    assert [(row["strategy.num_tasks"], row["seeds"]) for row in rows[:2]] == [("4", "1"), ("8", "1")]
    assert "One seed: no interval." in report(tmp_path / "out")
    assert list(pd.read_csv(tmp_path / "out" / "results.csv")["label"]) == [
        "smart, num_tasks=4",
        "smart, num_tasks=8",
    ]


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
    put(sweep / "runs" / "hot" / "error.txt", "Diverged: training diverged: the loss is nan at step 3 of 9\n")
    assert main([str(sweep / "runs"), "--out", str(sweep / "out")]) == 0
    text = section(report(sweep / "out"), "Cells")
    assert "9 cells: 6 done, 1 failed, 1 diverged, 1 unfinished." in text
    assert "| hot | diverged | Diverged: training diverged: the loss is nan at step 3 of 9 |" in text
    assert r"| broken | failed | InputError: a \| b \<i\>c\</i\> |" in text
    assert "| stopped | unfinished |" in text
    assert "Traceback" not in text


@pytest.mark.drawn
def test_one_run_is_reported_in_its_own_folder(tmp_path: Path) -> None:
    run = finished_run(tmp_path, loss_change=-2.0, loss_change_low=-2.2, loss_change_high=-1.8)
    assert main([str(run)]) == 0
    assert {path.name for path in (run / "report").iterdir()} == {
        "report.html", "report.md", "results.csv", "tasks.csv", "task_shares.png", "heldout.png", "diversity.png"  # noqa: E501
    }  # fmt: skip
    text = report(run / "report")
    assert "loss (nats/token): -2.000 (-2.200 to -1.800)" in text
    assert lines(section(text, "Held-out tasks"))[0] == {
        "task": "gcd",
        "base model": "4.500",
        "smart": "2.000",
    }
    for figure in re.findall(r"\]\((.*?)\)", text):
        assert (run / "report" / figure).is_file()


def test_result_json_alone_is_enough(tmp_path: Path) -> None:
    for seed in range(2):
        run = finished_run(tmp_path, f"r{seed}", seed=seed)
        (run / "artifacts.json").unlink()
        (run / ".hydra" / "config.yaml").unlink()
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert lines(section(report(tmp_path / "out"), "Results"))[0]["LDD (nats/example)"] == "0.300"


@pytest.mark.drawn
def test_a_task_name_stays_literal_in_the_tables(tmp_path: Path) -> None:
    name = "a|b ![x](http://x) {{ 7*7 }} ${oc.env:HOME}"
    run = finished_run(tmp_path, **{f"loss/{name}": 2.0})
    main([str(run)])
    assert r"a\|b \!\[x\](http://x) {{ 7\*7 }} ${oc.env:HOME}" in report(run / "report")


def small_study(root: Path, swept: str, report: str) -> Path:
    study = root / "experiments" / "small.yaml"
    put(
        study,
        f"defaults: [config, _self_]\nhydra: {{mode: MULTIRUN, sweeper: {{params: {{{swept}}}}}}}\n"
        f"report: {{{report}}}\n",
    )
    return study


@pytest.mark.drawn
def test_a_study_is_reported_from_its_yaml_before_during_and_after(tmp_path: Path) -> None:
    from smartdpp.study.cells import cells

    study = small_study(tmp_path, "strategy: 'random,equal'", "title: Small")
    arguments, out = [str(study), f"root={tmp_path}"], study.parent / "results" / "small"
    assert main(arguments) == 0
    assert report(out).startswith("# Small\n")
    assert "2 cells: 2 missing." in report(out)
    assert str(tmp_path) not in report(out)
    finished_run(tmp_path, cells(study, arguments[1:])[1].path.name, strategy="equal")
    assert main(arguments[::-1]) == 0  # overrides in front, as of studies side by side
    assert "2 cells: 1 done, 1 missing." in report(out)
    assert "There is no finished run of random to compare with." in report(out)
    assert lines(section(report(out), "Results"))[0]["strategy"] == "equal"


@pytest.mark.drawn
def test_a_page_says_what_its_study_was_given_beside_its_yaml(tmp_path: Path) -> None:
    from smartdpp.study.cells import cells

    study = small_study(tmp_path, "seed: '0,1', budget: '9,8'", "title: Small, quote: true")
    given = [f"root={tmp_path}", "report.quote=false", "budget=7", "pool.max_tokens=50", "model=tiny"]
    for cell in cells(study, given):
        finished_run(tmp_path, cell.path.name, strategy="smart")  # type: ignore[union-attr]
    assert main([str(study), *given]) == 0
    out = report(study.parent / "results" / "small")
    assert "- settings: budget=7, pool.max_tokens=50, model=tiny\n" in out
    assert str(tmp_path) not in out


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
def test_what_cannot_be_reported_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, message: str
) -> None:
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

    monkeypatch.setattr("smartdpp.report.compose.write_text", full)
    assert main([str(finished_run(tmp_path))]) == 1
    assert (
        capsys.readouterr().err
        == "error: cannot write report.md: No space left on device. Choose another folder with --out PATH\n"
    )


def page(out: Path) -> str:
    return (out / "report.html").read_text()


def write_report(runs: Path, out: Path, **wanted: object) -> None:
    from smartdpp.report import write
    from smartdpp.study.cells import Cell, Wanted

    write([Cell((run.name,), run, "done") for run in sorted(runs.iterdir())], Wanted("x", **wanted), out)


@pytest.mark.drawn
def test_a_prompt_with_a_script_stays_text(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script> {{ 7*7 }} {}"
    for seed in range(2):
        name = f"<b>task{seed}</b>"
        finished_run(
            tmp_path, f"r{seed}", seed=seed, prompts=hostile, selected={name: 5}, **{f"loss/{name}": 2.0}
        )
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    html = page(tmp_path / "out")
    assert html.count("<script>") == html.count("</script>") == 1
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; {{ 7*7 }} 0" in html
    assert "<b>task" not in html
    assert r"\</script\>\<script\>alert(1)" in report(tmp_path / "out")


@pytest.mark.drawn
def test_the_page_is_one_file_that_asks_for_nothing(sweep: Path) -> None:
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    html = page(sweep / "out")
    assert "default-src &#39;none&#39;" in html
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", html)
    assert html.count("<svg") == len(list((sweep / "out").glob("*.png"))) > 0


def test_differences_are_paired_by_document_and_corrected_for_their_number(tmp_path: Path) -> None:
    for seed, noise in enumerate((-0.01, 0.0, 0.02, 0.01, -0.005)):
        finished_run(tmp_path, f"r{seed}", strategy="random", seed=seed, loss=2.0)
        for name, shift in (("smart", -0.3), ("dpp", -0.035)):
            finished_run(tmp_path, f"{name}{seed}", strategy=name, seed=seed, loss=2.0 + shift + noise)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    smart, dpp = lines(section(report(tmp_path / "out"), "Against random"))
    assert float(smart["p (Holm)"]) == pytest.approx(2 * float(smart["p"]), rel=0.1)
    assert float(dpp["p (Holm)"]) == pytest.approx(float(dpp["p"]), rel=0.1)
    assert float(smart["± over documents"]) > 0
    half = float(smart["Δ loss (nats/token)"].split("±")[1])
    assert half > float(smart["± over documents"])
    assert "the 50 documents together" in report(tmp_path / "out")
    assert "corrected for all 2 comparisons" in report(tmp_path / "out")


def test_a_study_of_one_strategy_compares_with_its_first_setting(tmp_path: Path) -> None:
    for num_tasks in (4, 8):
        for seed in range(5):
            finished_run(
                tmp_path,
                f"m{num_tasks}-{seed}",
                seed=seed,
                loss=2 + num_tasks / 10,
                config={"strategy": {"num_tasks": num_tasks}},
            )
    write_report(tmp_path / "runs", tmp_path / "out", baseline="smart")
    (row,) = lines(section(report(tmp_path / "out"), "Against smart, num_tasks=4"))
    assert (row["strategy.num_tasks"], row["reading"]) == ("8", "worse")


def test_a_baseline_in_several_settings_is_paired_like_with_like(tmp_path: Path) -> None:
    for num_tasks in (4, 8):
        for strategy in ("smart", "random_tasks"):
            loss = 2 + num_tasks / 10 - 0.1 * (strategy == "smart")
            config = {"strategy": {"num_tasks": num_tasks}}
            finished_run(tmp_path, f"{strategy}{num_tasks}", strategy=strategy, loss=loss, config=config)
    write_report(tmp_path / "runs", tmp_path / "out", baseline=("random_tasks",))
    rows = lines(section(report(tmp_path / "out"), "Against random_tasks"))
    assert [row["Δ loss (nats/token)"] for row in rows] == ["-0.100", "-0.100"]


def test_two_baselines_are_compared_with_each_other_once(tmp_path: Path) -> None:
    for strategy, loss in (("smart", 2.0), ("random", 2.3), ("equal", 2.2)):
        for seed in range(5):
            finished_run(tmp_path, f"{strategy}-{seed}", strategy=strategy, seed=seed, loss=loss + seed / 100)
    write_report(tmp_path / "runs", tmp_path / "out", baseline=("random", "equal"))
    text = report(tmp_path / "out")
    assert {row["strategy"] for row in lines(section(text, "Against random"))} == {"smart", "equal"}
    assert {row["strategy"] for row in lines(section(text, "Against equal"))} == {"smart"}
    assert "corrected for all 3 comparisons" in text


def test_a_training_read_in_several_ways_is_compared_once(tmp_path: Path) -> None:
    """How diversity is measured changes no score: it makes panels, not comparisons, which Holm's correction
    would count."""
    for strategy, loss in (("smart", 2.0), ("dpp", 2.1), ("random", 2.2)):
        for gamma in (1, 10):
            for seed in range(5):
                name, config = f"{strategy}-g{gamma}-s{seed}", {"diversity": {"gamma": gamma}}
                finished_run(
                    tmp_path,
                    name,
                    strategy=strategy,
                    seed=seed,
                    loss=loss + 0.01 * seed**2,
                    curve=(0.1, 0.2 / gamma),
                    config=config,
                )
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    text = report(tmp_path / "out")
    assert [row["LDD (nats/example)"] for row in lines(section(text, "Results"))][:2] == ["0.200", "0.020"]
    against = section(text, "Against random")
    assert [row["strategy"] for row in lines(against)] == ["smart", "dpp"]
    assert "corrected for all 2 comparisons" in against
    assert "Dot plot of loss (nats/token) for 3 ways of choosing" in text
    assert "30 runs" in section(text, "Diversity against performance")
    assert "for each of 3 ways of choosing; 2 panels" in section(text, "Diversity against performance")
    assert len(lines(section(text, "Cost"))) == 3


def test_the_papers_numbers_stand_beside_the_rows_they_belong_to(sweep: Path) -> None:
    from smartdpp.study.cells import Paper

    values = ({"strategy": "random", "value": 27.1}, {"strategy": "top", "value": 30.9})
    paper = Paper("A. Author, 2024, table 1", "win rate (%)", values)
    write_report(sweep / "runs", sweep / "out", paper=paper)
    text = section(report(sweep / "out"), "Results")
    rows = {row["strategy"]: row["win rate (%) (the paper's)"] for row in lines(text)}
    assert (rows["smart"], rows["random"]) == ("not available", "27.1")
    assert "1 of its 2 values belong to no row that is finished here." in text
    assert 'class="number paper"' in page(sweep / "out")


def test_what_was_chosen_shows_tasks_examples_and_the_closest_pair(sweep: Path) -> None:
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    text = section(report(sweep / "out"), "What was chosen")
    assert "Seed 0: 40 of 150 examples, 2400 tokens, from 2 tasks." in text
    assert "| chain_sum | 30 | 75.0 | 33.3 |" in text
    assert "What is 0 + 0?" in text
    assert "| 1.000 | 3 and 6 |" in text  # rows 2 and 5 are copies


def test_no_row_is_quoted_where_the_study_or_a_run_says_so(sweep: Path) -> None:
    def chosen() -> str:
        text = report(sweep / "out")
        assert "What is 0 + 0?" not in text + page(sweep / "out")
        return section(text, "What was chosen")

    write_report(sweep / "runs", sweep / "out", quote=False)
    assert "| chain_sum | 30 | 75.0 | 33.3 |" in chosen()
    run = min((sweep / "runs").iterdir()) / ".hydra" / "config.yaml"
    run.write_text(f"{run.read_text()}report:\n  quote: false\n")
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    assert "as report.quote is false" in chosen()


def test_an_energy_that_was_logged_is_shown(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    main([str(run)])
    assert "Energy: not available" in report(run / "report")
    put(tmp_path / "store" / "scores" / run.name / "meta.json", {"energy_wh": 1.25, "peak_gpu_gib": 3.5})
    main([str(run)])
    (row,) = lines(section(report(run / "report"), "Cost"))
    assert (row["energy (Wh)"], row["peak GPU memory (GiB)"]) == ("1.25", "3.50")


def test_settings_that_are_lists_are_settings_as_any_other(tmp_path: Path) -> None:
    for others in ([], ["gcd"]):
        for strategy in ("smart", "random"):
            for seed in range(5):
                finished_run(
                    tmp_path,
                    f"{strategy}-{len(others)}-s{seed}",
                    strategy=strategy,
                    seed=seed,
                    loss=2 + 0.1 * seed + (strategy == "random") + len(others),
                    curve=(0.1, 0.1 * seed),
                    config={"corpus": {"others": others}},
                )
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    text = report(tmp_path / "out").replace("\\", "")  # brackets would be a link's
    assert {row["corpus.others"] for row in lines(section(text, "Results")) if row["seeds"]} == {
        "[]", "['gcd']",
    }  # fmt: skip
    against = lines(section(text, "Against random, seed by seed"))
    assert [(row["corpus.others"], row["pairs"], row["reading"]) for row in against] == [
        ("[]", "5", "better"), ("['gcd']", "5", "better"),
    ]  # fmt: skip
    assert "Diversity against performance" in text


def test_settings_in_which_cells_differ_are_listed(sweep: Path) -> None:
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    rows = lines(section(report(sweep / "out"), "Configuration"))
    assert {"setting": "strategy", "values (runs)": "random (3), smart (3)"}.items() <= rows[0].items()


def test_the_share_of_the_oracles_gain_is_told_where_there_is_an_oracle(tmp_path: Path) -> None:
    for seed, noise in enumerate((-0.02, 0.0, 0.03, 0.01, -0.01)):
        for strategy, loss in (("random", 2.0), ("oracle", 1.6), ("dpp", 1.8)):
            finished_run(
                tmp_path,
                f"{strategy}{seed}",
                strategy=strategy,
                seed=seed,
                loss=loss + noise * len(strategy) / 6,
            )
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    (row,) = lines(section(report(tmp_path / "out"), "Share of the oracle's gain"))
    assert (row["strategy"], row["seeds"], row["share of the oracle's"]) == ("dpp", "5", "50 %")
    low, high = re.fullmatch(r"(\d+) to (\d+) %", row["95 % interval"]).groups()
    assert int(low) < 50 < int(high)


def test_without_an_oracle_nothing_is_said_of_one(sweep: Path) -> None:
    main([str(sweep / "runs"), "--out", str(sweep / "out")])
    assert "oracle" not in report(sweep / "out")


def test_settings_that_follow_the_seed_are_worlds_and_no_settings() -> None:
    configs = [{"corpus.seed": seed, "corpus.per_family": 9, "strategy.seed": 5} for seed in (0, 1)]
    rows = [{"strategy": "random", "budget": 3, "corpus": "arena", "seed": seed} for seed in (0, 1)]
    assert list(settings(configs, rows)) == ["strategy"]
    rows[1]["seed"] = 7
    assert list(settings(configs, rows)) == ["strategy", "corpus.seed"]


@pytest.mark.drawn
def test_runs_whose_evaluations_have_no_metric_in_common_share_a_report(tmp_path: Path) -> None:
    """Two that were judged, beside two that have a loss: what has no loss is not compared by it."""
    for evaluation in ("heldout", "judge"):
        for strategy in ("random", "smart"):
            names = {"evaluation": evaluation}
            run = finished_run(tmp_path, f"{strategy}-{evaluation}", strategy=strategy, names=names)
            if evaluation == "judge":
                row = json.loads((run / "result.json").read_text())
                put(run / "result.json", row | {"loss": None, "win_rate": 0.4, "score_metric": "win_rate"})
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    compared = lines(section(report(tmp_path / "out"), "Against random, seed by seed"))
    assert [line["evaluation"] for line in compared] == ["heldout"]


def test_a_study_that_is_there_twice_is_named_by_what_tells_its_mentions_apart() -> None:
    from smartdpp.report.command import _distinct

    noise, skew = Path("a/noise.yaml"), Path("a/skew.yaml")
    all_of = ["root=x"]
    thrice = [
        (noise, [*all_of, "pool.share=0.7"]),
        (skew, list(all_of)),
        (noise, [*all_of, "pool.share=0.3", "way=random"]),
    ]
    assert _distinct(thrice) == ["noise, share 0.7", "skew", "noise, share 0.3"]
    thrice[2] = (noise, [*all_of, "pool.share=0.7", "way=random"])
    assert _distinct(thrice) == ["noise", "skew", "noise, way random"]
    thrice[1] = (noise, [*all_of, "pool.share=0.3", "way=random,dpp"])
    thrice[2] = (noise, [*all_of, "pool.share=0.7", "pool.of=family", "way=random,dpp"])
    assert _distinct(thrice) == ["noise, share 0.7", "noise, share 0.3", "noise, share 0.7, of family"]
