"""A study: experiments/<name>.yaml, a primary Hydra config that says what to run and what to report.

The report must know the cells that have not run as well as those that have. So the study is composed as Hydra
composes it (smartdpp.config.compose), and the pipeline names each cell's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from smartdpp.config.compose import combinations, composed, master, not_swept, split, started
from smartdpp.errors import Diverged, InputError
from smartdpp.logs.redact import redact, redacted
from smartdpp.run.pipeline import composed_run
from smartdpp.run.result import scored
from smartdpp.store.disk import read_json, unreadable
from smartdpp.store.locks import busy
from smartdpp.store.remote import runs

State = Literal["done", "running", "failed", "diverged", "damaged", "unfinished", "missing", "invalid"]


"""done: result.json is there. running: a process holds the lock. failed: error.txt is there. unfinished:
stopped before its end, by a kill or by ``until``. missing: never started. damaged: a file that a report reads
is cut or overwritten. invalid: the cell's configuration does not pass the check here, so its folder is not
known."""


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
    # {strategy: dpp, value: 28.5}: ``value``, and the settings of the rows it stands beside
    values: tuple[dict[str, Any], ...] = ()
    note: str = ""  # what the paper says that is no number of a row


@dataclass(frozen=True)
class Wanted:
    """A study's ``report:`` key."""

    title: str
    baseline: str | tuple[str, ...] = "random"  # the strategies whose runs the others are paired with
    # columns of results.csv; correlations are also given controlling for each, besides response length
    given: tuple[str, ...] = ()
    question: str = ""  # one sentence
    # standard deviation over seeds of a paired difference in the main metric, from a pilot: see study.power
    noise: float | None = None
    quote: bool = True  # whether the page shows texts of rows that were chosen
    paper: Paper | None = None

    @property
    def baselines(self) -> tuple[str, ...]:
        return (self.baseline,) if isinstance(self.baseline, str) else tuple(self.baseline)


def wanted(path: Path, overrides: Sequence[str] = ()) -> Wanted:
    """What the study wants reported, with ``overrides`` as for ``cells`` (``report.baseline=smart``). Raises
    InputError for a file that is not a study, or a key that no report has."""
    with started(path):
        hydra_overrides, task_overrides = split(overrides)
        report: Any = OmegaConf.to_container(
            master(path, [*hydra_overrides, *not_swept(task_overrides)]).report, resolve=True
        )
    _known(path, "report", Wanted, report)
    if report.get("paper") is not None:
        paper = report["paper"]
        _known(path, "report.paper", Paper, paper)
        if "source" not in paper:
            raise InputError(
                f"{path}: report.paper needs `source`: the paper, its table or figure, and what it was "
                "measured on"
            )
        if bad := [
            entry for entry in paper.get("values", []) if not isinstance(entry, dict) or "value" not in entry
        ]:
            raise InputError(
                f"{path}: report.paper.values holds {bad[0]}; an entry reads {{strategy: dpp, value: 28.5}}"
            )
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

    ``overrides`` are those given to run.py (``root=...``, ``seed=0,1,2``). Raises InputError if the file is
    missing or not a study, or if an override does not fit it; a cell whose configuration fails the pipeline's
    check is returned as invalid.
    """
    found: dict[Any, Cell] = {}
    with started(path):
        hydra_overrides, task_overrides = split(overrides)
        # `size=gpu` decides what is swept
        study = master(path, [*hydra_overrides, *not_swept(task_overrides)])
        for chosen in combinations(path, study, task_overrides):
            cfg = composed(path, [*hydra_overrides, *chosen])
            try:
                run = composed_run(cfg)
                cell = Cell(tuple(map(redact, chosen)), runs(run.path), *state(run.path))
            except InputError as error:
                cell = Cell(
                    tuple(map(redact, chosen)), None, "invalid", redact(str(error).replace("\n", "; "))
                )
            found.setdefault(cell.path or tuple(chosen), cell)  # `full` is the same run under every budget
    return list(found.values())


def state(run: Path) -> tuple[State, str]:
    """A run folder's state, and the first line of its error. One that is done may still turn out damaged when
    it is read."""
    try:
        return _state(runs(run))
    except OSError as error:
        return "damaged", unreadable(error, run)


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
        return (
            ""
            if scored(read_json(run / "result.json"))
            else "nothing was evaluated: there are no scores of it"
        )
    except (ValueError, AttributeError):  # damaged, which is told where it is read
        return ""


def _error(run: Path) -> str:
    try:
        return next(iter((run / "error.txt").read_text(encoding="utf-8", errors="replace").splitlines()), "")
    except FileNotFoundError:  # none, or the run has just gone on
        return ""
