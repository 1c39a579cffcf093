"""Trackers mirror a finished run, and a study's report, elsewhere; ``python -m smartdpp.track RUN ...`` does
so later.

The files are the truth: a tracker that fails loses nothing and says so. Runs of a study share a group, named
after its YAML, and the report is a run of that group too, with the tables and figures of report.html.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from smartdpp.errors import InputError
from smartdpp.figures import run_figures
from smartdpp.logs import terminal
from smartdpp.logs.redact import redact, redacted
from smartdpp.run import tracked
from smartdpp.run.folder import artifacts
from smartdpp.run.sound import damage
from smartdpp.store import remote
from smartdpp.store.disk import disk_errors, read_json
from smartdpp.store.locks import lock
from smartdpp.strategies.mixture import read_tasks
from smartdpp.study.correlations import MEASURES, within_budgets
from smartdpp.study.results import collect, main_metric, run_folders

if TYPE_CHECKING:
    import pandas as pd

    from smartdpp.figures import Drawing

log = logging.getLogger("smartdpp.track")  # also as a command
MODES = {
    "offline": "offline",
    "online": "online",
    "disabled": "disabled",
    "dryrun": "offline",
    "run": "online",
}  # the last two: wandb's older


class Report(Protocol):
    """What of a study's report is mirrored: see smartdpp.report.content."""

    @property
    def title(self) -> str: ...
    @property
    def states(self) -> dict[str, int]: ...
    def tables(self) -> Iterable[tuple[str, pd.DataFrame]]: ...
    def drawings(self) -> Iterable[tuple[str, Drawing]]: ...


