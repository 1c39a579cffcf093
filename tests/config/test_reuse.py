"""What is composed once for the cells of a sweep is what Hydra composes for each of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins import file_config_source
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from smartdpp.config.compose import conf_dir, register
from smartdpp.config.reuse import copied
from tests.run.test_golden_names import GOLDEN

REPLACED = (
    "_parse_overrides_and_create_caching_repo",
    "_compose_config_from_defaults_list",
)


@contextmanager
def loader(folder: Path | None = None) -> Iterator[None]:
    register()
    with initialize_config_dir(str(folder or conf_dir()), version_base="1.3"):
        yield


def made(overrides: str) -> DictConfig:
    return compose("config", overrides.split(), return_hydra_config=True)


@contextmanager
def hydras_own() -> Iterator[None]:
    """Hydra as it is without us."""
    register()
    with pytest.MonkeyPatch.context() as patch:
        for owner, names in (
            (ConfigLoaderImpl, REPLACED),
            (config_loader_impl, ("create_defaults_list",)),
            (file_config_source.FileConfigSource, ("load_config",)),
        ):
            for name in names:
                patch.setattr(owner, name, getattr(owner, name).__wrapped__)
        yield


def everything(cfg: DictConfig) -> tuple[str, list[object]]:
    """What a configuration says, and what it lets be said: as YAML, and each node's type and flags."""
    flags: list[object] = []

    def walk(node: object) -> None:
        flags.append((type(node), vars(node._metadata) | {"resolver_cache": None}))  # type: ignore[attr-defined]
        content = vars(node).get("_content")
        for inner in content.values() if isinstance(content, dict) else content or ():
            if not isinstance(inner, str):
                assert inner._parent is node
                walk(inner)

    walk(cfg)
    return OmegaConf.to_yaml(cfg), flags


SOME = list(dict.fromkeys([*list(GOLDEN)[1::12], *list(GOLDEN)[-14:-8:2]]))


def test_a_cell_is_composed_to_the_same_bytes_as_by_hydra_itself() -> None:
    cells = [f"{overrides} seed={seed} budget=2{seed}".strip() for overrides in SOME for seed in (1, 2)]
    with loader():
        ours = [everything(made(cell)) for cell in cells]  # the second of a pair comes from the first
    own = cells[::2] + cells[1::8]
    with hydras_own(), loader():
        theirs = {cell: everything(made(cell)) for cell in own}
    assert {cell: found for cell, found in zip(cells, ours, strict=True) if cell in theirs} == theirs


def test_what_one_cell_changes_is_not_seen_by_the_next() -> None:
    with loader():
        first = made("strategy=random +pool.new=1")
        first.pool.max_tokens = 1
        first.hydra.job.name = "mine"
        second = made("strategy=random")
    assert "new" not in second.pool
    assert second.pool.max_tokens == 256
    assert second.hydra.job.name != "mine"


def test_a_copy_is_a_deep_copy() -> None:
    with loader():
        cfg = made("strategy=smart +pool.more=[1,{a:2}]")
    twin = copied(cfg)
    assert everything(twin) == everything(copy.deepcopy(cfg))
    twin.pool.more[1].a = 3
    assert cfg.pool.more[1].a == 2


@pytest.mark.parametrize(
    ("overrides", "kind", "said"),
    [
        ("budgets=3", ConfigCompositionException, "budgets"),
        ("strategy=nosuch", MissingConfigException, "strategy/nosuch"),
        ("budget=abc", ConfigCompositionException, "budget=abc"),
    ],
)
def test_a_wrong_override_is_told_as_often_as_it_is_given(
    overrides: str, kind: type[Exception], said: str
) -> None:
    with loader():
        made("seed=1")
        for _ in range(2):
            with pytest.raises(kind, match=said):
                made(overrides)
        assert made("seed=1").seed == 1


def test_a_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for value in (1, 23):
        path.write_text(f"a: {value}\n")
        with loader(tmp_path):
            assert compose("config").a == value
