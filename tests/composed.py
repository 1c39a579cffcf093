"""Configurations and runs as the command line composes and prepares them, in this process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from smartdpp.config.compose import conf_dir, register
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import prepare


def composed(*overrides: str, name: str = "config", folder: Path | None = None) -> DictConfig:
    """With Hydra's own part, ``cfg.hydra``. What two of them have in common is composed once, as for the
    cells of a sweep."""
    register()
    with initialize_config_dir(str(folder or conf_dir()), version_base="1.3"):
        hydra: Any = GlobalHydra.instance().hydra
        hydra.config_loader = _first(str(folder or conf_dir()))
        return compose(name, list(overrides), return_hydra_config=True)


@cache
def _first(folder: str) -> Any:
    """The loader that Hydra has just made for a folder, for all that is composed from it."""
    hydra: Any = GlobalHydra.instance().hydra
    return hydra.config_loader


def handed_over(cfg: DictConfig) -> DictConfig:
    """As Hydra hands a configuration to the task function: its own part aside."""
    HydraConfig.instance().set_config(cfg)
    del cfg.hydra
    return cfg


def run_of(*overrides: str) -> Run:
    cfg = handed_over(composed(*overrides))
    return prepare(cfg, HydraConfig.get().runtime.choices)