@dataclass(frozen=True)
class Wandb:
    """One log at the end of a run: configuration, scores, diversity, the task table and the figures; offline
    unless asked.

    What is not given is taken from wandb's own variables ($WANDB_MODE, _PROJECT, _ENTITY, _RUN_GROUP, _NAME,
    _TAGS), then from here: the group is the study's name, the name that of the run's folder.

    With the runs finished before it in the same folder it also logs diversity against performance: the runs
    as a table with their mixtures, which wandb plots with a tooltip, and each measure's correlations.
    """

    mode: Literal["offline", "online", "disabled"] | None = None
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: list[str] | None = None

    def check(self) -> list[str]:
        problems = []
        mode, project = self._mode(), self._project()
        if mode not in MODES:
            problems.append(
                f"WANDB_MODE={mode}: choose one of offline, online, disabled, also with tracker.mode="
            )
        if bad := sorted(set(project) & set("/\\#?%:")):
            problems.append(
                f"tracker.project={project}: wandb allows no {' '.join(bad)} in a project's name; the team "
                "is tracker.entity"
            )
        if long := [tag for tag in self.tags or () if not 1 <= len(tag) <= 64]:
            problems.append(
                f"tracker.tags: {long[0]!r} has {len(long[0])} characters; wandb takes 1 to 64 a tag"
            )
        return problems

    def place(self) -> dict[str, Any] | None:
        mode = MODES[self._mode()]
        if mode == "disabled":
            return None
        return {
            "tracker": "wandb",
            "mode": mode,
            "entity": self.entity or os.environ.get("WANDB_ENTITY") or None,
            "project": self._project(),
        }

    def log(self, run: Path) -> bool:
        import wandb
        import yaml

        config = redacted(yaml.safe_load((run / ".hydra" / "config.yaml").read_text(encoding="utf-8")))
        name = self.name or os.environ.get("WANDB_NAME") or run.name
        with self._session(run.name, name, study_name(), run, config=config) as session:
            if session is None:
                return False
            tasks = read_tasks(remote.file(artifacts(run)["mixture"] / "tasks.csv"))
            figures = {path.stem: wandb.Image(str(path)) for path in run_figures(run)}
            session.log(
                {**read_json(run / "result.json"), "mixture": wandb.Table(dataframe=tasks), **figures}
            )
            runs, correlations = diversity_performance(run)
            if len(runs):
                table, metric = wandb.Table(dataframe=runs), runs.columns[-1]
                session.log(
                    {
                        "diversity/runs": wandb.plot.scatter(
                            table, "ldd", metric, title="diversity against performance"
                        )
                    }
                )
            if len(correlations):
                session.log({"diversity/correlations": wandb.Table(dataframe=correlations)})
        return True

    def log_report(self, name: str, report: Report, out: Path) -> None:
        """The report of the study ``name``, written into ``out``: the page, and its tables and figures under
        their sections' titles."""
        import wandb

        with self._session(
            f"report-{name}", f"report-{name}", name, out, job_type="report", notes=report.title
        ) as session:
            if session is None:
                return
            logged: dict[str, Any] = {
                "report": wandb.Html((out / "report.html").read_text(encoding="utf-8"), inject=False)
            }
            logged |= {f"cells/{state}": count for state, count in report.states.items()}
            logged |= {key: wandb.Table(dataframe=frame.astype(str)) for key, frame in report.tables()}
            logged |= {
                key: wandb.Image(str(out / f"{one.name}.png"), caption=one.alt)
                for key, one in report.drawings()
            }
            session.log(logged)

    def _mode(self) -> str:
        # transformers' own variable
        off = os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes")
        return self.mode or os.environ.get("WANDB_MODE", "").lower() or ("disabled" if off else "offline")

    def _project(self) -> str:
        return self.project or os.environ.get("WANDB_PROJECT") or "smartdpp"

    def _entity(self) -> str | None:
        return self.entity or os.environ.get("WANDB_ENTITY") or None

    @contextmanager
    def _session(self, key: str, name: str, study: str | None, folder: Path, **more: Any) -> Iterator[Any]:
        """A wandb run that is always finished; None, with a warning, where wandb could not start. A ``key``
        is one run, however often."""
        import wandb

        # no record of the machine: it holds the command line as it was given
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, x_disable_stats=True, x_disable_meta=True
        )
        group = self.group or os.environ.get("WANDB_RUN_GROUP") or study
        named: dict[str, Any] = {
            "project": self._project(),
            "entity": self._entity(),
            "name": name,
            "group": group,
            "tags": self.tags,
        }
        try:
            session = wandb.init(
                id=re.sub(r"[^\w-]", "_", key),
                resume="allow",
                dir=str(folder),
                mode=MODES[self._mode()],  # type: ignore[arg-type]
                settings=settings,
                **redacted(named),
                **more,
            )
        except (wandb.errors.Error, OSError) as error:
            said = " ".join(str(error).split())
            log.warning(
                "wandb could not start (%s): the results are in %s, and the same command tries again",
                said,
                remote.shown(folder),
            )
            yield None
            return
        try:
            yield session
        finally:
            session.finish()


def study_name() -> str | None:
    """The study that this run is a cell of, if it is one: the primary configuration that Hydra was started
    with."""
    from hydra.core.hydra_config import HydraConfig

    name = HydraConfig.get().job.config_name if HydraConfig.initialized() else None
    return None if name == "config" else name


