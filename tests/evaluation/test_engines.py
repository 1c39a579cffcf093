"""What writes the answers, in a whole run: stated, refused before any work, and what it wrote is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation import engines, generation
from smartdpp.evaluation.scores import read_samples
from smartdpp.judge import endpoint
from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.run.stages import stages
from smartdpp.store.disk import read_json
from tests.judge.server import failed, said, serving

from .test_indomain import small_run  # noqa: F401  # a fixture

ROWS = '{"task": "t", "prompt": "Say one.", "response": "one"}\n'
OF = {
    "heldout": ("evaluation.tasks=[parity]",),
    "ability": ("evaluation.tasks=[parity]",),
    "indomain": (),
    "indomain_file": ("evaluation.path={path}",),
    "jsonl": ("evaluation.path={path}",),
    "judge": ("evaluation.tasks=[parity]",),
}


@pytest.mark.parametrize("name", OF)
def test_another_engine_is_stated_and_makes_other_scores_and_one_that_is_not_here_is_refused_at_once(
    name: str,
    small_run: Callable[..., Run],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    asked = [f"evaluation={name}", *(one.format(path=tmp_path / "rows.jsonl") for one in OF[name])]
    plain, other = small_run(*asked), small_run(*asked, "evaluation.generation=continuous")
    assert "generation" not in plain.what["evaluation"]
    assert (plain.corpus.key, plain.adapter.key) == (other.corpus.key, other.adapter.key)
    assert plain.scores.key != other.scores.key
    stated = {stage.name: stage.plan() for stage in stages(other)}
    assert "answers by generation=continuous" in stated["base scores"]
    assert "answers by generation=continuous" in stated["scores"]
    assert "generation" not in "".join(stage.plan() for stage in stages(plain))
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^evaluation\.generation=vllm: the package vllm is not installed"):
        small_run(*asked, "evaluation.generation=vllm", "until=plan")
    if name != "judge":
        small_run(*asked, "evaluation.generation=vllm", "evaluation.generate=false")  # writes none


def test_a_part_of_several_names_its_engine_by_its_place(
    small_run: Callable[..., Run],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = (
        "evaluation=combined",
        "evaluation.of.heldout.tasks=[parity]",
        "evaluation.of.indomain.generation={}",
    )
    other = small_run(*(one.format("continuous") for one in asked))
    assert other.what["evaluation"]["of"]["indomain"]["generation"] == "continuous"
    assert "generation" not in other.what["evaluation"]["of"]["heldout"]
    (stated,) = (stage.plan() for stage in stages(other) if stage.name == "scores")
    assert stated.endswith("; indomain: answers by generation=continuous")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    for engine, wrong in (
        ("vllm", "generation=vllm: the package vllm is not installed"),
        ("vlm", "generation"),
    ):
        with pytest.raises(InputError, match=rf"evaluation\.of\.indomain\.{wrong}"):
            small_run(*(one.format(engine) for one in asked))


def test_a_run_that_stops_while_writing_and_while_judging_goes_on_and_does_nothing_twice(
    small_run: Callable[..., Run],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(endpoint, "FIRST", 0.01)
    monkeypatch.setattr(generation, "MORE", 1)
    parts = ("heldout", "judge")
    asked = (
        "evaluation=combined", "~evaluation.of.indomain", "+evaluation@evaluation.of.judge=judge",
        "judge@evaluation.of.judge.judge=endpoint", "evaluation.of.judge.judge.model=judge",
        "evaluation.of.judge.judge.retries=0", "evaluation.of.judge.judge.concurrency=1", "strategy=none",
        *(f"evaluation.of.{part}.{one}" for part in parts for one in
          ("tasks=[parity]", "limit=4", "batch_size=2", "max_new_tokens=4", "generation=continuous")),
    )  # fmt: skip
    written: Counter[tuple[int, ...]] = Counter()
    real, dies = engines.continuous, [2, 5]  # at these calls: in one evaluation, and in the other

    def counted(model: Any, prompts: list[list[int]], *more: Any) -> list[list[int]]:
        calls.append(len(prompts))
        if dies and len(calls) == dies[0]:
            dies.pop(0)
            raise KeyboardInterrupt
        written.update(map(tuple, prompts))
        return real(model, prompts, *more)

    calls: list[int] = []
    monkeypatch.setattr(engines, "continuous", counted)
    with serving(lambda question, _: said("A") if served.answered.total() < 3 else failed(500)) as served:
        asked += (f"evaluation.of.judge.judge.base_url={served.url}",)
        for stopped in (KeyboardInterrupt, KeyboardInterrupt, InputError):
            with pytest.raises(stopped):
                execute(small_run(*asked))
        served.behave = lambda *_: said("A")
        run = small_run(*asked)
        execute(run)
    assert dies == []
    assert set(written.values()) == {len(parts)}  # each prompt once for the scores, and once for the judge
    assert len(written) == 4
    assert set(served.answered.values()) == {1}
    assert served.answered.total() == 8
    for folder in (run.scores.path, run.scores.path / "judge"):
        samples, scores = read_samples(folder / "samples.jsonl"), read_json(folder / "scores.json")
        assert len(generation.read(folder / generation.FILE)) == len(samples) == 4
        assert scores["settings"]["generation"].startswith("continuous, transformers ")
    assert report([str(run.path), "--out", str(tmp_path / "out")]) == 0
