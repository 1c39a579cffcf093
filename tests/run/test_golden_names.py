"""Run names and artifact keys as they were when the rooms were laid out: a change of any of them makes work
anew that people have done.

A name that changes on purpose is written here anew, with a line in CHANGELOG.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartdpp.config.check import check
from smartdpp.config.compose import compose_here
from smartdpp.run.cell import Run
from smartdpp.run.stages import artifacts

GOLDEN = json.loads((Path(__file__).parent / "golden_names.json").read_text(encoding="utf-8"))
CORPUS = '{"task": "t%d", "prompt": "p %d", "response": "r %d"}\n'


def named(overrides: list[str]) -> dict[str, str]:
    cfg = compose_here(overrides)
    choices = dict(cfg.hydra.runtime.choices)
    del cfg.hydra
    run = Run(
        cfg, check(cfg), {group: name for group, name in choices.items() if not group.startswith("hydra/")}
    )
    return {"run": run.slug} | {
        name: f"{artifact.stage}/{artifact.key}" for name, artifact in artifacts(run).items()
    }


@pytest.mark.parametrize("which", ["jsonl", "indomain_file", "judge"])
def test_a_mapping_is_given_like_any_value_and_none_is_what_an_empty_one_was(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(CORPUS % (i % 3, i, i) for i in range(12)))
    monkeypatch.chdir(tmp_path)
    file = ["evaluation.path=rows.jsonl", *(["evaluation.instructions=file"] if which == "judge" else [])]
    run = [f"root={tmp_path}", f"evaluation={which}", *file]
    assert named([*run, "evaluation.columns={}", "evaluation.constants={}"]) == named(run)
    asked = "evaluation.columns={prompt: response, response: prompt}"
    assert named([*run, asked]) == named([*run, f"+{asked}"]) != named(run)


@pytest.mark.parametrize("overrides", list(GOLDEN))
def test_runs_and_artifacts_keep_their_names(
    overrides: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(CORPUS % (i % 3, i, i) for i in range(12)))
    monkeypatch.chdir(tmp_path)
    assert named([f"root={tmp_path}", *overrides.split()]) == GOLDEN[overrides]
