"""A configuration chooses among components, and runs nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from smartdpp.config import allowed
from smartdpp.config.check import check, component
from smartdpp.errors import InputError
from smartdpp.runtime.processes import as_config

WRITE = {"_target_": "smartdpp.store.write_text", "path": "{planted}", "text": "ran"}
PLANTED = {  # where a YAML may stand for something to be run, and what it may stand there as
    "strategy": WRITE,
    "corpus": {"_target_": "smartdpp.corpus.jsonl.Path.touch", "_args_": ["{planted}"]},
    "tracker": {"_target_": "smartdpp.track.os.system", "_args_": ["touch {planted}"]},
    "strategy.tasks": WRITE,
    "strategy.num_tasks": {"_target_": "os.mkdir", "path": "{planted}"},
    "corpus.columns": {"prompt": {"_target_": "os.mkdir", "path": "{planted}"}},
    "evaluation.tasks": [{"_target_": "os.mkdir", "path": "{planted}"}],
    "pool.max_tokens": {"_target_": "os.mkdir", "path": "{planted}"},
    "report": {"title": {"_target_": "os.mkdir", "path": "{planted}"}},
    "strategy.instances": {"_target_": "smartdpp.strategies.smart.Smart"},
    "embedding": {"_target_": "smartdpp.models.Tiny"},
    "diversity": {"_target_": "smartdpp.diversity.__main__.main"},
    "model": {"_target_": "smartdpp.models.Path"},
    "runtime": {"_target_": "smartdpp.runtime.cluster.Ray", "_recursive_": False},
}


def filled(node: Any, planted: Path) -> Any:
    if isinstance(node, dict):
        return {key: filled(value, planted) for key, value in node.items()}
    if isinstance(node, list):
        return [filled(value, planted) for value in node]
    return node.replace("{planted}", str(planted)) if isinstance(node, str) else node


@pytest.mark.parametrize("place", PLANTED)
def test_nothing_planted_is_run(configure: Callable[..., DictConfig], tmp_path: Path, place: str) -> None:
    cfg = configure("strategy=smart")
    OmegaConf.update(cfg, place, filled(PLANTED[place], tmp_path / "planted"), merge=False, force_add=True)
    with pytest.raises(InputError, match=place.split(".")[0]):
        check(cfg)
    assert not (tmp_path / "planted").exists()


def test_a_module_outside_the_groups_package_is_not_imported() -> None:
    sys.modules.pop("smartdpp.report.__main__", None)
    for target in (
        "smartdpp.report.__main__.main",
        "smartdpp.strategies.__main__.main",
        "this.Flag",
        "smartdpp.strategies_evil.Smart",
    ):
        with pytest.raises(InputError, match=r"strategy\._target_="):
            component("strategy", {"_target_": target})
    assert "smartdpp.report.__main__" not in sys.modules
    assert "this" not in sys.modules


def test_a_component_of_another_group_is_told_what_it_lacks() -> None:
    with pytest.raises(InputError, match=r"a strategy lies in smartdpp\.strategies"):
        component("strategy", {"_target_": "smartdpp.models.Tiny"})
    with pytest.raises(InputError, match="this is no strategy, which has select, size too"):
        component("strategy", {"_target_": "smartdpp.strategies.automatic.Auto"})


def test_what_another_process_is_sent_is_a_component_again() -> None:
    from smartdpp.models import Tiny

    assert component("model", as_config(Tiny())) == Tiny()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+stratgy=dpp", "stratgy: there is no such key; did you mean strategy"),
        ("+seeds=3", "did you mean seed"),
        ("+pool.max_token=3", "did you mean max_tokens"),
        ("+price.tokens=3", "pool|tokens_per"),
        ("+report.titel=x", "report.titel: .*did you mean title"),
        ("~budget", "budget: there is none"),
        ("~strategy", "strategy: nothing chosen"),
    ],
)
def test_a_key_that_means_nothing_and_one_that_is_gone(
    configure: Callable[..., DictConfig], override: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        check(configure(override))


def test_what_a_report_takes_is_known_here() -> None:
    from smartdpp.config.schema import REPORT
    from smartdpp.study.cells import Wanted

    assert set(REPORT) == set(Wanted.__dataclass_fields__)


@pytest.mark.parametrize("name", ["../../x", "/etc/x", ".hidden", "a/b", "..", "-x", "a b"])
def test_a_runs_folder_lies_below_runs_whatever_an_option_is_called(name: str) -> None:
    from smartdpp.config.identity import slug

    made = slug({"budget": 3, "seed": 0}, {"strategy": name, "embedding": name})
    assert Path(made).name == made
    assert not made.startswith((".", "-"))


def test_a_component_may_leave_out_what_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy of one's own that has nothing to check says nothing of it."""
    mine = ModuleType("smartdpp.strategies.mine")

    @dataclass(frozen=True)
    class Mine:
        def size(self, n: int, budget: int) -> int:
            return budget

        def select(self, pool: Any, budget: int, rng: Any) -> Any: ...

    Mine.__module__ = mine.__name__
    mine.Mine = Mine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, mine.__name__, mine)
    assert allowed.component("strategy", f"{mine.__name__}.Mine")().check() == []
