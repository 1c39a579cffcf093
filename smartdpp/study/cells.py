"""A study: experiments/<name>.yaml, a primary Hydra config that says what to run and what to report.

The report must know the cells that have not run as well as those that have. So the study is composed here as
``python run.py -cd experiments -cn <name>`` composes it: Hydra's own sweeper splits ``hydra.sweeper.params`` and the overrides into
cells, Hydra's own compose makes each cell's configuration, and the pipeline names its folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf, open_dict

from smartdpp.config.compose import conf_dir, register
from smartdpp.config.overrides import options, refuse
from smartdpp.config.schema import Config
from smartdpp.errors import Diverged, InputError
from smartdpp.logs.redact import redact, redacted
from smartdpp.run.result import scored
from smartdpp.store.disk import read_json
from smartdpp.store.locks import busy
from smartdpp.store.remote import runs

State = Literal["done", "running", "failed", "diverged", "damaged", "unfinished", "missing", "invalid"]


"""done: result.json is there. running: a process holds the lock. failed: error.txt is there. unfinished: stopped before its end, by a kill
or by ``until``. missing: never started. damaged: a file that a report reads is cut or
overwritten. invalid: the cell's configuration does not pass the check here, so its folder is not known."""


BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


@dataclass(frozen=True)
class Cell:
    """One combination of a study's parameters."""

    overrides: tuple[str, ...]  # key=value, as the sweeper wrote them
    path: Path | None  # the run's folder, which need not exist; None for an invalid cell
    state: State
    detail: str = ""  # the first line of the error, where there is one


@dataclass(frozen=True)
class Paper:
    """The paper's own numbers for what a study mirrors, shown in a column of their own beside ours."""

    source: str  # the paper, its table or figure, and what it was measured on
    measure: str = "the paper's value"  # with its unit
    values: tuple[dict[str, Any], ...] = ()  # {strategy: dpp, value: 28.5}: ``value``, and the settings of the rows it stands beside
    note: str = ""  # what the paper says that is no number of a row


@dataclass(frozen=True)
class Wanted:
    """A study's ``report:`` key."""

    title: str
    baseline: str | tuple[str, ...] = "random"  # the strategies whose runs the others are paired with
    given: tuple[str, ...] = ()  # columns of results.csv; correlations are also given controlling for each, besides response length
    question: str = ""  # one sentence
    paper: Paper | None = None

    @property
    def baselines(self) -> tuple[str, ...]:
        return (self.baseline,) if isinstance(self.baseline, str) else tuple(self.baseline)


def wanted(path: Path, overrides: Sequence[str] = ()) -> Wanted:
    """What the study wants reported, with ``overrides`` as for ``cells`` (``report.baseline=smart``). Raises InputError for a file that is
    not a study, or a key that no report has."""
    with _hydra(path):
        hydra_overrides, task_overrides = _split(overrides)
        report: Any = OmegaConf.to_container(_master(path, [*hydra_overrides, *_not_swept(task_overrides)]).report, resolve=True)
    _known(path, "report", Wanted, report)
    if report.get("paper") is not None:
        paper = report["paper"]
        _known(path, "report.paper", Paper, paper)
        if "source" not in paper:
            raise InputError(f"{path}: report.paper needs `source`: the paper, its table or figure, and what it was measured on")
        if bad := [entry for entry in paper.get("values", []) if not isinstance(entry, dict) or "value" not in entry]:
            raise InputError(f"{path}: report.paper.values holds {bad[0]}; an entry reads {{strategy: dpp, value: 28.5}}")
        report["paper"] = Paper(**redacted(paper))
    return Wanted(**{"title": path.stem, **redacted(report)})


def _known(path: Path, where: str, kind: type, given: Any) -> None:
    known = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    if not isinstance(given, dict):
        raise InputError(f"{path}: {where} is {given}; it takes {', '.join(known)}")
    if unknown := [str(key) for key in given if key not in known]:
        raise InputError(f"{path}: {where}.{unknown[0]} is not known; {where} takes {', '.join(known)}")


