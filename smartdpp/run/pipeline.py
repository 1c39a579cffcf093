"""A run: the stages in order, each an artifact that is found or made.

Every artifact's key follows from the configuration and the content of its files, so the plan knows what is
cached before anything starts.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from smartdpp.config.check import check
from smartdpp.diversity.components import AllMeasures, LogDetDistance
from smartdpp.errors import InputError
from smartdpp.logs import terminal
from smartdpp.logs.redact import redact, redacted
from smartdpp.models.anatomy import anatomy
from smartdpp.query import File
from smartdpp.query.stage import in_pool, unplaced
from smartdpp.run import plan, result, summary, tracked
from smartdpp.run.cell import Run, run_rows
from smartdpp.run.sound import of_run
from smartdpp.run.stage import Stage
from smartdpp.run.stages import artifacts, stages
from smartdpp.runtime import using
from smartdpp.store import remote
from smartdpp.store.disk import disk_errors, read_json, unreadable, write_json, write_text
from smartdpp.store.locks import lock
from smartdpp.strategies import start
from smartdpp.strategies.terms import Terms

log = logging.getLogger(__name__)


def prepare(cfg: DictConfig, choices: Mapping[str, str]) -> Run:
    """Checks the configuration; InputError lists all that is wrong with it. ``choices`` are Hydra's, its own
    groups among them."""
    run = Run(
        cfg, check(cfg), {group: name for group, name in choices.items() if not group.startswith("hydra/")}
    )
    if run.corpus.finished:
        _check_pool(run)
    else:
        _refuse(
            [
                *_measure_problems(run, run.parts.strategy.size(sys.maxsize, run.budget)),
                *_document_problems(run),
            ]
        )
    return run


def composed_run(cfg: DictConfig) -> Run:
    """The run of a configuration as Hydra composed it (``return_hydra_config``), prepared. ``cfg`` is
    resolved in place."""
    choices = cfg.hydra.runtime.choices
    with open_dict(cfg):
        del cfg["hydra"]
    OmegaConf.resolve(cfg)
    return prepare(cfg, choices)


def execute(run: Run, *, wait: bool = True) -> float | None:
    """Brings the run to where ``until`` says; returns the mean held-out loss (nats per response token) once
    there is one.

    Raises Busy at once if another process has this run and not ``wait``. On failure the run's folder holds
    ``error.txt``.
    """
    if run.cfg.until == "plan":
        plan.plan(run)
        return None
    with disk_errors(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
        with lock(run.path, wait=wait) as held, terminal.logged_to(run.path / "run.log"):
            remote.check_out(run.path)
            return _execute(run, held)


def _execute(run: Run, held: Callable[[], bool]) -> float | None:
    if (
        run.cfg.until == "end"
        and _concluded(run.path)
        and all(stage.artifact.finished for stage in stages(run))
    ):
        log.info("%s: finished before", run.slug)
        if tracked.missing(run.path, run.parts.tracker) or (run.path / "error.txt").is_file():
            with remote.sent_back(run.path, held):
                if held():
                    tracked.mirror(run.path, run.parts.tracker)
                (run.path / "error.txt").unlink(missing_ok=True)
        summary.show(run.path)
        return read_json(run.path / "result.json")["score"]
    with remote.sent_back(run.path, held):
        _describe(run)
        try:
            log.info("run %s", remote.shown(run.path))
            with using(run.parts.runtime):
                seconds = _made(run)
            if run.cfg.until != "end":
                return None
            row = result.write(run, seconds)
            if held():
                remote.send(run.path, remote.RESULT)
                tracked.mirror(run.path, run.parts.tracker)
        except BaseException as error:
            kind = "" if isinstance(error, InputError) else traceback.format_exc()
            write_text(run.path / "error.txt", redact(f"{type(error).__name__}: {error}\n{kind}"))
            raise
        (run.path / "error.txt").unlink(missing_ok=True)
    summary.show(run.path)
    return row["score"]


def _concluded(run: Path) -> bool:
    """Whether the run's closing files are there and can be read; damaged ones are told, and written again."""
    if not (run / "result.json").is_file():
        return False
    try:
        said = of_run(run)
    except OSError as error:
        said = unreadable(error, run)
    if said:
        log.warning("%s: %s; it is written again", remote.shown(run), said)
    return said is None


def _describe(run: Run) -> None:
    """.hydra/ as Hydra itself would have written it, in a folder that Hydra cannot name."""
    folder = run.path / ".hydra"
    folder.mkdir(exist_ok=True)
    # redacted before it is written: YAML folds long texts, and no secret is found in pieces
    write_text(
        folder / "config.yaml",
        OmegaConf.to_yaml(OmegaConf.create(redacted(OmegaConf.to_container(run.cfg, resolve=False)))),
    )
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    write_text(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(redacted(overrides))))
    write_json(
        run.path / "artifacts.json",
        {name: remote.shown(artifact.path) for name, artifact in artifacts(run).items()},
    )
    remote.send(run.path, remote.RESULT)


