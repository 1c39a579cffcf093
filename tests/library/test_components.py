"""Components by name and options, as the command composes them."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from smartdpp.config.compose import compose_here, conf_dir
from smartdpp.config.overrides import options
from smartdpp.errors import InputError
from smartdpp.library.components import made, node

MODEL = node("model", "smollm2_135m")


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group in ("strategy", "embedding", "quality", "diversity", "model")
        for name in options(conf_dir())[group]
    ],
)
def test_a_name_means_what_it_means_on_the_command_line(group: str, name: str) -> None:
    given = {("model", "hub"): {"path": "a/b"}, ("quality", "reward"): {"model.path": "a/b"}}.get(
        (group, name), {}
    )
    cfg = compose_here([f"{group}={name}", *[f"{group}.{key}={value}" for key, value in given.items()]])
    expected = OmegaConf.to_container(
        cfg[group] if group == "model" else OmegaConf.create({"model": MODEL, group: cfg[group]}),
        resolve=True,
    )
    assert node(group, name, given, MODEL) == (expected if group == "model" else expected[group])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_tasks": 3, "tasks.lam": 0.2}, ["strategy.num_tasks=3", "strategy.tasks.lam=0.2"]),
        (
            {"tasks": "logdet", "tasks.ridge": 1.0},
            ["function@strategy.tasks=logdet", "strategy.tasks.ridge=1.0"],
        ),
    ],
)
def test_options_are_those_of_the_command_line(given: dict, words: list[str]) -> None:
    cfg = compose_here(words)
    assert node("strategy", "smart", given) == OmegaConf.to_container(cfg.strategy, resolve=True)


@pytest.mark.parametrize(
    ("group", "name", "given", "said"),
    [
        ("strategy", "smrt", {}, "strategy='smrt': there is no such strategy; did you mean smart?"),
        ("strategy", "dpp", {"thta": 1}, "strategy.thta: Dpp has no parameter 'thta'; did you mean theta?"),
        ("strategy", "dpp", {"theta": 2.0}, "strategy.theta is 2.0"),
        ("strategy", "dpp", {"theta": "a"}, "strategy.theta='a'"),
        ("strategy", "dpp", {"tasks.lam": 1}, "strategy=dpp has no component 'tasks'; it has none"),
        (
            "strategy",
            "smart",
            {"tasks": "logdt"},
            "function='logdt': there is no such function; did you mean logdet?",
        ),
        ("embedding", "sentence", {}, "embedding.model has no value"),
        ("model", "hub", {}, "model=hub: model.path has no value; give one with model_options."),
    ],
)
def test_what_is_not_there_is_said_with_the_nearest(group: str, name: str, given: dict, said: str) -> None:
    with pytest.raises(InputError) as refused:
        made(group, node(group, name, given, MODEL))
    assert said in str(refused.value)
