"""What writes the answers, in a whole run: stated, refused before any work, and what it wrote is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation import engines
from smartdpp.run.cell import Run
from smartdpp.run.stages import stages

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
