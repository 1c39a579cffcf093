"""Runs as the command line prepares them, in this process."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from smartdpp.config.compose import compose_here
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import prepare


def handed_over(cfg: DictConfig) -> DictConfig:
    """As Hydra hands a configuration to the task function: its own part aside."""
    HydraConfig.instance().set_config(cfg)
    del cfg.hydra
    return cfg


def run_of(*overrides: str) -> Run:
    cfg = handed_over(compose_here(overrides))
    return prepare(cfg, HydraConfig.get().runtime.choices)