def diversity_performance(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The finished runs comparable with this one, one line each, their metric last; and each diversity
    measure's correlations with it.

    Both are empty where the run has no diversity or stands alone.
    """
    import pandas as pd

    finished = sorted(path.parent for path in remote.runs(run.parent).glob("*/result.json"))
    results = collect([path for path in finished if damage(path) is None])
    metric = main_metric(results.table) if len(results.table) else ""
    for group in within_budgets(results, metric):
        if run.name not in set(group.runs["run"]) or len(group.runs) == 1:
            continue
        shares = results.shares[results.shares["selected"] > 0].sort_values(
            "share", ascending=False, kind="stable"
        )
        mixtures = {
            name: ", ".join(
                f"{task} {share:.0%}" for task, share in zip(of["task"], of["share"], strict=True)
            )
            for name, of in shares.groupby("run")
        }
        measures = [name for name in MEASURES if name in group.runs]
        runs = group.runs[["run", "label", "seed", "budget", *measures, metric]].copy()
        runs.insert(4, "mixture", runs["run"].map(mixtures).fillna(""))
        ranking = group.ranking.assign(warning=group.warning) if len(group.ranking) else group.ranking
        for name in ranking.columns:
            if name not in ("measure", "n", "runs", "seeds", "warning"):
                ranking[name] = [str(value) for value in ranking[name]]
        return runs, ranking
    return pd.DataFrame(), pd.DataFrame()


@dataclass(frozen=True)
class NoTracker:
    """Nothing is mirrored."""

    def check(self) -> list[str]:
        return []

    def place(self) -> None:
        return None

    def log(self, run: Path) -> bool:
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """Mirrors finished runs, each once to a place; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m smartdpp.track",
        description="Mirrors finished runs to Weights & Biases. What is not given is taken from "
        "wandb's variables "
        "(WANDB_MODE, ...), "
        "then from the run's own configuration.",
    )
    parser.add_argument(
        "what", nargs="+", metavar="RUN", help="run folders, folders of runs, or addresses of them"
    )
    parser.add_argument("--mode", choices=["offline", "online"])
    parser.add_argument("--project")
    parser.add_argument("--entity", help="the user or team")
    parser.add_argument("--group")
    parser.add_argument("--name", help="of one run; its folder's name where none is given")
    parser.add_argument("--tags", type=lambda text: text.split(","), help="a,b,c")
    parser.add_argument("--again", action="store_true", help="also where a run was mirrored before")
    terminal.start()
    args = parser.parse_args(argv)
    options = {
        name: value
        for name, value in vars(args).items()
        if name in Wandb.__dataclass_fields__ and value is not None
    }
    try:
        if files := [what for what in args.what if Path(what).expanduser().is_file()]:
            raise InputError(f"{files[0]} is a file: give run folders, folders of runs, or addresses of them")
        runs = run_folders([remote.folder(what) for what in args.what])
        if args.name and len(runs) > 1:
            raise InputError(
                f"--name={args.name}: these are {len(runs)} runs; leave it out, or name one of them"
            )
        done = [_mirror(run, options, again=args.again) for run in runs]
    except InputError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 1
    return 0 if all(done) else 1


def _mirror(found: Path, options: dict[str, Any], *, again: bool) -> bool:
    """Whether this run is mirrored now."""
    where = remote.address(found)
    run = remote.folder(where) if where else found  # of an address: where this machine works on it
    if not (found / remote.RESULT).is_file():
        log.warning("%s is not finished: there is nothing to mirror yet", remote.shown(run))
        return False
    tracker = Wandb(**_of_run(found) | options)
    if problems := tracker.check():
        raise InputError("\n".join(problems))
    if (place := tracker.place()) is None:
        raise InputError("WANDB_MODE=disabled: nothing is mirrored so; give --mode offline or --mode online")
    with disk_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        with lock(run) as held, remote.sent_back(run, held):
            remote.check_out(run)
            log.info("run %s", remote.shown(run))
            if not again and not tracked.missing(run, tracker):
                log.info(
                    "%-17s%s, before", "mirrored", ", ".join(str(value) for value in place.values() if value)
                )
                return True
            return held() and tracked.mirror(run, tracker)


def _of_run(run: Path) -> dict[str, Any]:
    """What the run's own configuration says of wandb, where the environment says nothing."""
    import yaml

    file = run / ".hydra" / "config.yaml"
    own = (yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}).get("tracker") or {}
    if not str(own.get("_target_", "")).endswith(".Wandb"):
        return {}
    variable = {"group": "WANDB_RUN_GROUP"}
    unset = [
        name
        for name in Wandb.__dataclass_fields__
        if not os.environ.get(variable.get(name, f"WANDB_{name.upper()}"))
    ]
    return {name: own[name] for name in unset if own.get(name) is not None}


if __name__ == "__main__":
    sys.exit(main())
