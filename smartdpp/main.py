"""The command line: ``python run.py`` in a checkout, ``smartdpp`` once installed. Hydra composes, the
pipeline runs.

In a sweep a cell that another process is working on is left for the end, so that several terminals given the
same sweep share it. Under another launcher or sweeper than Hydra's basic ones it waits instead: a worker has
no end to come back to, and a sweeper wants a score.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
from collections import Counter
from importlib import import_module

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from smartdpp.config.compose import conf_dir, plan_at_once, register, save_no_secret
from smartdpp.config.overrides import arranged, given, no_such_key, options, refuse
from smartdpp.config.schema import Config
from smartdpp.errors import InputError, did_you_mean
from smartdpp.logs import terminal
from smartdpp.logs.redact import redact, redacted
from smartdpp.run import plan
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute, prepare
from smartdpp.runtime import gpus
from smartdpp.runtime.processes import refuse_other_launchers
from smartdpp.store.locks import Busy
from smartdpp.study import power
from smartdpp.study.results import SEEDS

log = logging.getLogger(__name__)
# the user's wish, read before main() sets it for its own use
WANTS_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"
BASIC = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
)
# no runs: Hydra does not see their words
COMMANDS = {
    "select": "smartdpp.library.command",
    "export": "smartdpp.export.command",
    "pilot": "smartdpp.pilot.command",
}
KEYS = list(Config.__dataclass_fields__)
left_for_later: list[Run] = []
planned: list[tuple[list[str], Run]] = []  # with their overrides
refused: Counter[str] = Counter()  # why cells of this sweep failed, and how many
USER_ERRORS = (InputError, HydraException, OmegaConfBaseException, yaml.YAMLError, OSError)


class Failure(Exception):
    """A cell of a sweep that could not be run; the sweep goes on and ends with exit status 1."""


def cell(cfg: DictConfig) -> float | None:
    """One run, or one cell of a sweep. Returns the score, so that Hydra's sweepers can optimise it."""
    terminal.start()
    hydra_config = HydraConfig.get()
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    basic = (hydra_config.launcher["_target_"], hydra_config.sweeper["_target_"]) == BASIC
    try:
        refuse_other_launchers()  # here too: a worker of another launcher has an environment of its own
        OmegaConf.resolve(cfg)
        if sweeping and cfg.until != "plan":
            gpus.claim(_processes(cfg))
        run = prepare(cfg, hydra_config.runtime.choices)
        if sweeping and basic and cfg.until == "plan":
            planned.append((redacted(list(hydra_config.overrides.task)), run))
            return None
        try:
            score = execute(run, wait=not (sweeping and basic))
            if sweeping:
                _leave_libraries_alone()
            return score
        except Busy:
            log.info("%s: another process is working on it; coming back to it at the end", run.slug)
            left_for_later.append(run)
            return None
    except USER_ERRORS as error:
        if not sweeping:  # leaving here spares the reader Hydra's own lines around the message
            if WANTS_TRACEBACKS:
                raise
            sys.exit(f"error: {said(error)}")
        # in a run the log says when; a plan fails at once
        raise _failure(" ".join(HydraConfig.get().overrides.task), error, cfg.until != "plan") from None
    except Exception:
        if sweeping:
            log.exception("failed: %s", " ".join(HydraConfig.get().overrides.task))
        raise


def _processes(cfg: DictConfig) -> int:
    """How many GPUs a cell works on at once. What is no number is refused with all else that is wrong."""
    groups = [cfg[group] for group in ("recipe", "embedding", "probe", "quality", "task_vector")]
    asked = [group.get("processes", 1) for group in groups if isinstance(group, DictConfig)]
    return max([1, *(count for count in asked if isinstance(count, int))])


def _leave_libraries_alone() -> None:
    """Training looks through all objects for garbage once a cell, and by far most of them are the libraries':
    what is left after a cell is not looked at again."""
    gc.collect()
    gc.freeze()


