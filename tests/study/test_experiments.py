"""The studies in experiments/: every size of each composes into distinct cells that could start, and a tiny
one runs to its end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from smartdpp.config import compose as study
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import prepare
from smartdpp.run.price import total, training
from smartdpp.study.cells import cells, wanted
from tests.conftest import small
from tests.forked import Forked, anew

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SIZED = sorted(path for path in EXPERIMENTS.glob("*.yaml") if "\nsizes:\n" in path.read_text())
SIZES = {path: list(yaml.safe_load(path.read_text())["sizes"]) for path in SIZED}
OFFLINE = {"HF_HUB_OFFLINE": "1", "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


PAPER = (
    *("corpus=flan2022", "embedding=gte_large", "embedding@probe=gte_large", "diversity=none"),
    *("model=llama2_7b", "recipe=smart", "pool.max_tokens=4096", "budget=25000"),
)


def combinations(path: Path, *overrides: str) -> list[list[str]]:
    with study.started(path):
        return study.combinations(path, study.master(path, study.not_swept(list(overrides))), list(overrides))


def composed(path: Path, overrides: list[str]) -> Run:
    with study.started(path):
        cfg: DictConfig = study.composed(path, overrides)
        choices = cfg.hydra.runtime.choices
        with open_dict(cfg):
            del cfg["hydra"]
        OmegaConf.resolve(cfg)
        return prepare(cfg, choices)


def run_py(*arguments: str) -> Forked:
    return Forked("-cd", str(EXPERIMENTS), *arguments).ended()


@pytest.mark.parametrize(
    ("path", "size"),
    [(path, size) for path in SIZED for size in SIZES[path]],
    ids=lambda part: Path(part).stem,
)
def test_every_size_has_distinct_cells_that_pass_the_check(path: Path, size: str, tmp_path: Path) -> None:
    found = combinations(path, f"size={size}", f"root={tmp_path}")
    assert len(set(map(tuple, found))) == len(found) > 1
    first, last = (composed(path, overrides) for overrides in (found[0], found[-1]))
    assert first.path != last.path
    assert total([first, last]).startswith("2 cells")


@pytest.mark.parametrize(
    "option",
    sorted([*EXPERIMENTS.glob("way/*.yaml"), *EXPERIMENTS.glob("corpus/*.yaml")]),
    ids=lambda path: path.stem,
)
def test_what_studies_choose_from_passes_the_check_and_says_what_it_is(option: Path, tmp_path: Path) -> None:
    group, text = option.parent.name, option.read_text()
    with study.started(EXPERIMENTS / "quickstart.yaml"):  # as run.py -cd experiments
        cfg = study.composed(
            EXPERIMENTS / "config.yaml",
            [f"{'+' * (group == 'way')}{group}={option.stem}", f"root={tmp_path}"],
        )
        choices = cfg.hydra.runtime.choices
        with open_dict(cfg):
            del cfg["hydra"]
        assert prepare(cfg, choices).path
    assert f"python run.py -cd experiments {'+' * (group == 'way')}{group}={option.stem}" in text
    assert "# Worth trying: " in text


def test_a_way_of_choosing_is_its_options_by_another_name(tmp_path: Path) -> None:
    long = ["strategy=dpp", "embedding=gradient", "quality=response_tokens", "strategy.theta=0.3"]
    short, spelled = (
        composed(EXPERIMENTS / "skew.yaml", [f"root={tmp_path}", *o])
        for o in (["way=dpp_gradient_length_03"], long)
    )
    assert short.path == spelled.path


@pytest.mark.parametrize("path", SIZED, ids=lambda path: path.stem)
def test_a_study_says_what_it_asks_mirrors_and_costs(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(head)
    assert head[0].startswith("# Study: ")
    assert "?" in text
    assert f"-cn {path.stem} " in text
    assert f"experiments/{path.stem}.yaml" in text
    assert all(f"size={size} " in text for size in SIZES[path])
    assert wanted(path).question


def test_no_two_cells_of_a_study_are_one_run(tmp_path: Path) -> None:
    counts = {"skew": 7, "noise corpus.mismatched=0.7": 7, "smart budget=8": 10, "dpp budget=8": 8}
    for name, ways in (counts | {"deciles embedding=minilm": 6}).items():
        stem, *more = name.split()
        found = cells(EXPERIMENTS / f"{stem}.yaml", [f"root={tmp_path}", "seed=0", *more])
        assert len({cell.path for cell in found}) == ways
        assert {cell.state for cell in found} == {"missing"}


def test_a_sweep_on_the_command_line_wins_over_the_size(tmp_path: Path) -> None:
    found = combinations(EXPERIMENTS / "judge.yaml", "size=gpu", "seed=7", "strategy=smart", "budget=10,20")
    assert [
        [setting for setting in cell if setting.startswith(("strategy=", "budget=", "seed="))]
        for cell in found
    ] == [["seed=7", "strategy=smart", f"budget={budget}"] for budget in (10, 20)]
    assert "evaluation.of.heldout.limit=25" in found[0]


def test_the_papers_size_names_the_papers_recipe(tmp_path: Path) -> None:
    run = composed(EXPERIMENTS / "quickstart.yaml", [*PAPER, f"root={tmp_path}"])
    recipe, cfg = run.parts.recipe, run.cfg
    assert (cfg.model.path, cfg.embedding.model) == ("meta-llama/Llama-2-7b-hf", "thenlper/gte-large")
    assert (recipe.method, recipe.learning_rate, recipe.epochs, recipe.batch_size) == ("full", 2e-5, 1, 64)
    assert (recipe.weight_decay, recipe.warmup, recipe.scheduler, recipe.loss) == (
        0.1,
        0.01,
        "cosine",
        "example",
    )


def test_the_papers_plan_has_a_price_and_needs_no_network(tmp_path: Path) -> None:
    sweep = ("strategy=smart,equal,random", "seed=23", "evaluation=mmlu,bbh")
    price = ("price.tokens_per_example=300", "price.tokens_per_second=2300")
    words = ("-cn", "quickstart", *PAPER, *sweep, *price, "until=plan", f"root={tmp_path}")
    done = anew("-cd", str(EXPERIMENTS), *words, **OFFLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert (
        "6 cells, 0 of them done: 3 trainings to do, 75,000 examples, about 22,500,000 tokens, 2.7 device "
        "hours" in said
    )
    assert not any(tmp_path.glob("runs/[!.]*"))


def test_a_size_that_a_study_does_not_have_is_one_sentence(tmp_path: Path) -> None:
    done = run_py("-cn", "judge", "size=huge", "until=plan", f"root={tmp_path}")
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == "error: size=huge is none of this study's sizes: its YAML lists them under sizes (as laptop, "
        "gpu and paper)"
    )


def test_a_training_is_priced_once_and_a_known_corpus_by_its_own_length(small_run) -> None:
    from smartdpp.run.pipeline import execute

    run = small_run(
        "until=mixture", "strategy=random", "price.tokens_per_example=1000", "price.tokens_per_second=10"
    )
    assert training(run).tokens == 16 * 1000
    assert total([run, run]).startswith(
        "2 cells, 0 of them done: 1 trainings to do, 16 examples, about 16,000 tokens, 0.4 device hours"
    )
    execute(run)
    tokens = run.mixture.meta()["facts"]["tokens"]
    assert training(run).tokens == pytest.approx(tokens)
    assert training(run).hours == pytest.approx(tokens / 10 / 3600)
    assert training(small_run("strategy=full")).examples == run.corpus.meta()["facts"]["n_pool"]
    assert training(small_run("strategy=none")).examples == 0


def test_a_study_runs_to_its_end_and_again_does_only_what_is_missing(corpus: Path, tmp_path: Path) -> None:
    path = EXPERIMENTS / "quickstart.yaml"
    overrides = [*small(corpus, tmp_path), "strategy=smart", "strategy.num_tasks=2,3,9", "budget=8", "seed=0"]
    done = run_py("-cn", path.stem, *overrides)
    assert done.returncode == 1, "the corpus has no nine tasks"
    found = cells(path, overrides)
    assert [cell.state for cell in found] == ["done", "done", "failed"], done.stdout
    assert "9" in found[2].detail
    assert "Traceback" not in done.stderr

    first = found[0].path
    assert first is not None
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("store/*/*/meta.json")}
    shutil.rmtree(first)
    again = run_py("-cn", path.stem, *overrides)
    assert again.returncode == 1
    assert (
        again.stdout.count("finished before") == 1
    )  # the second cell; the first is made again from its artifacts, the third is tried again
    assert [cell.state for cell in cells(path, overrides)] == ["done", "done", "failed"]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("store/*/*/meta.json")} == before