def cells(path: Path, overrides: Sequence[str] = ()) -> list[Cell]:
    """Every cell of a study in the sweeper's order, each run once, with its state on disk.

    ``overrides`` are those given to run.py (``root=...``, ``seed=0,1,2``). Raises InputError if the file is missing or not a study, or if
    an override does not fit it; a cell whose configuration fails the pipeline's check is returned as invalid.
    """
    from smartdpp.run.pipeline import prepare

    found: dict[Any, Cell] = {}
    with _hydra(path):
        hydra_overrides, task_overrides = _split(overrides)
        master = _master(path, [*hydra_overrides, *_not_swept(task_overrides)])  # `size=gpu` decides what is swept
        for chosen in _combinations(path, master, task_overrides):
            cfg = _compose(path, [*hydra_overrides, *chosen])
            choices = cfg.hydra.runtime.choices
            with open_dict(cfg):
                del cfg["hydra"]
            try:
                OmegaConf.resolve(cfg)
                run = prepare(cfg, choices)
                cell = Cell(tuple(map(redact, chosen)), runs(run.path), *state(run.path))
            except InputError as error:
                cell = Cell(tuple(map(redact, chosen)), None, "invalid", redact(str(error).replace("\n", "; ")))
            found.setdefault(cell.path or tuple(chosen), cell)  # `full` is the same run under every budget
    return list(found.values())


def state(run: Path) -> tuple[State, str]:
    """A run folder's state, and the first line of its error. One that is done may still turn out damaged when it is read."""
    try:
        return _state(runs(run))
    except OSError as error:
        return "damaged", f"{error.filename or run} cannot be read ({error.strerror})"


def _state(run: Path) -> tuple[State, str]:
    if not run.is_dir():
        return "missing", ""
    if (run / "result.json").exists():
        return "done", _error(run) or _unscored(run)
    try:
        if busy(run):
            return "running", ""
    except PermissionError:
        pass  # another user's folder: its lock cannot be tried from here
    error = _error(run)
    if error.startswith(f"{Diverged.__name__}:"):
        return "diverged", error
    return ("failed", error) if error else ("unfinished", "")


def _unscored(run: Path) -> str:
    try:
        return "" if scored(read_json(run / "result.json")) else "nothing was evaluated: there are no scores of it"
    except (ValueError, AttributeError):  # damaged, which is told where it is read
        return ""


def _error(run: Path) -> str:
    try:
        return next(iter((run / "error.txt").read_text(encoding="utf-8", errors="replace").splitlines()), "")
    except FileNotFoundError:  # none, or the run has just gone on
        return ""


@contextmanager
def _hydra(path: Path) -> Iterator[None]:
    """Hydra started as ``run.py -cd`` starts it: conf/, then the study's folder. What is wrong with the file becomes an InputError."""
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
        with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):  # puts back, at its end, the Hydra that was there
            GlobalHydra.instance().clear()
            search_path = create_config_search_path(str(conf_dir().absolute()))
            search_path.prepend("command-line", f"file://{path.parent.absolute()}", SearchPathQuery(provider="schema"))
            Hydra.create_main_hydra2(task_name="study", config_search_path=search_path)
            yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error


def _compose(path: Path, overrides: Sequence[str]) -> DictConfig:
    from hydra import compose

    return compose(path.stem, list(overrides), return_hydra_config=True)


def _master(path: Path, hydra_overrides: Sequence[str]) -> DictConfig:
    """The study before its parameters are split into cells."""
    from hydra.types import RunMode

    master = _compose(path, hydra_overrides)
    if master.hydra.mode != RunMode.MULTIRUN or "strategy" not in master:
        raise InputError(
            f"{path} is not a study: one has `defaults: [config, _self_]` and hydra.mode: MULTIRUN, see experiments/quickstart.yaml"
        )
    return master


def _split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's own overrides, and the task's."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    refuse(overrides, options(conf_dir()), list(Config.__dataclass_fields__))
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    hydras = [o for o, p in zip(overrides, parsed, strict=True) if p.key_or_group.startswith(("hydra.", "hydra/"))]
    return hydras, [o for o in overrides if o not in hydras]


def _not_swept(overrides: list[str]) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return [o for o, p in zip(overrides, OverridesParser.create().parse_overrides(overrides), strict=True) if not p.is_sweep_override()]


def _combinations(path: Path, master: DictConfig, task_overrides: list[str]) -> list[list[str]]:
    """The cells' overrides: the cartesian product of ``hydra.sweeper.params`` and the command line, which wins."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweeper = master.hydra.sweeper
    if sweeper["_target_"] != BASIC:
        raise InputError(
            f"{path}: which cells the sweeper {sweeper['_target_']} runs follows from results; give the report run folders instead"
        )
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())  # strategy=glob(*) asks it for the options
    return BasicSweeper.split_arguments(parser.parse_overrides([*params, *task_overrides]), max_batch_size=None)[0]