def _come_back(failed: list[Exception]) -> None:
    """What was left for later, each cell whatever became of the others; raises the first failure of the
    sweep, if there was one."""
    for run in left_for_later:
        try:
            execute(run)
        except USER_ERRORS as error:
            failed.append(_failure(run.slug, error))
        except Exception as error:
            log.exception("failed: %s", run.slug)
            failed.append(error)
    if failed:
        raise failed[0]


def _failure(name: str, error: Exception, tell_all: bool = True) -> Failure:
    """What a cell's error makes of it, counted; a reason is told once, and of later cells, where those are
    told, that they have one."""
    why = said(error)
    refused[why] += 1
    if refused[why] == 1 or tell_all:
        log.error("failed: %s: %s", name, why if refused[why] == 1 else "for a reason told above")
    return Failure(f"{name}: {why}")


def _others() -> str:
    """How many cells of a sweep failed beside the one whose error ends it."""
    count = refused.total() - 1
    reasons = "for the same reason" if len(refused) == 1 else f"for {len(refused)} reasons in all, told above"
    return f"\n{count} more cell{'s' * (count > 1)} failed, {reasons}" if count > 0 else ""


def said(error: Exception) -> str:
    """What a person needs of an error: the message, with its kind where the message alone would be
    cryptic."""
    if isinstance(error, InterpolationKeyError) and (size := re.search(r"'sizes\.(.*?)'", str(error))):
        return (
            f"size={size[1]} is none of this study's sizes: its YAML lists them under sizes (as laptop, "
            "gpu and paper)"
        )
    if isinstance(error, ConfigCompositionException):
        if key := re.match(r"Could not override '(.+?)'\.", str(error)):
            return no_such_key(key[1], conf_dir(), KEYS)
        if error.__cause__ is not None:  # "Error merging override budget=abc", and why
            return redact(
                f"{str(error).removeprefix('Error merging override ')}: "
                f"{str(error.__cause__).splitlines()[0]}"
            )
    if isinstance(error, MissingConfigException) and (
        option := re.search(r"Could not find '(\w+)/(.+?)'", str(error))
    ):
        return (
            f"{option[1]}={option[2]}: there is no such option; "
            f"{did_you_mean(option[2], options(conf_dir()).get(option[1], []))}"
        )
    if ambiguous := re.match(r"Ambiguous value for argument '((.+?)=(.+))'", str(error)):
        text, name, values = ambiguous.groups()
        return f"{text}: several values are a sweep, which takes -m too; a list is '{name}=[{values}]'"
    kind = (
        ""
        if isinstance(error, (InputError, Failure, HydraException, OmegaConfBaseException))
        else f"{type(error).__name__}: "
    )
    return redact(f"{kind}{error}")


def main() -> None:
    terminal.streams()
    try:
        os.getcwd()
    except FileNotFoundError:
        sys.exit("error: the folder that this command is given in is gone; cd to one that is there")
    if sys.argv[1:] and (module := COMMANDS.get(sys.argv[1])):
        sys.exit(import_module(module).main(sys.argv[2:]))
    register()
    save_no_secret()
    plan_at_once()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of being printed with Hydra's own advice
    try:
        refuse_other_launchers()
        sys.argv[1:] = arranged(sys.argv[1:])
        refuse(given(), options(conf_dir()), KEYS)
        failed: list[Exception] = []
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(cell)()
        except Exception as error:
            failed.append(error)
        if planned:
            terminal.start()
            plan.plan(planned[0][1]) if len(planned) == 1 else plan.sweep(planned)
            runs = [run for _, run in planned]
            seeds = len({tuple(run.what[name] for name in SEEDS) for run in runs})
            if said_first := power.stated(runs[0].cfg.report.get("noise"), seeds, len(runs) // seeds):
                log.info(said_first)
        _come_back(failed)
    except (Failure, *USER_ERRORS) as error:
        if WANTS_TRACEBACKS:
            raise
        sys.exit(f"error: {said(error)}{_others()}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")


if __name__ == "__main__":
    main()
