"""Overrides that Hydra cannot read come with the quoting that works; what is none is refused in words."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from smartdpp.config.compose import conf_dir
from smartdpp.config.overrides import arranged, no_such_key, options, refuse
from smartdpp.config.schema import Config
from smartdpp.errors import InputError
from smartdpp.study.cells import cells

KEYS = list(Config.__dataclass_fields__)


def said(*overrides: str) -> str:
    with pytest.raises(InputError) as error:
        refuse(overrides, options(conf_dir()), KEYS)
    return str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        "a=b.jsonl",
        "my data (1)/in.jsonl",
        "été/输出 (2).jsonl",
        "a[b",
        "{odd",
        "it's",
        "C:\\x(1)",
        "'a",
        "$HOME(1)",
        "x,y=z",
        "50%(a)",
    ],
)
def test_a_value_with_characters_of_a_meaning_is_shown_as_it_is_typed(value: str) -> None:
    shown = said(f"corpus.path={value}").rpartition("; write ")[2]
    (typed,) = shlex.split(shown)
    assert OverridesParser.create().parse_override(typed).value() == value


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (['corpus.columns={"prompt": "my question", "task": null}'], {"prompt": "my question", "task": None}),
        (["corpus.columns={'prompt': 'question', 'id': 1}"], {"prompt": "question", "id": 1}),
        (
            ["corpus.columns={prompt:", "question,", "response:", "answer}"],
            {"prompt": "question", "response": "answer"},
        ),
        (['corpus.columns={"a": ["b c", true, "1"]}'], {"a": ["b c", True, "1"]}),
    ],
    ids=["JSON", "Python", "parted by the shell", "a list inside"],
)
def test_a_mapping_is_shown_as_hydra_writes_it(given: list[str], wanted: dict) -> None:
    told = said("seed=1", *given, "budget=3")
    (typed,) = shlex.split(told.rpartition("; write ")[2])
    assert OverridesParser.create().parse_override(typed).value() == wanted
    assert ("the shell has parted it" in told) == (len(given) > 1)
    assert "\n" not in told


@pytest.mark.parametrize(
    "value",
    ["null", "[random]", "", "{}", "3", "true", "1.5", "../../x", "../strategy/random", "/etc/x", "[a,b]"],
)
def test_an_option_is_a_name(value: str) -> None:
    told = said(f"strategy={value}")
    assert told.startswith(f"strategy={value}: ")
    assert told.endswith(", ".join(options(conf_dir())["strategy"]))


def test_every_choice_of_a_sweep_is_looked_at() -> None:
    refuse(["strategy=dpp,random", "embedding@probe=glob(*)", "budget=1,2"], options(conf_dir()), KEYS)
    refuse(["strategy='dpp','random'", 'quality=choice("pmi","ifd")'], options(conf_dir()), KEYS)
    assert "../x is no option's name" in said("strategy=dpp,../x")


def test_what_a_run_needs_cannot_be_taken_away() -> None:
    assert said("~budget", "~strategy", "~pool").splitlines() == [
        f"~{key}: a run needs {key}; give {key}=VALUE" for key in ("budget", "strategy", "pool")
    ]
    refuse(["~quality.model", "~strategy.tasks"], options(conf_dir()), KEYS)


def test_flags_may_stand_anywhere() -> None:
    assert arranged(["corpus=jsonl", "-m", "seed=0,1", "-cd", "experiments", "budget=1"]) == [
        *("-m", "-cd", "experiments"),
        *("corpus=jsonl", "seed=0,1", "budget=1"),
    ]
    assert arranged(["seed=1", "--cfg=job", "--info", "all"]) == ["--cfg=job", "--info", "all", "seed=1"]
    with pytest.raises(
        InputError,
        match="--strategy: there is no such flag; a setting is written without dashes: strategy=dpp",
    ):
        arranged(["--strategy", "dpp"])
    with pytest.raises(InputError, match="without dashes: budget=3"):
        arranged(["seed=1", "--budget=3"])


def test_a_key_that_there_is_not_comes_with_the_nearest() -> None:
    assert no_such_key("stratgy", conf_dir(), KEYS) == "stratgy: there is no such key; did you mean strategy?"
    assert no_such_key("strategy.num_task", conf_dir(), KEYS).endswith("did you mean strategy.num_tasks?")
    said = no_such_key("evaluation.limit", conf_dir(), KEYS)
    assert "it is a key of evaluation=ability, bbh, harness, heldout, " in said
    assert said.endswith(": name one of them beside it, or evaluation.of.NAME.limit of evaluation=combined")
    assert no_such_key("probe.dmi", conf_dir(), KEYS).endswith("did you mean probe.dim?")


def test_a_study_is_given_the_same_sentences() -> None:
    study = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
    with pytest.raises(InputError, match=r"several in one run are evaluation=combined$"):
        cells(study, ["evaluation=[heldout,indomain]"])
    with pytest.raises(InputError, match=r"strategy=null: one option is chosen"):
        cells(study, ["strategy=null"])
    with pytest.raises(InputError, match=r"root=a\(b: Hydra cannot read this value"):
        cells(study, ["root=a(b"])
