"""The plan's estimate comes from a measured rate, or says that there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smartdpp.run.cell import Run
from smartdpp.run.cost import estimate, measured
from smartdpp.run.pipeline import execute
from smartdpp.run.stages import stages
from smartdpp.store.disk import write_json
from smartdpp.store.record import provenance

PARAMS = {
    "_target_": "smartdpp.embedding.gradient.Gradient",
    "model": {"name": "m"},
    "dim": 4096,
    "store": "float16",
}


def planned(run: Run, name: str) -> str:
    return next(stage.plan() for stage in stages(run) if stage.name == name)


def made(
    root: Path,
    key: str,
    params: dict,
    tokens: int,
    seconds: float,
    machine: str | None = None,
    stage: str = "embedding",
) -> None:
    folder = root / "store" / stage / key
    folder.mkdir(parents=True)
    facts = {"tokens": tokens, "seconds": seconds, "d": 576}
    write_json(
        folder / "meta.json",
        {"params": params, "facts": facts, "machine": machine or provenance()["machine"]},
    )


def test_the_rate_is_of_the_same_work_on_the_same_machine(tmp_path: Path) -> None:
    made(tmp_path, "a", PARAMS | {"model": {"name": "larger"}}, 10, 1.0)
    made(tmp_path, "b", PARAMS, 30, 1.0, machine="another, 64 cores")
    made(tmp_path, "c", PARAMS, 0, 0.1)  # everything was resumed
    assert measured(tmp_path, "embedding", PARAMS) is None
    assert (
        estimate(tmp_path, "embedding", PARAMS, 1000, 90_000, 4096)
        == "90,000 tokens, time unknown until it was measured here once, 8.19 MB on disk"
    )
    made(tmp_path, "d", PARAMS | {"dim": 64}, 4500, 10.0)
    assert "about 200 s at 450 tokens/s measured here" in estimate(
        tmp_path, "embedding", PARAMS, 1000, 90_000
    )


def test_what_is_damaged_or_was_too_quick_is_passed_over(tmp_path: Path) -> None:
    made(tmp_path, "a", PARAMS, 4500, 10.0)
    made(tmp_path, "b", PARAMS, 30, 0.0)
    for name, content in {"c": "", "d": "{}", "e": "[1]", "f": '{"facts": 3, "params": null}'}.items():
        (folder := tmp_path / "store" / "embedding" / name).mkdir()
        (folder / "meta.json").write_text(content)
    assert measured(tmp_path, "embedding", PARAMS)["tokens"] == 4500
    assert "at 450 tokens/s measured here" in estimate(tmp_path, "embedding", PARAMS, 1000, 90_000)


def test_a_size_that_only_the_model_knows_is_that_of_the_last_time(tmp_path: Path) -> None:
    hidden = {"_target_": "smartdpp.embedding.hidden.Hidden", "model": {"name": "m"}}
    assert "MB" not in estimate(tmp_path, "embedding", hidden, 1000, 90_000)
    made(tmp_path, "a", hidden, 4500, 10.0)
    assert estimate(tmp_path, "embedding", hidden, 1000, 90_000).endswith(", 2.30 MB on disk")


def test_the_size_is_of_the_numbers_that_there_will_be(small_run: Callable[..., Run]) -> None:
    """Of LESS as many as its sketch at each of four checkpoints; of whole gradients the model tells."""
    run = small_run("embedding=less", "embedding.dim=64", "until=corpus")
    execute(run)
    n = run.corpus.meta()["facts"]["n_pool"]
    assert planned(run, "embedding").endswith(f", {n * 4 * 64 * 2 / 1e6:,.2f} MB on disk")
    exact = small_run("embedding=gradient", "embedding.dim=64", "embedding.projection=exact")
    assert exact.parts.embedding.columns(n) is None
    assert "MB" not in planned(exact, "embedding")


def test_a_run_selects_on_gradients_and_plans_the_next_by_their_cost(
    small_run: Callable[..., Run], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    options = ["embedding=gradient", "strategy=dpp"]
    run = small_run(*options, "embedding.dim=32", "until=mixture")
    execute(run)
    assert np.load(run.embedding.path / "X.npy").shape == (run.corpus.meta()["facts"]["n_pool"], 32)
    assert (run.mixture.path / "mixture.jsonl").is_file()
    capsys.readouterr()
    execute(small_run(*options, "embedding.dim=64", "until=plan"))
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "tokens/s measured" in told


def test_signals_and_task_vectors_are_planned_by_their_own_rates(small_run: Callable[..., Run]) -> None:
    options = [
        "strategy=smart",
        "strategy.num_tasks=2",
        "quality=perplexity",
        "task_vector=task2vec",
        "task_vector.examples=2",
    ]
    stages = ["response signals", "task vectors"]
    execute(small_run(*options, "until=corpus"))
    assert all(
        "time unknown until it was measured here once" in planned(small_run(*options), name)
        for name in stages
    )
    execute(small_run(*options, "until=mixture"))
    # keys of their own, the same work
    again = small_run(*options, "quality=el2n", "quality.batch_tokens=512", "task_vector.seed=1")
    assert not again.signals["response"].finished
    assert all("tokens/s measured here" in planned(again, name) for name in stages)
    # another pass
    assert "time unknown" in planned(small_run(*options, "quality=gradient_norm"), "gradient signals")


@pytest.mark.parametrize("stage", ["embedding", "signals", "task_vectors"])
def test_processes_are_how_not_what(small_run: Callable[..., Run], stage: str) -> None:
    chosen, group = {
        "embedding": ("embedding=gradient", "embedding"),
        "signals": ("quality=pmi", "quality"),
        "task_vectors": ("task_vector=task2vec", "task_vector"),
    }[stage]
    one, two = (small_run(chosen, f"{group}.processes={n}") for n in (1, 2))
    assert one.mixture.inputs == two.mixture.inputs
    assert one.slug == two.slug
    assert replace(getattr(one.parts, group), processes=2) == getattr(two.parts, group)
