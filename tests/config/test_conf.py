"""Every YAML under conf/ and experiments/: composes, passes the check, and instantiates."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException

from smartdpp.config.check import check
from smartdpp.config.compose import compose_here, conf_dir
from smartdpp.config.schema import GROUPS, Config
from tests.conftest import handed_over

ROOT = conf_dir().parent
CONF = conf_dir()
OPTIONS = sorted(
    path.relative_to(conf_dir()) for path in conf_dir().rglob("*.yaml") if path.parent != conf_dir()
)
STUDIES = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))
NEEDS = {  # options that cannot work without a value of the user's
    "corpus/jsonl": ["corpus.path={data}"],
    "corpus/arena_file": ["corpus.path={data}", "corpus.target=[add]"],
    "corpus/hub": ["corpus.path=owner/name"],
    "query/file": ["strategy.query.path={data}"],
    "strategy/weights": ["strategy.weights={{add: 1}}"],
    "strategy/reselect": ["embedding=gradient"],
    "embedding/sentence": ["embedding.model=org/model"],
    "model/hub": ["model.path=org/model"],
    "quality/reward": ["quality.model.path=org/model"],
    "evaluation/jsonl": ["evaluation.path={data}"],
    "evaluation/indomain_file": ["evaluation.path={data}"],
    "judge/endpoint": ["evaluation.judge.base_url=http://localhost:1/v1", "evaluation.judge.model=name"],
    "judge/reward": ["evaluation.judge.path=org/model"],
    "evaluation/harness": ["evaluation.tasks=[arc_easy]"],
}
REFUSED_WITHOUT = {  # what check says where it is missing
    "evaluation/ifeval": "punkt_tab",
    "recipe/qlora": "CUDA",
    "recipe/smart_fsdp": "8 processes",
    "runtime/ray": "the package ray",
}


def composed(*overrides: str, name: str = "config", folder: Path = CONF):
    searched = f"hydra.searchpath=[file://{conf_dir()}]"
    return handed_over(compose_here([searched, *overrides], name, folder))


def test_all_of_them_are_found() -> None:
    assert len(OPTIONS) >= 44
    assert len(OPTIONS) == len(list(conf_dir().glob("*/*.yaml"))), (
        "options lie one folder deep: a group, then its options"
    )
    assert {"needle", "noise", "skew", "quickstart"} <= set(STUDIES)
    assert {path.parts[0] for path in OPTIONS} == {*GROUPS, "runtime", "function", "query", "judge"} - {
        "probe"
    }


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_an_option_composes_and_passes_the_check(option: Path, corpus: Path) -> None:
    import nltk
    import torch

    group, name = str(option.parent), option.stem
    extra = [override.format(data=corpus) for override in NEEDS.get(f"{group}/{name}", [])]
    choices = {
        "function": [f"function@strategy.tasks={name}", f"function@strategy.instances={name}"],
        "query": ["strategy=targeted", f"query@strategy.query={name}"],
        "judge": ["evaluation=judge", f"judge@evaluation.judge={name}"],
    }.get(group, [f"{group}={name}"])
    cfg = composed(*choices, *extra)
    gpus = torch.cuda.device_count()
    here = {"CUDA": gpus > 0, "8 processes": gpus >= 8, "the package ray": find_spec("ray") is not None}
    here["punkt_tab"] = any((Path(folder) / "tokenizers" / "punkt_tab").exists() for folder in nltk.data.path)
    refusal = REFUSED_WITHOUT.get(f"{group}/{name}")
    if refusal and not here[refusal]:
        with pytest.raises(ValueError, match=refusal):
            check(cfg)
    else:
        assert check(cfg).strategy is not None


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_composes_and_passes_the_check(study: str, corpus: Path) -> None:
    files = {"t0": [f"corpus.path={corpus}", f"evaluation.of.bbh.path={corpus}"]}
    cfg = composed(*files.get(study, []), name=study, folder=ROOT / "experiments")
    assert check(cfg).strategy is not None
    assert cfg.report


def test_settings_of_one_evaluation_are_those_of_heldout_where_none_is_named() -> None:
    alone = composed("evaluation.limit=4", "evaluation.tasks=[gcd]").evaluation
    assert alone == composed("evaluation=heldout", "evaluation.limit=4", "evaluation.tasks=[gcd]").evaluation
    assert composed("evaluation.of.heldout.limit=4").evaluation.of.keys() == {"heldout", "indomain"}
    needle = composed("evaluation.limit=4", name="needle", folder=ROOT / "experiments").evaluation
    assert (needle.limit, needle._target_.rpartition(".")[2]) == (4, "Ability")
    for wrong in (["evaluation.limt=4"], ["evaluation=combined", "evaluation.limit=4"]):
        with pytest.raises(ConfigCompositionException, match="Could not override"):
            composed(*wrong)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_an_option_opens_with_what_it_is_and_how_to_run_it(option: Path) -> None:
    head = []
    for line in (conf_dir() / option).read_text().splitlines():
        if not line.startswith("#"):
            break
        head.append(line)
    text = "\n".join(head)
    assert "python run.py" in text
    assert re.search(r"(Try|Worth trying)\b.*: ", text)


def test_the_groups_of_the_schema_are_the_groups_that_are_checked() -> None:
    assert set(GROUPS) < set(Config.__dataclass_fields__)
