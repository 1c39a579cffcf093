"""The command line as a user meets it: quick answers, one clear error, the right exit status, no
traceback."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.conftest import small
from tests.forked import Forked, anew

ROOT = Path(__file__).parents[1]


def smartdpp(*arguments: str) -> Forked:
    return Forked(*arguments).ended()


def refused(*arguments: str) -> str:
    done = smartdpp(*arguments)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    return said


def test_help_and_plan_answer_quickly(corpus: Path, tmp_path: Path) -> None:
    for arguments in (["--help"], [*small(corpus, tmp_path), "until=plan"]):
        started = time.perf_counter()
        done = anew(*arguments)
        assert done.returncode == 0, done.stderr
        assert time.perf_counter() - started < 20, (
            "seconds, not the minute that importing every library would take on a busy machine"
        )
    assert "to do" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bugdet=3"], "bugdet"),
        (["strategy=smrt"], "error: strategy=smrt: there is no such option; did you mean smart?"),
        (
            ["strategy=random,equal"],
            "error: strategy=random,equal: several values are a sweep, which takes -m too",
        ),
        (["strategy=xyz"], "proportional"),  # the options are listed
        (["+strategy.num_task=3"], "did you mean num_tasks?"),
        (["budget=0"], "at least 1"),
        (["budget=-3"], "at least 1"),
        (["budget=abc"], "error: budget=abc: Value 'abc' of type 'str' could not be converted to Integer"),
        (["recipe.lr=1e-4"], "recipe.lr: the recipe that is chosen has no such key"),
        (["stratgy=dpp"], "stratgy: there is no such key; did you mean strategy?"),
        (["-m", "root=a(b"], "root='a(b'"),
        (["recipe.learning_rate=high"], "valid number"),
        (["recipe.warmup=100"], "recipe.warmup=100: it is a share of the steps"),
        (["until=tomorrow"], "choose one of plan"),
        (["corpus.path=/no/such/file.jsonl"], "/no/such/file.jsonl"),
        (["recipe=qlora"], "CUDA"),
        (["strategy.tasks._target_=os.system"], "only components under smartdpp."),
        (["model=hub"], "model.path has no value"),
        (["root=/proc/nowhere"], "cannot be written"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_gets_one_clear_error(
    corpus: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    if arguments == ["recipe=qlora"]:
        pytest.importorskip("torch")
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA device")
    assert said in refused(*small(corpus, tmp_path), "strategy=smart", "until=mixture", *arguments)


def test_every_problem_is_told_at_once(corpus: Path, tmp_path: Path) -> None:
    text = refused(
        *small(corpus, tmp_path), "budget=0", "until=never", "+recipe.alpah=3", "seed=-1", "until=never"
    )
    assert all(word in text for word in ("budget=0", "until=never", "did you mean alpha?", "seed=-1"))


def test_a_typo_in_a_yaml(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "strategy").mkdir(parents=True)
    (folder / "strategy" / "own.yaml").write_text(
        "_target_: smartdpp.strategies.smart.Smart\ntemprature: 2.0\n"
    )
    (folder / "strategy" / "broken.yaml").write_text(
        "_target_: smartdpp.strategies.smart.Smart\n  temperature: [2.0\n"
    )
    (folder / "strategy" / "gone.yaml").write_text("_target_: smartdpp.strategies.smart.Smrt\n")
    search = f"hydra.searchpath=[file://{folder}]"
    assert "did you mean temperature?" in refused(*small(corpus, tmp_path), search, "strategy=own")
    assert "there is no such component" in refused(*small(corpus, tmp_path), search, "strategy=gone")
    assert "broken.yaml" in refused(*small(corpus, tmp_path), search, "strategy=broken")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ('{"task": "a", "prompt": "p", "response": "r"}\n{"task": ', "line 2"),
        ('{"task": "a", "response": "r"}\n', "prompt"),
    ],
    ids=["empty file", "malformed line", "row without prompt"],
)
def test_a_bad_corpus_file(corpus: Path, tmp_path: Path, content: str, said: str) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(content)
    text = refused(*small(corpus, tmp_path), f"corpus.path={bad}", "until=mixture")
    assert said in text
    assert "bad.jsonl" in text


def test_an_unwritable_root(corpus: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:  # root may write anywhere: a file in the folder's place stops it too
        (tmp_path / "blocked").write_text("")
    else:
        (tmp_path / "blocked").mkdir(mode=0o500)
    assert "blocked" in refused(*small(corpus, tmp_path / "blocked"), "until=mixture")


def test_torchrun_is_refused_before_anything_is_done(corpus: Path, tmp_path: Path) -> None:
    done = anew(*small(corpus, tmp_path), WORLD_SIZE="4", RANK="0", LOCAL_RANK="0")
    assert done.returncode == 1
    assert done.stderr.startswith("error: WORLD_SIZE=4, RANK=0, LOCAL_RANK=0 in the environment: torchrun")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert anew(*small(corpus, tmp_path), "until=plan", "strategy=random", WORLD_SIZE="1").returncode == 0


def test_a_failed_cell_does_not_stop_the_others(corpus: Path, tmp_path: Path) -> None:
    done = smartdpp("-m", *small(corpus, tmp_path), "budget=97,8", "strategy=random", "until=mixture")
    assert done.returncode == 1
    assert "the pool holds 96 examples" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir() if not path.name.startswith("."))
    assert len(runs) == 2
    assert [(tmp_path / "runs" / name / "error.txt").is_file() for name in runs] == [
        "-b97-" in name for name in runs
    ]
    assert len(list((tmp_path / "store" / "mixture").glob("*/meta.json"))) == 1


@pytest.mark.parametrize("wrong", ["null", "two"])
def test_a_sweep_tells_a_wrong_number_of_processes_as_a_run_does(
    wrong: str, configure: Callable[..., DictConfig]
) -> None:
    from smartdpp.config.check import check
    from smartdpp.errors import InputError
    from smartdpp.main import _processes

    cfg = configure(f"recipe.processes={wrong}")
    assert _processes(cfg) == 1  # before anything is checked
    with pytest.raises(InputError, match=r"recipe\.processes"):
        check(cfg)
    assert _processes(configure("recipe.processes=3")) == 3


def test_a_sweeps_plan_is_one_table_with_a_line_a_cell_and_totals_below(corpus: Path, tmp_path: Path) -> None:
    wide = ("strategy=random,full", "budget=8,16", "train_seed=0,-1", "until=plan")
    done = smartdpp("-m", *small(corpus, tmp_path), *wide)
    assert done.returncode == 1
    wrong = [line for line in done.stdout.splitlines() if line.startswith("warning: failed: ")]
    assert len(wrong) == 1, "a reason is told once"
    assert "train_seed=-1: it must be at least 0" in wrong[0]
    assert done.stdout.count("plan of") == 1
    assert f"plan of 4 cells in {tmp_path}" in done.stdout
    lines = [[part.strip() for part in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    table = {line[0]: line[1:] for line in lines if len(line) == 7}
    random, full = ([line for name, line in table.items() if kind in name] for kind in ("random", "full"))
    assert [line[0] for line in random] == ["corpus to result", "mixture to result"]
    assert [line[1] for line in random] == ["8", "16"]
    assert [line[0] for line in full] == ["mixture to result", "as line 2: the same run"]
    assert "1 corpus, 1 base scores, 1 embedding, 3 mixture" in done.stdout
    assert "4 cells, 0 of them done: 3 trainings to do" in done.stdout
    assert done.stderr.splitlines()[1:] == ["3 more cells failed, for the same reason"]
    assert not list(tmp_path.glob("runs/[!.]*"))


def test_a_cell_left_for_later_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from smartdpp import main
    from smartdpp.errors import Diverged

    done = []

    def execute(run: SimpleNamespace) -> None:
        if run.slug == "hot":
            raise Diverged("the loss is nan")
        done.append(run.slug)

    monkeypatch.setattr(main, "execute", execute)
    monkeypatch.setattr(main, "refused", type(main.refused)())
    monkeypatch.setattr(main, "left_for_later", [SimpleNamespace(slug=name) for name in ("a", "hot", "b")])
    with pytest.raises(main.Failure, match=r"^hot: the loss is nan$"):
        main._come_back([])
    assert done == ["a", "b"]
    with pytest.raises(main.Failure, match="a cell before"):
        main._come_back([main.Failure("a cell before")])
