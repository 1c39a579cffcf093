"""A pilot's runs: ordinary ones, made by the pipeline one after another, found again by a second call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from smartdpp.config.compose import conf_dir, register
from smartdpp.errors import InputError
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute, prepare

RANDOM = "random"
WAYS: dict[str, tuple[str, ...]] = {
    RANDOM: ("strategy=random",),
    "towards the target": ("strategy=targeted", "strategy.function=round_robin"),
    "diverse": ("strategy=dpp",),
}
"""What is tried: chance, and the two cheap ideas, nearness to the target and diversity."""


@dataclass(frozen=True)
class Asked:
    pool: str  # a path, quoted as Hydra reads it
    target: str  # the same
    budget: int
    documents: int  # of each of the target's tasks, scored
    query: int  # of each, known to the ways that choose towards it
    root: Path
    overrides: tuple[str, ...] = ()

    def of(self, way: str, seed: int) -> list[str]:
        return [
            "corpus=jsonl",
            f"corpus.path={self.pool}",
            "evaluation=indomain_file",
            f"evaluation.path={self.target}",
            f"evaluation.limit={self.documents}",
            "evaluation.generate=false",
            "tracker=none",
            "diversity=none",
            f"budget={self.budget}",
            f"seed={seed}",
            f"root={json.dumps(str(self.root), ensure_ascii=False)}",
            *WAYS[way],
            *([f"strategy.query.per_task={self.query}"] if "strategy=targeted" in WAYS[way] else []),
            *self.overrides,
        ]


def prepared(overrides: Sequence[str]) -> Run:
    """InputError for what does not compose or cannot start."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    register()
    try:
        with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
            cfg = compose("config", list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(" ".join(str(error).split())) from None
    HydraConfig.instance().set_config(cfg)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    OmegaConf.resolve(cfg)
    return prepare(cfg, choices)


def made(asked: Asked, way: str, seed: int) -> Path:
    """The run's folder, finished. InputError for what cannot start, before any work."""
    run = prepared(asked.of(way, seed))
    execute(run)
    return run.path
