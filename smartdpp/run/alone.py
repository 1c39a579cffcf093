"""A run from overrides alone: for commands that make runs by themselves, without Hydra's own start."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig

from smartdpp.config.compose import compose_here
from smartdpp.errors import InputError
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import composed_run


def prepared(overrides: Sequence[str]) -> Run:
    """InputError for what does not compose or cannot start."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        cfg = compose_here(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(" ".join(str(error).split())) from None
    HydraConfig.instance().set_config(cfg)
    return composed_run(cfg)
