"""What Hydra has to know before it composes: where conf/ lies, the schema, and a resolver."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from smartdpp.config.overrides import compose_without_code
from smartdpp.config.schema import Config
from smartdpp.store import remote

OmegaConf.register_new_resolver("folder_of", lambda root: str(remote.folder(root)), replace=True)  # here, for workers that only import this


def register() -> None:
    """Makes the schema known to Hydra. Idempotent."""
    ConfigStore.instance().store(name="schema", node=Config)
    compose_without_code()


def conf_dir() -> Path:
    """conf/ inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"
