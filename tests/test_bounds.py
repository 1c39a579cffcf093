"""Every number of every component is held to its bounds before any work."""

from __future__ import annotations

import copy
import inspect
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from smartdpp.bounds import LARGEST_WHOLE
from smartdpp.config import allowed
from smartdpp.config.check import component
from smartdpp.errors import InputError
from tests.config.test_conf import NEEDS, OPTIONS, composed

NEVER = (math.nan, math.inf, -math.inf, 1e308, 2**32, 10**30, True, "3", [3])
MEANT = {  # what is allowed at -1 and at 0; everywhere else both are refused
    ("Hidden", "layer"): {-1, 0},
    ("LogDetDistance", "truncate"): {-1},
    ("Oracle", "at_least"): {-1, 0},
    ("Top", "above"): {-1, 0},
    ("Top", "below"): {-1, 0},
    **{
        (name, parameter): {0}
        for name, parameters in {
            "Ability": "seed",
            "AllMeasures": "seed vendi_q",
            "Arena": "copied mismatched seed",
            "ArenaFile": "copied mismatched seed",
            "Dpp": "ridge theta",
            "DppSample": "ridge theta",
            "Dsir": "min_words temperature",
            "Flan2022": "max_bad_share",
            "Endpoint": "retries temperature",
            "Finetune": "dropout warmup weight_decay",
            "Gradient": "seed",
            "Gist": "diversity",
            "GraphCut": "lam",
            "Harness": "num_fewshot seed",
            "Heldout": "seed",
            "Hub": "max_bad_share",
            "Indomain": "num_fewshot seed spare",
            "IndomainFile": "num_fewshot seed",
            "Jsonl": "cluster_seed max_bad_share num_fewshot seed",
            "Judged": "seed temperature",
            "Less": "seed",
            "LogDet": "ridge theta",
            "Qdit": "alpha",
            "Rated": "alpha",
            "Ray": "gpus retries",
            "ReasoningGym": "seed",
            "Targeted": "eta redundancy",
            "Task2Vec": "seed",
            "Tfidf": "seed",
            "Tiny": "seed",
            "Tsds": "sigma",
            "Warmup": "seed",
        }.items()
        for parameter in parameters.split()
    },
}


def components(
    node: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    yield path, node
    for key, inside in node.items():
        if isinstance(inside, dict) and "_target_" in inside:
            yield from components(inside, (*path, key))


def numbers(target: str) -> Iterator[tuple[str, str]]:
    module_name, _, name = target.rpartition(".")
    kind = getattr(__import__(module_name, fromlist=[name]), name)
    names = {"Model": Any, "Query": Any, "Literal": typing.Literal}
    for parent in kind.__mro__:  # a parameter that is inherited is annotated in its own module
        names |= vars(inspect.getmodule(parent))
    hints = typing.get_type_hints(kind.__init__, names)
    for parameter, hint in hints.items():
        if typing.get_origin(hint) is not tuple and any(
            part in (int, float) for part in (hint, *typing.get_args(hint))
        ):
            yield kind.__name__, parameter


def accepted(group: str, plain: dict[str, Any], path: tuple[str, ...], parameter: str, value: Any) -> bool:
    changed = copy.deepcopy(plain)
    node = changed
    for key in path:
        node = node[key]
    node[parameter] = value
    try:
        component(group, changed)
    except InputError as error:
        said = str(error)
    else:
        return True
    assert parameter in said
    return False


@pytest.mark.parametrize(
    "option",
    [option for option in OPTIONS if option.parts[0] not in ("model",) or option.stem == "tiny"],
    ids=str,
)
def test_a_number_out_of_bounds_is_refused(option: Path, corpus: Path) -> None:
    group, name = str(option.parent), option.stem
    choices = {
        "function": [f"function@strategy.tasks={name}"],
        "query": ["strategy=targeted", f"query@strategy.query={name}"],
        "judge": ["evaluation=judge", f"judge@evaluation.judge={name}"],
    }.get(group, [f"{group}={name}"])
    cfg = composed(*choices, *(override.format(data=corpus) for override in NEEDS.get(f"{group}/{name}", [])))
    group = group if group in cfg else {"judge": "evaluation"}.get(group, "strategy")
    plain: Any = OmegaConf.to_container(cfg[group], resolve=True)
    component(group, plain)
    for path, node in components(plain):
        for kind, parameter in numbers(node["_target_"]):
            meant = MEANT.get((kind, parameter), set())
            found = {value for value in (-1, 0) if accepted(group, plain, path, parameter, value)}
            assert found == meant, f"{kind}.{parameter} may be {found}, meant are {meant}"
            for value in NEVER:
                assert not accepted(group, plain, path, parameter, value), (
                    f"{kind}.{parameter} may be {value}"
                )


@pytest.mark.parametrize("value", ["-1", str(LARGEST_WHOLE + 1), "1.5", "null", "true", "abc"])
def test_a_seed_is_one_that_every_library_takes(configure: Any, value: str) -> None:
    from hydra.errors import HydraException

    from smartdpp.config.check import check

    with pytest.raises((InputError, HydraException), match="seed"):
        check(configure(f"train_seed={value}"))
    assert check(configure(f"seed={LARGEST_WHOLE}"))


def test_functions_are_made_when_their_features_are_there() -> None:
    node = {
        "_target_": "smartdpp.strategies.submodular.Submodular",
        "function": {"_target_": "smartdpp.functions.GraphCut", "_partial_": True},
    }
    assert component("strategy", node).function([[1.0, 0.0]]).lam == 0.4
    with pytest.raises(InputError, match="functions have _partial_: true"):
        component("strategy", node | {"function": {"_target_": "smartdpp.functions.GraphCut"}})
    with pytest.raises(InputError, match=r"strategy.function.lam=-1.*greater than or equal to 0"):
        component(
            "strategy",
            node | {"function": {"_target_": "smartdpp.functions.GraphCut", "_partial_": True, "lam": -1}},
        )
    assert allowed.inside(type(component("strategy", node)), "function")[0] == ["function"]
