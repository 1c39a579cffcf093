"""The command line: ``python run.py`` in a checkout, ``smartdpp`` once installed. Hydra composes, the pipeline runs.

In a sweep a cell that another process is working on is left for the end, so that several terminals given the same sweep share it.
"""

from __future__ import annotations

import logging
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from smartdpp import console
from smartdpp.config import conf_dir, redact, register
from smartdpp.errors import InputError
from smartdpp.pipeline import Run, execute, prepare
from smartdpp.store import Busy

log = logging.getLogger(__name__)
left_for_later: list[Run] = []


class Failure(CompactHydraException):
    """Hydra prints it without a traceback and exits with status 1."""


def cell(cfg: DictConfig) -> float | None:
    """One run, or one cell of a sweep. Returns the score, so that Hydra's sweepers can optimise it."""
    console.start()
    sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        OmegaConf.resolve(cfg)
        chosen = HydraConfig.get().runtime.choices
        run = prepare(cfg, {group: name for group, name in chosen.items() if not group.startswith("hydra/")})
        try:
            return execute(run, wait=not sweeping)
        except Busy:
            log.info("%s: another process is working on it; coming back to it at the end", run.slug)
            left_for_later.append(run)
            return None
    except (InputError, OSError, OmegaConfBaseException) as error:
        name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        message = redact(f"error: {name}{error}")
        if sweeping:  # the other cells go on; Hydra reports this one and exits with status 1 at the end
            raise Failure(message) from None
        sys.exit(message)


def main() -> None:
    register()
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(cell)()
    for run in left_for_later:
        try:
            execute(run)
        except InputError as error:
            sys.exit(redact(f"error: {error}"))


if __name__ == "__main__":
    main()
