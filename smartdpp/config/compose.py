"""All that touches Hydra's insides: what it has to know before it composes, what it may not call, and a study
composed as a sweep is.

A study is composed here as ``python run.py -cd experiments -cn <name>`` composes it: Hydra's own sweeper
splits ``hydra.sweeper.params`` and the overrides into cells, and Hydra's own compose makes each cell's
configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict

from smartdpp.config.overrides import options, refuse
from smartdpp.config.reuse import compose_once, copied
from smartdpp.config.schema import Config
from smartdpp.errors import InputError
from smartdpp.logs.redact import redacted
from smartdpp.store import remote

HANDLER = r"logging\.(StreamHandler|FileHandler|NullHandler|Formatter)|colorlog\.ColoredFormatter|ext://sys\.(stdout|stderr)"
SAMPLER = r"optuna\.samplers\.[A-Z][A-Za-z]*Sampler"
_loaders: dict[str, Any] = {}  # Hydra's, by the folder each composes from
ONE = "evaluation=heldout"  # which the settings of one evaluation are of, where none is named
BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

# here, for workers that only import this
OmegaConf.register_new_resolver("folder_of", lambda root: str(remote.folder(root)), replace=True)
OmegaConf.register_new_resolver("unless", lambda other, value: value if other is None else None, replace=True)


def register() -> None:
    """Makes the schema known to Hydra. Idempotent."""
    ConfigStore.instance().store(name="schema", node=Config)
    compose_once()
    compose_without_code()


def compose_here(overrides: Sequence[str], name: str = "config", folder: Path | None = None) -> DictConfig:
    """``name`` of ``folder`` (``None``: conf/) with Hydra's own part, as the command line composes it. What
    several have in common is composed once in this process."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register()
    place = str((folder or conf_dir()).absolute())
    with initialize_config_dir(place, version_base="1.3"):
        hydra: Any = GlobalHydra.instance().hydra
        hydra.config_loader = _loaders.setdefault(place, hydra.config_loader)
        return compose(name, list(overrides), return_hydra_config=True)


def conf_dir() -> Path:
    """conf/ inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"


def compose_without_code() -> None:
    """From here on Hydra composes nothing that would have it call, import or preload what a YAML names.
    Idempotent."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import ConfigRepository

    load, look = ConfigLoaderImpl.load_configuration, ConfigRepository.initialize_sources
    if getattr(load, "checked", False):
        return

    def load_checked(self: Any, config_name: str | None, overrides: list[str], *args: Any, **how: Any) -> Any:
        try:
            cfg = load(self, config_name, overrides, *args, **how)
        except ConfigCompositionException as error:
            if not re.match(r"Could not override 'evaluation\.(?!of\b)", str(error)):
                raise
            plain = [text for text in overrides if not text.startswith("evaluation.")]
            choices = load(self, config_name, plain, *args, **how).hydra.runtime.choices
            if choices.evaluation != "combined" or any(text.startswith("evaluation=") for text in plain):
                raise
            cfg = load(self, config_name, [*overrides, ONE], *args, **how)
        refuse_code(cfg)
        return cfg

    def look_checked(self: Any, config_search_path: Any) -> None:
        for place in config_search_path.get_path():
            if place.path.startswith("pkg:") and place.provider.startswith("hydra.searchpath"):
                raise InputError(
                    f"hydra.searchpath names {place.path}, a package that would be imported: name a folder, "
                    "as file://FOLDER"
                )
        look(self, config_search_path)

    load_checked.checked = True  # type: ignore[attr-defined]
    setattr(ConfigLoaderImpl, "load_configuration", load_checked)  # noqa: B010
    setattr(ConfigRepository, "initialize_sources", look_checked)  # noqa: B010


def plan_at_once() -> None:
    """From here on the cells of a sweep that is only planned are composed once each, and handed over without
    what Hydra does for cells that run: copies, folders, logging. Idempotent; after ``register``."""
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import env_override, setup_globals

    launch, validate = BasicLauncher.launch, BasicSweeper.validate_batch_is_legal
    if getattr(launch, "at_once", False):
        return

    def only_planned(cfg: Any) -> bool:
        return bool(
            cfg.get("until") == "plan" and cfg.hydra.sweeper["_target_"] == BASIC and not cfg.hydra.job.chdir
        )

    def validate_where_run(self: Any, batch: Any) -> None:
        if not only_planned(self.config):
            validate(self, batch)

    def launch_or_plan(self: Any, job_overrides: Any, initial_job_idx: int) -> Any:
        if not only_planned(self.config):
            return launch(self, job_overrides, initial_job_idx)
        setup_globals()
        failed = []
        for overrides in job_overrides:
            cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            HydraConfig.instance().cfg = cfg
            task = copied(cfg)
            with open_dict(task):
                del task["hydra"]
            with env_override(cfg.hydra.job.env_set):
                try:
                    self.task_function(task)
                except Exception as error:  # the others are planned all the same
                    failed.append(error)
        if failed:
            raise failed[0]
        return []

    launch_or_plan.at_once = True  # type: ignore[attr-defined]
    setattr(BasicLauncher, "launch", launch_or_plan)  # noqa: B010
    setattr(BasicSweeper, "validate_batch_is_legal", validate_where_run)  # noqa: B010


