"""The default pipeline from end to end on a tiny model: what it leaves, what it reuses, and what it
refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from safetensors.numpy import load_file

from smartdpp.config.identity import without_paths
from smartdpp.errors import Diverged, InputError, NotFinite
from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute, prepare
from smartdpp.run.sound import damage
from smartdpp.run.stages import _evaluate, artifacts
from smartdpp.store.disk import read_json
from smartdpp.strategies.mixture import content, read
from smartdpp.study.cells import state


def test_a_run_selects_trains_evaluates_and_records(
    small_run: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    run = small_run("strategy=smart", "tracker=wandb")
    score = execute(run)
    row = read_json(run.path / "result.json")
    assert score == row["score"] == row["loss"]
    mixture = [json.loads(line) for line in (run.mixture.path / "mixture.jsonl").open()]
    assert len({example["id"] for example in mixture}) == 16
    assert "parity" not in {example["task"] for example in mixture}
    assert run.adapter.meta()["facts"]["rows"] == 16
    assert row["mixture_content"] == content(read(run.mixture.path))
    adapter = load_file(run.adapter.path / "adapter_model.safetensors")
    assert all(np.linalg.norm(weights) > 0 for name, weights in adapter.items() if "lora_B" in name)
    assert row["loss_change_low"] <= row["loss_change"] <= row["loss_change_high"]
    assert list((run.path / "wandb").glob("offline-run-*"))
    assert not list(run.path.parent.parent.rglob("*.partial"))
    assert "parity" in capsys.readouterr().out

    files = [
        path
        for path in run.path.parent.parent.rglob("*")
        if path.is_file() and path.name != "run.log" and path.suffix != ".lock"
    ]
    before = {path: path.stat().st_mtime_ns for path in files}  # a lock says who holds it, also for a look
    assert execute(run) == score
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before, "a finished run is shown from cache, not made again"

    other = small_run("strategy=random")
    execute(other)
    assert other.base.key == run.base.key
    assert other.embedding.key == run.embedding.key
    assert read_json(other.path / "result.json")["seconds/base scores"] == 0
    assert read_json(other.path / "result.json")["loss_base"] == row["loss_base"]


def test_none_scores_the_base_model(small_run: Callable[..., Run]) -> None:
    run = small_run("strategy=none")
    execute(run)
    row = read_json(run.path / "result.json")
    assert row["n"] == 0
    assert row["loss"] == row["loss_base"]
    assert "adapter" not in artifacts(run)


def test_until_also_holds_without_training(small_run: Callable[..., Run]) -> None:
    run = small_run("strategy=none", "until=adapter")
    execute(run)
    assert not run.base.finished


def test_full_takes_the_whole_pool_under_any_budget(small_run: Callable[..., Run]) -> None:
    runs = [small_run("strategy=full", "until=mixture", f"budget={budget}") for budget in (3, 7)]
    assert runs[0].slug == runs[1].slug
    execute(runs[0])
    assert runs[0].mixture.meta()["facts"]["n"] == 4 * 24


def test_the_base_model_is_scored_before_anything_is_embedded_and_only_where_scores_are_wanted(
    small_run: Callable[..., Run],
) -> None:
    run = small_run("until=mixture")
    assert list(artifacts(run))[:3] == ["corpus", "base scores", "embedding"]
    execute(run)
    assert run.diversity.finished
    assert not run.base.finished
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(run.parts.evaluation),
            "evaluate",
            lambda *_: (_ for _ in ()).throw(InputError("these documents are no good")),
        )
        with pytest.raises(InputError, match="no good"):
            execute(small_run("budget=8", "until=scores"))
    assert not small_run("budget=8").mixture.finished


@pytest.mark.parametrize(("until", "made"), [("corpus", {"corpus"}), ("embedding", {"corpus", "embedding"})])
def test_until_stops_after_the_named_stage(small_run: Callable[..., Run], until: str, made: set[str]) -> None:
    run = small_run(f"until={until}")
    assert execute(run) is None
    assert {name for name, artifact in artifacts(run).items() if artifact.finished} == made


def test_plan_writes_nothing(small_run: Callable[..., Run], capsys: pytest.CaptureFixture) -> None:
    run = small_run("until=plan")
    execute(run)
    assert "to do" in capsys.readouterr().out
    assert not (run.path.parent.parent / "store").exists()


def test_the_budget_is_refused_before_embedding(small_run: Callable[..., Run]) -> None:
    run = small_run("budget=97")
    with pytest.raises(InputError, match=r"budget=97: the pool holds 96 examples"):
        execute(run)
    assert not run.embedding.finished
    assert "97" in (run.path / "error.txt").read_text()
    with pytest.raises(InputError, match="96"):  # once the pool is known, the check itself refuses
        small_run("budget=97", "until=plan")


def test_documents_that_are_passed_over_are_in_every_record(
    small_run: Callable[..., Run], tmp_path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["a short one", "x" * 2500, "another"]
    rows = [{"task": "mine", "prompt": text, "response": "yes", "choices": ["yes", "no"]} for text in texts]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = [
        "evaluation=jsonl",
        f"evaluation.path={tmp_path / 'own.jsonl'}",
        "evaluation.tasks=null",
        "evaluation.generate=false",
    ]
    run = small_run("strategy=random", *own)
    with caplog.at_level("INFO", "smartdpp"):
        execute(run)
    said = "1 documents were passed over (1 too long)"
    assert (
        run.base.meta()["facts"]["passed_over"]
        == run.scores.meta()["facts"]["passed_over"]
        == {"too_long": 1}
    )
    row = read_json(run.path / "result.json")
    assert [
        row[name]
        for name in ("documents", "documents_passed_over", "documents_truncated", "tasks_without_documents")
    ] == [2, 1, 0, 0]
    printed = capsys.readouterr().out
    assert f"held-out documents: {said}" in printed
    assert said in (run.path / "run.log").read_text()
    assert report([str(run.path)]) == 0
    assert "1 held-out documents were passed over" in capsys.readouterr().out

    rows[2] |= {"answer": "perhaps"}
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"own.jsonl, line 3: .*answer 'perhaps' is none of its 2 choices"):
        small_run("strategy=random", *own, "until=plan")
    assert not small_run("strategy=random", *own, "until=mixture").done, (
        "who asks for no score is not asked for answers"
    )


def test_a_metric_of_lm_evals_own_is_the_score_and_has_a_report(
    configure: Callable[..., DictConfig], tmp_path, capsys: pytest.CaptureFixture
) -> None:
    quiz = """