def _made(run: Run) -> dict[str, float]:
    """Makes what is missing, up to ``until``; returns the seconds each stage took now (0 from cache)."""
    seconds = {}
    for stage in stages(run):
        if not stage.wanted(run.cfg.until):
            continue
        if not stage.artifact.finished:
            plan.warn_of_memory(stage)
        started = time.perf_counter()
        hit = stage.make()
        seconds[stage.name] = 0.0 if hit else time.perf_counter() - started
        _tell(stage, hit)
        if stage.artifact is run.corpus:
            _check_pool(run)
    return seconds


def _tell(stage: Stage, hit: bool) -> None:
    """One line on a finished stage: what it did, and whatever was dropped."""
    meta = stage.artifact.meta()
    taken = meta["facts"].get("taken_from")
    time = (
        "cached"
        if hit
        else f"taken from {taken}"
        if taken
        else f"{meta['seconds']:.1f} s, {meta['peak_gib']:.1f} GiB"
    )
    log.info("%-17s%s  [%s]", stage.name, stage.describe(meta["facts"]), time)
    if taken and not hit and stage.same:
        log.info(
            "%-17s%s was finished before under another configuration: its files are taken over",
            "",
            stage.same.what,
        )


def _check_pool(run: Run) -> None:
    """What only the corpus tells, before anything that takes long: whether the budget is there, the documents
    of the evaluation, and the query of a targeted selection. InputError lists all that is wrong."""
    n = run.corpus.meta()["facts"]["n_pool"]
    size = run.parts.strategy.size(n, run.budget)
    problems = _budget_problems(run, size)
    problems += [*_measure_problems(run, size), *_document_problems(run)]
    for group in run.warmups:
        said = getattr(run.parts, group).warmup.too_few(n)
        problems += [problem.replace("embedding.", f"{group}.") for problem in said]
    if query := run.parts.strategy.query:
        try:
            rows = query.rows(run.parts.evaluation, run_rows(run, "heldout"))
            problems += unplaced(
                run.parts.embedding, rows, run_rows(run, columns=_read_by(run.parts.embedding))
            )
            if isinstance(query, File):  # the others are held out
                problems += in_pool(rows, run_rows(run, columns=["prompt", "response"]))
        except InputError as error:
            problems.append(str(error))
    _refuse(problems)


def _budget_problems(run: Run, size: int) -> list[str]:
    n = run.corpus.meta()["facts"]["n_pool"]
    if run.terms == Terms() and not run.parts.strategy.named:
        said = f"budget={run.cfg.budget}: the pool holds {n} examples; choose at most {n}, or a larger corpus"
        return [said] if size > n else []
    rows = run_rows(run, columns=["id", "task", *(("prompt", "response") if run.terms.start else ())])
    try:
        begun = start.find(run.terms.start, rows, "outside" in run.parts.strategy.honours)
    except InputError as error:
        return [str(error)]
    named, tasks = run.parts.strategy.named, rows["task"].to_pylist()
    return run.terms.refused(named, tasks, run.costs, begun, run.cfg.budget)


def _read_by(embedding: object) -> list[str] | None:
    """The columns that an encoder of texts reads; None: as many as there are."""
    return ["prompt"] if getattr(embedding, "text", "user") == "user" else None


# by base scores, before and after the corpus: cells of a sweep share them
_documents: dict[tuple[Path, bool], list[str]] = {}


def _document_problems(run: Run) -> list[str]:
    """What the evaluation would refuse, before any model works; nothing where no score is asked for, or the
    base model has its own."""
    if run.cfg.until in ("corpus", "embedding", "mixture") or run.base.finished:
        return []
    made, model = run.corpus.finished, run.parts.model
    if (looked := (run.base.path, made)) not in _documents:
        here = made or anatomy(model) is not None  # a corpus is made with the model's tokenizer
        _documents[looked] = run.parts.evaluation.check_documents(
            run_rows(run, "heldout") if made else None, model if here else None
        )
    return _documents[looked]


def _measure_problems(run: Run, size: int) -> list[str]:
    """A distance cannot be read at more examples than the mixture of this ``size`` has."""
    measure, where = run.parts.diversity, "diversity"
    if isinstance(measure, AllMeasures):
        measure, where = measure.log_det, "diversity.log_det"
    if run.trains and isinstance(measure, LogDetDistance) and (measure.n or 0) > size:
        return [
            f"{where}.n={measure.n}: the mixture holds {size} examples; choose at most {size}, or null for "
            "the largest"
        ]
    return []


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError("\n".join(problems))
