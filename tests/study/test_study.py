"""A study's cells are those that Hydra's sweep runs, in folders that the pipeline names, with what became of
them."""

from pathlib import Path

import pytest

from smartdpp.errors import InputError
from smartdpp.store.locks import lock
from smartdpp.study.cells import cells, state, wanted

STUDY = """
defaults: [config, _self_]
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      strategy: random,equal
      seed: 0,1
budget: 40
report: {title: A small study, baseline: random}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "experiments" / "small.yaml"
    path.parent.mkdir()
    path.write_text(STUDY)
    return path


def test_cells_are_the_cartesian_product_in_order_with_overrides_on_top(study: Path, tmp_path: Path) -> None:
    found = cells(study, [f"root={tmp_path}", "seed=range(3,5)", "model=tiny"])
    assert [cell.overrides[:2] for cell in found] == [
        (f"strategy={s}", f"seed={n}") for s in ("random", "equal") for n in (3, 4)
    ]
    assert [cell.path.name.rsplit("-", 1)[0] for cell in found if cell.path] == [
        "random-minilm-b40-s3", "random-minilm-b40-s4", "equal-minilm-b40-s3", "equal-minilm-b40-s4"
    ]  # fmt: skip
    assert {cell.path.parent for cell in found if cell.path} == {tmp_path / "runs"}


def test_folders_are_those_of_run_py(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from smartdpp import main

    ran: list[Path] = []
    monkeypatch.setattr(main, "execute", lambda run, wait: ran.append(run.path))
    arguments = [
        f"root={tmp_path}",
        "strategy=glob(random*)",
        "recipe.rank=4",
        "hydra.sweeper.params.seed='7,8'",
    ]
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # main sets it, for its process
    monkeypatch.setattr("sys.argv", ["run.py", "-cd", str(study.parent), "-cn", "small", *arguments])
    main.main()
    assert len(ran) == 4  # random and random_tasks, two seeds
    assert [cell.path for cell in cells(study, arguments)] == ran


def test_a_run_is_done_running_failed_unfinished_or_missing(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    assert state(run) == ("missing", "")
    run.mkdir(parents=True)
    assert state(run) == ("unfinished", "")
    (run / "error.txt").write_text("InputError: the pool is empty\nand a traceback\n")
    assert state(run) == ("failed", "InputError: the pool is empty")
    with lock(run):
        assert state(run) == ("running", "")  # it tries again
    (run / "error.txt").unlink()
    (run / "result.json").write_text("{}")
    assert state(run) == ("done", "")


def test_every_cell_has_its_state(study: Path, tmp_path: Path) -> None:
    first, second, *_ = cells(study, [f"root={tmp_path}"])
    for cell, file in ((first, "result.json"), (second, "error.txt")):
        cell.path.mkdir(parents=True)
        (cell.path / file).write_text("OSError: x")
    found = cells(study, [f"root={tmp_path}"])
    assert [(cell.state, cell.detail) for cell in found] == [
        ("done", ""),
        ("failed", "OSError: x"),
        ("missing", ""),
        ("missing", ""),
    ]


def test_a_run_that_two_cells_share_is_one_cell(study: Path, tmp_path: Path) -> None:
    found = cells(study, [f"root={tmp_path}", "strategy=full,random", "budget=5,6", "seed=0"])
    assert [cell.path.name.rsplit("-", 1)[0] for cell in found if cell.path] == [
        "full-minilm-s0",
        "random-minilm-b5-s0",
        "random-minilm-b6-s0",
    ]


def test_a_cell_that_fails_the_check_is_invalid_and_says_why(study: Path, tmp_path: Path) -> None:
    found = cells(study, [f"root={tmp_path}", "budget=0,40", "seed=0"])
    assert [cell.state for cell in found] == ["invalid", "missing"] * 2
    assert "budget=0" in found[0].detail
    assert found[0].path is None


def test_wanted_is_the_report_key(study: Path) -> None:
    assert (wanted(study).title, wanted(study).baseline) == ("A small study", "random")
    assert wanted(study, ["report.baseline=[smart,equal]", "seed=0,1"]).baselines == ("smart", "equal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: [config, _self_]\nbudget: 3\n", "is not a study"),
        ("a: 1\n", "is not a study"),
        ("a: [1\n", "small.yaml: "),
        (STUDY + "nonsense: 1\n", "nonsense"),
        (STUDY.replace("baseline", "basline"), "report.basline is not known; report takes title, baseline"),
    ],
)
def test_a_file_that_is_no_study_gets_one_sentence(study: Path, text: str, message: str) -> None:
    study.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        wanted(study)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("override", ["nonsense=1", "strategy=[1", "strategy=no_such_strategy"])
def test_a_wrong_override_gets_one_sentence(study: Path, override: str) -> None:
    with pytest.raises(InputError) as error:
        cells(study, [override])
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: there is no such file"):
        cells(tmp_path / "nowhere.yaml")
