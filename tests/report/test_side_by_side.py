"""Several studies side by side: the share of the oracle's gain of every way in every setting."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from smartdpp.report.command import main
from smartdpp.study.cells import cells
from tests.synthetic_runs import finished_run, put

pytestmark = pytest.mark.usefixtures("undrawn")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
GAINS = {"random": 0.0, "oracle": 0.8, "dpp": 0.4, "submodular": 0.0}
STRATEGY = {"dpp_minilm": "dpp", "facility_location": "submodular"}
WORLDS = "seed=0,1,2,3,4"


def finish(name: str, overrides: list[str], root: Path, ability: float | None = 5.0) -> list[Path]:
    """Makes runs of a study's cells: the same ways, gains and noise in each; ``ability``: what the oracle
    adds to own over other."""
    made = []
    for cell in cells(EXPERIMENTS / f"{name}.yaml", overrides):
        chosen = dict(word.split("=", 1) for word in cell.overrides)
        way, seed = chosen.get("way"), int(chosen["seed"])
        strategy = STRATEGY.get(way or "", way or chosen.get("strategy", ""))
        noise = np.random.default_rng([seed, *strategy.encode()]).normal(0, 0.03)
        measured = {
            "blind_loss": 6.0,
            "own_over_other_base": 10.0,
            "own_over_other": 10 + (ability or 0) + noise,
        }
        run = finished_run(
            root,
            cell.path.name,  # type: ignore[union-attr]
            strategy=strategy,
            seed=seed,
            loss=3.0 - GAINS[strategy] + 0.2 * seed + noise,
            names={"way": way} if way else {},
            config={"corpus": {"others": [] if way else ["gcd"], "per_target": 88 if way else 10}},
            **(measured if ability is not None else {}),
        )
        made.append(run)
    return made


def needle_at_two_budgets(root: Path) -> tuple[list[Path], list[str]]:
    """The finished runs, and the command line of their study beside one that was never begun."""
    of_all, ways, made = [f"root={root}", WORLDS], "strategy=random,oracle,dpp", []
    for budget in (20, 40):
        for run in finish("needle", [*of_all, ways, f"budget={budget}"], root):
            put(run / "result.json", json.loads((run / "result.json").read_text()) | {"budget": budget})
            made.append(run)
    what = [str(EXPERIMENTS / "needle.yaml"), ways, "budget=20,40", str(EXPERIMENTS / "skew.yaml")]
    return made, [*of_all, *what, f"--out={root / 'out'}"]


def words(root: Path) -> list[str]:
    """The command line of two studies in ``root``, with a few of their ways."""
    needle, skew = "strategy=random,oracle,dpp", "way=random,oracle,dpp_minilm,facility_location"
    what = [str(EXPERIMENTS / "needle.yaml"), needle, str(EXPERIMENTS / "skew.yaml"), skew]
    return [f"root={root}", WORLDS, *what, f"--out={root / 'out'}"]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    of_all, needle, needles, skew, skews = (w for w in words(root)[1:-1] if w)
    finish(Path(needle).stem, [f"root={root}", of_all, needles], root)
    finish(Path(skew).stem, [f"root={root}", of_all, skews], root)
    assert main(words(root)) == 0
    return root / "out"


def rows(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (out / "leaderboard.csv").open() as file:
        return {(row["way"], row["setting"]): row for row in csv.DictReader(file)}


def test_a_way_of_two_studies_is_one_row_with_its_share_in_each(studies: Path) -> None:
    found = rows(studies)
    assert list(dict.fromkeys(way for way, _ in found)) == ["oracle", "dpp_minilm", "facility_location"]
    for setting in ("needle", "skew"):
        row = found["dpp_minilm", setting]
        assert float(row["share"]) == pytest.approx(0.5, abs=0.1)
        assert float(row["share_low"]) < 0.5 < float(row["share_high"])
        assert float(row["p_holm"]) < 0.05
        assert row["worlds"] == "5"
        noises = [
            [np.random.default_rng([seed, *way.encode()]).normal(0, 0.03) for seed in range(5)]
            for way in ("dpp", "random")
        ]
        assert float(row["sd_over_worlds"]) == pytest.approx(np.std(np.subtract(*noises), ddof=1))
    assert float(found["facility_location", "skew"]["p_holm"]) > 0.05
    page = (studies / "leaderboard.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("| facility_location |")]
    assert line.split("|")[2].strip() == ""  # not run in needle
    assert line.rstrip("| ").endswith("○")
    assert "needle: 5 worlds that all ways finished" in page
    assert "would be shown in 8 of 10 such studies after correction" in page
    assert "Used: choosing by the truth raises own over other by +5.0" in page
    assert (studies / "leaderboard.png").stat().st_size > 10_000


def test_worlds_that_some_ways_have_not_finished_are_left_out_and_named(
    studies: Path, tmp_path: Path
) -> None:
    for part in ("runs", "store"):
        shutil.copytree(studies.parent / part, tmp_path / part)
    for folder in (tmp_path / "runs").iterdir():
        row = json.loads((folder / "result.json").read_text())
        if row["seed"] == 4 and row["strategy"] == "oracle" and "way" in row:
            (folder / "result.json").unlink()
    assert main(words(tmp_path)) == 0
    found, page = rows(tmp_path / "out"), (tmp_path / "out" / "leaderboard.md").read_text()
    assert {found[way, "skew"]["worlds"] for way in ("oracle", "dpp_minilm", "facility_location")} == {"4"}
    assert found["oracle", "needle"]["worlds"] == "5"
    assert "Left out, as not all ways have finished: worlds 4." in page


def test_a_way_that_finished_in_no_world_keeps_its_part_out_and_is_named(tmp_path: Path) -> None:
    made, command = needle_at_two_budgets(tmp_path)
    for run in made:
        row = json.loads((run / "result.json").read_text())
        if row["budget"] == 20 and row["strategy"] == "dpp":
            (run / "result.json").unlink()
    assert main(command) == 0
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    assert {setting for _, setting in rows(tmp_path / "out")} == {"needle"}
    assert (
        "needle: not in the table: budget=20 has no world that all ways finished (strategy=dpp in none: "
        "leave what is not to be compared out); of its cells 25 done, 5 unfinished." in page
    )


def test_each_part_of_a_study_is_a_family_of_comparisons_of_its_own(tmp_path: Path) -> None:
    _, command = needle_at_two_budgets(tmp_path)
    assert main(command) == 0
    found = rows(tmp_path / "out")
    assert len(found) == 4
    for row in found.values():
        assert float(row["p"]) <= float(row["p_holm"]) <= 2 * float(row["p"]) * (1 + 1e-9)


def test_a_baseline_that_nothing_can_be_paired_with_is_one_sentence(tmp_path: Path) -> None:
    of_all = [f"root={tmp_path}", WORLDS]
    for name, ways in (("needle", "strategy=oracle,dpp"), ("skew", "way=random,oracle")):
        finish(name, [*of_all, ways], tmp_path)
    what = [str(EXPERIMENTS / "needle.yaml"), "strategy=oracle,dpp", str(EXPERIMENTS / "skew.yaml")]
    assert main([*of_all, *what, "way=random,oracle", f"--out={tmp_path / 'out'}"]) == 0
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "needle: no run of random shares a seed with another, so none is compared." in page
    assert {setting for _, setting in rows(tmp_path / "out")} == {"skew"}


@pytest.mark.drawn
def test_a_setting_that_was_made_elsewhere_stays(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "elsewhere"
    for part in ("runs", "store"):
        shutil.copytree(studies.parent / part, root / part)
    for folder in (root / "runs").iterdir():
        if "way" not in json.loads((folder / "result.json").read_text()):  # needle's
            shutil.rmtree(folder)
    _, of_all, _, _, skew, ways, _ = words(root)
    what = [f"root={root}", of_all, skew, ways, f"--out={root / 'out'}"]
    assert main([*what, f"--earlier={studies}"]) == 0
    assert rows(root / "out") == rows(studies)
    for name in ("settings.csv", "losses.csv"):
        assert (root / "out" / name).read_text() == (studies / name).read_text()
    here, there = ((out / "leaderboard.md").read_text() for out in (root / "out", studies))
    told = "Made elsewhere, and taken as they are: needle; the facts above are those of the others.\n\n"
    assert here.replace(told, "").split("## Share")[1] == there.split("## Share")[1]
    assert told in here
    assert (root / "out" / "leaderboard.png").stat().st_size > 10_000

    (root / "out" / "settings.csv").write_text("setting,said\n")
    for arguments, said in (
        ([*what, f"--earlier={tmp_path}"], f"--earlier {tmp_path}: there is no leaderboard.csv; name the"),
        ([*what, f"--earlier={root / 'out'}"], "settings.csv has no column baseline"),
        ([str(root / "runs"), f"--earlier={studies}"], "give the YAML of one at least"),
    ):
        assert main(arguments) == 1
        assert said in capsys.readouterr().err


def test_every_gain_can_be_computed_again_from_the_documents(studies: Path) -> None:
    sums: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    with (studies / "losses.csv").open() as file:
        for row in csv.DictReader(file):
            for way in ("random", "dpp_minilm"):
                of = sums.setdefault((row["setting"], row["seed"], way), {}).setdefault(row["task"], [0, 0])
                of[0] += float(row[way])
                of[1] += float(row["tokens"])
    loss = {key: np.mean([nll / n for nll, n in tasks.values()]) for key, tasks in sums.items()}
    for setting in ("needle", "skew"):
        gain = np.mean(
            [loss[setting, str(seed), "random"] - loss[setting, str(seed), "dpp_minilm"] for seed in range(5)]
        )
        assert gain == pytest.approx(float(rows(studies)["dpp_minilm", setting]["gain"]), abs=0.002)


def test_a_setting_whose_oracle_teaches_no_ability_is_not_to_be_used(tmp_path: Path) -> None:
    of_all, ways = [f"root={tmp_path}", "seed=0,1"], "strategy=random,oracle"
    made = finish("needle", [*of_all, ways], tmp_path, ability=-1.0)
    for run in made:
        row = json.loads((run / "result.json").read_text())
        put(run / "result.json", row | {"blind_loss": 1.0})
    finish("needle", [*of_all, ways, "budget=20"], tmp_path, ability=None)
    what = [str(EXPERIMENTS / "needle.yaml"), ways, str(EXPERIMENTS / "needle.yaml"), ways, "budget=20"]
    what += [str(EXPERIMENTS / "skew.yaml"), "way=random"]
    assert main([*of_all, *what, f"--out={tmp_path / 'out'}"]) == 0
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "Not to be used: choosing by the truth raises own over other by -1.0" in page
    assert "needle" in page
    assert "needle, budget 20: 2 worlds that all ways finished" in page
    assert page.count("No shares, and not in the figure: there are not an oracle and another way.") == 2
    assert (
        "skew: no world yet that all ways finished, so it is not in the table; of its cells 2 missing."
        in page
    )
    assert "Whether its oracle teaches ability was not measured" in page


def test_nothing_finished_and_a_mirror_of_several_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    few = [f"root={tmp_path}", "seed=0", "strategy=random"]
    what = [*few, *(str(EXPERIMENTS / f"{name}.yaml") for name in ("needle", "mixture_law"))]
    assert main(what) == 1
    assert "no seed has been finished by all its ways yet" in capsys.readouterr().err
    assert main([*what, "--wandb", "offline"]) == 1
    assert "give one study" in capsys.readouterr().err