task: normed
dataset_path: json
dataset_kwargs: {data_files: {test: quiz.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["yes", "certainly not"]
doc_to_target: label
metric_list:
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
    (tmp_path / "mine.yaml").write_text(quiz)
    (tmp_path / "quiz.jsonl").write_text(
        "".join(json.dumps({"question": f"is {i} odd?", "label": i % 2}) + "\n" for i in range(3))
    )
    lm_eval = {
        "_target_": "smartdpp.evaluation.harness.Harness",
        "tasks": ["normed"],
        "include_path": str(tmp_path),
        "data_dir": str(tmp_path),
    }
    cfg = configure("strategy=random")
    cfg.evaluation = lm_eval
    run = prepare(cfg, HydraConfig.get().runtime.choices)
    score = execute(run)
    row = read_json(run.path / "result.json")
    assert (row["score_metric"], row["documents"]) == ("acc_norm", 3)
    assert score == row["score"] == row["acc_norm"] == row["acc_norm/normed"] <= 1
    assert "acc norm" in capsys.readouterr().out
    assert report([str(run.path)]) == 0
    assert "acc norm" in capsys.readouterr().out


def test_more_tasks_than_there_are(small_run: Callable[..., Run]) -> None:
    with pytest.raises(InputError, match=r"9.*4 tasks"):
        execute(small_run("strategy.num_tasks=9", "until=mixture"))


def test_a_heldout_task_that_is_not_in_the_corpus(small_run: Callable[..., Run]) -> None:
    with pytest.raises(InputError, match="parityy"):
        execute(small_run("evaluation.tasks=[parityy]"))


def test_seeds_can_be_split(small_run: Callable[..., Run]) -> None:
    base, select, train = (
        small_run("strategy=random", *extra) for extra in ([], ["select_seed=1"], ["train_seed=1"])
    )
    assert base.mixture.key == train.mixture.key != select.mixture.key
    assert base.adapter.key != train.adapter.key


def test_a_file_counts_by_content_not_by_place(small_run: Callable[..., Run], corpus, tmp_path) -> None:
    (tmp_path / "moved").mkdir()
    copy = tmp_path / "moved" / corpus.name
    copy.write_bytes(corpus.read_bytes())
    assert small_run(f"corpus.path={copy}").slug == small_run().slug
    with copy.open("a") as file:
        file.write(json.dumps({"task": "add", "prompt": "one more", "response": "row"}) + "\n")
    assert small_run(f"corpus.path={copy}").slug != small_run().slug


@pytest.mark.parametrize("how", ["tracker=wandb", "until=mixture", "root=/elsewhere"])
def test_how_a_run_is_made_is_not_what_it_is(small_run: Callable[..., Run], how: str) -> None:
    assert small_run(how, "root=.").slug == small_run("root=.").slug


@pytest.mark.parametrize(
    ("how", "counted_anew"),
    [
        ("budget=18", False),  # one epoch
        ("budget=16 recipe.epochs=3", False),  # 8 divides it
        ("budget=20 recipe.epochs=0.5", False),  # 2 steps, as before
        ("budget=20 recipe.epochs=3", True),
        ("budget=16 recipe.epochs=3 strategy=full", True),  # of rows that only the pool tells
        ("budget=null budget_tokens=900 recipe.epochs=3", True),
        ("budget=16 recipe.epochs=3 start=[a] start_include=true strategy=random", True),
        ("budget=16 recipe.epochs=3 strategy=reselect embedding=gradient", True),
    ],
)
def test_a_training_is_made_anew_only_where_its_epochs_were_not_whole(
    small_run: Callable[..., Run], how: str, counted_anew: bool
) -> None:
    assert ("epochs" in small_run(*how.split()).adapter.params) is counted_anew


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_warm_up_of_one_epoch_keeps_its_name(small_run: Callable[..., Run], epochs: int) -> None:
    run = small_run("embedding=less", f"embedding.warmup.recipe.epochs={epochs}")
    assert ("epochs" in run.warmups["embedding"].params) is (epochs > 1)


def test_the_devices_that_do_the_work_are_not_what_it_is() -> None:
    assert without_paths({"embedding": {"model": "org/model", "devices": ["cuda:0"]}}) == {
        "embedding": {"model": "org/model"}
    }


def test_a_diverged_cell_says_so_in_its_folder(small_run: Callable[..., Run]) -> None:
    run = small_run("strategy=random", "recipe.learning_rate=1e30", "until=adapter")
    with pytest.raises(Diverged, match="the loss is nan at step 2 of 2"):
        execute(run)
    assert state(run.path) == ("diverged", (run.path / "error.txt").read_text().splitlines()[0])


def test_an_evaluation_without_finite_numbers_blames_the_training_or_the_model(
    small_run: Callable[..., Run], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run("recipe.learning_rate=0.5")

    def evaluate(*args: object) -> None:
        raise NotFinite("the likelihood of document 7 is NaN")

    monkeypatch.setattr(type(run.parts.evaluation), "evaluate", evaluate)
    monkeypatch.setattr("smartdpp.run.stages.run_rows", lambda *args: None)
    with pytest.raises(
        Diverged, match=r"document 7 is NaN after it, with recipe.learning_rate=0.5: try a lower one"
    ):
        _evaluate(run, tmp_path, tmp_path)
    with pytest.raises(NotFinite, match=r"model=tiny: .*before any training"):
        _evaluate(run, None, tmp_path)


def contents(artifact: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(artifact)): path.read_bytes()
        for path in artifact.rglob("*")
        if path.is_file() and path.name != "meta.json"
    }


def test_rows_that_two_configurations_choose_are_trained_and_scored_once(
    small_run: Callable[..., Run], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, same = small_run("strategy=proportional"), small_run("strategy=proportional", "strategy.cap=500")
    caplog.set_level("INFO", "smartdpp")
    score = execute(first)
    partial = same.adapter.path.with_name(same.adapter.key + ".partial")
    (partial / "checkpoints" / "checkpoint-1").mkdir(parents=True)  # as a training that was killed leaves it
    (partial / "adapter_config.json").write_text("half")
    with monkeypatch.context() as patch:
        for work in (type(same.parts.recipe), "train"), (type(same.parts.evaluation), "evaluate"):
            patch.setattr(*work, lambda *args: pytest.fail("done before"))
        assert execute(same) == score
    said = caplog.text
    assert f"taken from {first.adapter.key}]" in said
    assert (
        "a training on the same rows in the same order was finished before under another configuration: its "
        "files are taken over" in said
    )
    assert f"taken from {first.scores.key}]" in said

    assert first.adapter.key != same.adapter.key
    for here, there in ((first.adapter, same.adapter), (first.scores, same.scores)):
        assert contents(here.path) == contents(there.path)
        assert there.meta()["facts"] == here.meta()["facts"] | {"taken_from": here.key}
        assert there.meta()["seconds"] == here.meta()["seconds"]
    rows = [read_json(run.path / "result.json") for run in (first, same)]
    assert rows[0]["mixture_content"] == rows[1]["mixture_content"]
    assert rows[0]["made_in/adapter"] == rows[1]["made_in/adapter"], "as if nothing had been cached"

    # a damaged one is passed by, and another seed is another training
    (first.adapter.path / "meta.json").write_text("cut")
    (same.adapter.path / "meta.json").write_text("{}")
    other = small_run("strategy=proportional", "train_seed=1", "until=adapter")
    execute(other)
    assert other.adapter.meta()["facts"]["taken_from"] is None


def test_what_is_damaged_of_a_finished_run_is_told_and_made_again(
    small_run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    run = small_run("strategy=none")
    score = execute(run)
    for path in (
        run.path / "result.json",
        run.path / "artifacts.json",
        run.path / ".hydra" / "config.yaml",
        run.base.path / "scores.json",
    ):
        whole = path.read_bytes()
        path.write_bytes(whole[:20])
        caplog.clear()
        assert execute(run) == score
        assert path.name in caplog.text, "it is told"
        assert path.read_bytes() == whole or path.name == "result.json", "other seconds"
        assert damage(run.path) is None