def refuse_code(cfg: Any) -> None:
    """InputError if what a configuration says of Hydra itself names things to call: callbacks, or loggers and
    handlers of its own, classes inside launchers and sweepers, or variables that decide what a process
    loads."""
    hydra = OmegaConf.to_container(cfg.hydra, resolve=False)
    assert isinstance(hydra, dict)
    if hydra.get("callbacks"):
        raise InputError(
            f"hydra.callbacks names {', '.join(map(str, hydra['callbacks']))}: smartdpp runs no callbacks; "
            "take them out"
        )
    for key in ("job_logging", "hydra_logging"):
        if named := [
            str(value) for value in _called(hydra.get(key)) if not re.fullmatch(HANDLER, str(value))
        ]:
            raise InputError(
                f"hydra.{key} calls {named[0]}: only the handlers and formatters of Python's logging may "
                "stand there"
            )
    for key in ("launcher", "sweeper"):  # the plugin itself is one that is installed, which Hydra sees to
        for where, target in _named(hydra.get(key), f"hydra.{key}"):
            if not (
                where == f"hydra.{key}"
                or (where == "hydra.sweeper.sampler" and re.fullmatch(SAMPLER, str(target)))
            ):
                raise InputError(f"{where}._target_={target}: nothing is run there; take it out")
    if space := (hydra.get("sweeper") or {}).get("custom_search_space"):
        raise InputError(
            f"hydra.sweeper.custom_search_space={space}: nothing is called there; give the space as "
            "hydra.sweeper.params"
        )
    for name in (hydra.get("job") or {}).get("env_set") or {}:
        if re.fullmatch(r"(LD|DYLD|PYTHON|BASH|GIT)_?.*|(.*_)?PATH|HOME|SHELL|ENV", str(name), re.IGNORECASE):
            raise InputError(
                f"hydra.job.env_set.{name}: it decides what a process loads and runs; set it in your shell"
            )


def _named(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` at any depth, and where it stands."""
    if isinstance(node, dict):
        yield from ((where, node[key]) for key in node if key == "_target_")
        for key, inner in node.items():
            yield from _named(inner, f"{where}.{key}")
    elif isinstance(node, (list, tuple)):
        for i, inner in enumerate(node):
            yield from _named(inner, f"{where}[{i}]")


def _called(node: Any) -> list[Any]:
    if isinstance(node, dict):
        named = [
            value
            for key, value in node.items()
            if key in ("()", "class", "factory") or re.match("(ext|cfg)://", str(value))
        ]
        return [*named, *(called for value in node.values() for called in _called(value))]
    if isinstance(node, (list, tuple)):
        named = [value for value in node if re.match("(ext|cfg)://", str(value))]
        return [*named, *(called for value in node for called in _called(value))]
    return []


def save_no_secret() -> None:
    """Before a sweep Hydra writes its whole configuration into multirun.yaml, and a sweeper what it found:
    without the secrets in them."""
    save = OmegaConf.save

    def save_redacted(config: Any, f: Any, resolve: bool = False) -> None:
        save(
            OmegaConf.create(
                redacted(OmegaConf.to_container(OmegaConf.create(config), resolve=resolve, enum_to_str=True))
            ),
            f,
        )

    setattr(OmegaConf, "save", staticmethod(save_redacted))  # noqa: B010


@contextmanager
def started(path: Path) -> Iterator[None]:
    """Hydra started as ``run.py -cd`` starts it: conf/, then the study's folder. What is wrong with the file
    becomes an InputError."""
    import yaml
    from hydra import initialize_config_dir
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    register()
    try:
        # puts back, at its end, the Hydra that was there
        with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
            GlobalHydra.instance().clear()
            search_path = create_config_search_path(str(conf_dir().absolute()))
            search_path.prepend(
                "command-line", f"file://{path.parent.absolute()}", SearchPathQuery(provider="schema")
            )
            Hydra.create_main_hydra2(task_name="study", config_search_path=search_path)
            yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error


def composed(path: Path, overrides: Sequence[str]) -> DictConfig:
    from hydra import compose

    return compose(path.stem, list(overrides), return_hydra_config=True)


def master(path: Path, hydra_overrides: Sequence[str]) -> DictConfig:
    """The study before its parameters are split into cells."""
    from hydra.types import RunMode

    study = composed(path, hydra_overrides)
    if study.hydra.mode != RunMode.MULTIRUN or "strategy" not in study:
        raise InputError(
            f"{path} is not a study: one has `defaults: [config, _self_]` and hydra.mode: MULTIRUN, see "
            "experiments/quickstart.yaml"
        )
    return study


def split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's own overrides, and the task's."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    refuse(overrides, options(conf_dir()), list(Config.__dataclass_fields__))
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    hydras = [
        o for o, p in zip(overrides, parsed, strict=True) if p.key_or_group.startswith(("hydra.", "hydra/"))
    ]
    return hydras, [o for o in overrides if o not in hydras]


def not_swept(overrides: list[str]) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return [
        o
        for o, p in zip(overrides, OverridesParser.create().parse_overrides(overrides), strict=True)
        if not p.is_sweep_override()
    ]


def combinations(path: Path, study: DictConfig, task_overrides: list[str]) -> list[list[str]]:
    """The cells' overrides: the cartesian product of ``hydra.sweeper.params`` and the command line, which
    wins."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweeper = study.hydra.sweeper
    if sweeper["_target_"] != BASIC:
        raise InputError(
            f"{path}: which cells the sweeper {sweeper['_target_']} runs follows from results; give the "
            "report run folders instead"
        )
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    # strategy=glob(*) asks it for the options
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return BasicSweeper.split_arguments(
        parser.parse_overrides([*params, *task_overrides]), max_batch_size=None
    )[0]
