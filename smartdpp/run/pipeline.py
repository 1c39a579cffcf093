"""A run: the stages in order, each an artifact that is found or made.

    corpus -> base scores
    corpus -> embedding -> mixture -> adapter -> scores -> result.json
                 probe  -> diversity
               signals, task vectors -> mixture, where the quality or the task vectors need the model
                               query -> mixture, where the selection is towards a target
     embedding -> mixture -> adapter -> embedding -> ..., where the mixture is chosen in rounds while the model trains

The base model is scored first, so that what is wrong with an evaluation shows before anything is embedded, chosen or trained; ``until`` a
stage that is not scored leaves it out.

Every artifact's key follows from the configuration and the content of its files, so the plan knows what is cached before anything starts.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from smartdpp.config.check import check
from smartdpp.config.identity import container
from smartdpp.diversity.components import AllMeasures, LogDetDistance
from smartdpp.errors import Diverged, InputError, NotFinite
from smartdpp.logs import terminal
from smartdpp.logs.redact import redact, redacted
from smartdpp.models.anatomy import anatomy
from smartdpp.run import plan, summary, told, tracked
from smartdpp.run.cell import Round, Run, run_rows
from smartdpp.run.sound import of_run
from smartdpp.runtime import threads, using
from smartdpp.store import remote
from smartdpp.store.disk import digest, disk_errors, read_json, write_json, write_text
from smartdpp.store.locks import lock
from smartdpp.store.same import once
from smartdpp.strategies.targeted import Targeted

log = logging.getLogger(__name__)


SELECT = 0  # the stage number in default_rng([select_seed, stage])


LAST = {"corpus": "corpus", "embedding": "embedding", "mixture": "diversity", "adapter": "adapter", "scores": "scores", "end": "scores"}


def prepare(cfg: DictConfig, choices: Mapping[str, str]) -> Run:
    """Checks the configuration; InputError lists all that is wrong with it. ``choices`` are Hydra's, its own groups among them."""
    run = Run(cfg, check(cfg), {group: name for group, name in choices.items() if not group.startswith("hydra/")})
    if run.corpus.finished:
        _check_pool(run)
    else:
        _refuse([*_measure_problems(run, run.parts.strategy.size(sys.maxsize, run.cfg.budget)), *_document_problems(run)])
    return run


def execute(run: Run, *, wait: bool = True) -> float | None:
    """Brings the run to where ``until`` says; returns the mean held-out loss (nats per response token) once there is one.

    Raises Busy at once if another process has this run and not ``wait``. On failure the run's folder holds ``error.txt``.
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
    from smartdpp.run import result

    if run.cfg.until == "end" and _concluded(run.path) and all(a.finished for a in run.stages().values()):
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
                seconds = _stages(run)
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
        said = f"{error.filename or run} cannot be read ({error.strerror})"
    if said:
        log.warning("%s: %s; it is written again", remote.shown(run), said)
    return said is None


def _describe(run: Run) -> None:
    """.hydra/ as Hydra itself would have written it, in a folder that Hydra cannot name."""
    folder = run.path / ".hydra"
    folder.mkdir(exist_ok=True)
    # redacted before it is written: YAML folds long texts, and no secret is found in pieces
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(redacted(OmegaConf.to_container(run.cfg, resolve=False)))))
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    write_text(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(redacted(overrides))))
    write_json(run.path / "artifacts.json", {name: remote.shown(artifact.path) for name, artifact in run.stages().items()})
    remote.send(run.path, remote.RESULT)


def _stages(run: Run) -> dict[str, float]:
    """Makes what is missing, up to ``until``; returns the seconds each stage took now (0 from cache)."""
    work: dict[str, Callable[[Run, Path], dict[str, Any]]] = {
        "corpus": _corpus,
        "base scores": lambda run, out: _evaluate(run, None, out),
        "embedding": lambda run, out: _embed(run, run.parts.embedding, run.cfg.embedding, out),
        "probe embedding": lambda run, out: _embed(run, run.parts.probe, run.cfg.probe, out),
        **{f"{name} signals": partial(_signals, name) for name in run.signals},
        "task vectors": lambda run, out: run.parts.task_vector.measure(run_rows(run), out),
        "query": _query,
        **{name: work for this in run.rounds for name, work in _round(this).items()},
        "mixture": partial(_mixture, run.rounds[-1]),
        "diversity": _diversity,
        "adapter": partial(_adapter, run.rounds[-1]),
        "scores": lambda run, out: _evaluate(run, run.adapter.here(), out),
    }
    same: dict[str, Callable[[Run], str]] = {f"adapter round {this.number}": partial(_training_content, this) for this in run.rounds}
    same |= {"adapter": partial(_training_content, run.rounds[-1]), "scores": _scores_content}
    seconds = {}
    last = LAST[run.cfg.until]
    wanted = [name for name in list(work)[: list(work).index(last) + 1] if name != "base scores" or last == "scores"]
    for name, artifact in run.stages().items():
        if name not in wanted:
            continue
        if not artifact.finished:
            plan.warn_of_memory(run, name)
        started = time.perf_counter()
        build = partial(threads.working, partial(work[name], run))
        hit = once(artifact, partial(same[name], run), build) if name in same else artifact.produce(build)
        seconds[name] = 0.0 if hit else time.perf_counter() - started
        told.stage(name, artifact, hit)
        if name == "corpus":
            _check_pool(run)
    return seconds


def _round(this: Round) -> dict[str, Callable[[Run, Path], dict[str, Any]]]:
    """The work of one round, under its names among the stages (the last round's go by the plain ones)."""
    names: dict[str, Callable[[Run, Path], dict[str, Any]]] = {
        "embedding": lambda run, out: _embed(run, _as_trained(run, this), run.cfg.embedding, out),
        "mixture": partial(_mixture, this),
        "adapter": partial(_adapter, this),
    }
    return {f"{name} round {this.number}": work for name, work in names.items()}


def _check_pool(run: Run) -> None:
    """What only the corpus tells, before anything that takes long: whether the budget is there, the documents of the evaluation, and the
    query of a targeted selection. InputError lists all that is wrong."""
    n = run.corpus.meta()["facts"]["n_pool"]
    size = run.parts.strategy.size(n, run.cfg.budget)
    problems = [f"budget={run.cfg.budget}: the pool holds {n} examples; choose at most {n}, or a larger corpus"] if size > n else []
    problems += [*_measure_problems(run, size), *_document_problems(run)]
    if isinstance(run.parts.strategy, Targeted):
        from smartdpp.query.stage import unplaced

        try:
            rows = run.parts.strategy.query.rows(run.parts.evaluation, run_rows(run, "heldout"))
            problems += unplaced(run.parts.embedding, rows, run_rows(run, columns=["prompt"]))
        except InputError as error:
            problems.append(str(error))
    _refuse(problems)


_documents: dict[tuple[Path, bool], list[str]] = {}  # by base scores, before and after the corpus: cells of a sweep share them


def _document_problems(run: Run) -> list[str]:
    """What the evaluation would refuse, before any model works; nothing where no score is asked for, or the base model has its own."""
    if run.cfg.until in ("corpus", "embedding", "mixture") or run.base.finished:
        return []
    made, model = run.corpus.finished, run.parts.model
    if (looked := (run.base.path, made)) not in _documents:
        here = made or anatomy(model) is not None  # a corpus is made with the model's tokenizer
        _documents[looked] = run.parts.evaluation.check_documents(run_rows(run, "heldout") if made else None, model if here else None)
    return _documents[looked]


def _measure_problems(run: Run, size: int) -> list[str]:
    """A distance cannot be read at more examples than the mixture of this ``size`` has."""
    measure, where = run.parts.diversity, "diversity"
    if isinstance(measure, AllMeasures):
        measure, where = measure.log_det, "diversity.log_det"
    if run.trains and isinstance(measure, LogDetDistance) and (measure.n or 0) > size:
        return [f"{where}.n={measure.n}: the mixture holds {size} examples; choose at most {size}, or null for the largest"]
    return []


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError("\n".join(problems))


def _corpus(run: Run, out: Path) -> dict[str, Any]:
    from smartdpp.corpus.build import build

    model = run.parts.model
    return build(run.parts.corpus, run.parts.evaluation, model.tokenizer(), model.format, run.parts.limits, out)


def _embed(run: Run, embedding: Any, settings: DictConfig, out: Path) -> dict[str, Any]:
    from smartdpp.embedding.shards import embed

    return embed(embedding, run_rows(run), out, processes=settings.get("processes", 1))


def _as_trained(run: Run, this: Round) -> Any:
    """The embedding, by the model as the rounds before this one have left it."""
    from smartdpp.models import Finetuned

    embedding: Any = run.parts.embedding
    return replace(embedding, model=Finetuned(run.parts.model, str(this.before.adapter.here().absolute()))) if this.before else embedding


def _query(run: Run, out: Path) -> dict[str, Any]:
    from smartdpp.query.stage import build

    assert isinstance(run.parts.strategy, Targeted)
    return build(run.parts.strategy.query, run.parts.evaluation, run.parts.embedding, run_rows(run), run_rows(run, "heldout"), out)


def _signals(name: str, run: Run, out: Path) -> dict[str, Any]:
    from smartdpp.signals.stage import measure

    quality: Any = run.parts.quality  # with passes, it has the three below
    which: Any = name  # its passes are our names
    return measure(which, quality.model, quality.batch_tokens, run_rows(run), out, processes=quality.processes)


def _mixture(this: Round, run: Run, out: Path) -> dict[str, Any]:
    from smartdpp.corpus.build import take
    from smartdpp.embedding.shards import load
    from smartdpp.signals.stage import join
    from smartdpp.strategies import mixture
    from smartdpp.task_vectors import task2vec

    rows = run_rows(run, without=("prompt", "response") if not getattr(run.parts.quality, "text", True) else ())
    quality = run.parts.quality.score(join(rows, {name: artifact.here() for name, artifact in run.signals.items()}))
    vectors = task2vec.load(run.task_vectors.here()) if run.task_vectors else None
    before = mixture.selection(this.before.mixture.here()) if this.before else None
    pool = replace(
        mixture.pool(rows, load(this.embedding.here()), quality, vectors),
        query=load(run.query.here()) if run.query else None,
        start=before.index if before else None,
    )
    rng = np.random.default_rng([run.cfg.select_seed, SELECT])
    expected = run.parts.strategy.size(len(pool), run.cfg.budget) * this.number // len(run.rounds)
    selection = run.parts.strategy.select(pool, expected - (len(before) if before else 0), rng)
    if before:
        selection = mixture.followed(before, selection)
    if len(selection) != expected or len(np.unique(selection.index)) != expected:
        raise AssertionError(
            f"the strategy returned {len(selection)} rows, {len(np.unique(selection.index))} distinct, for a budget of {expected}"
        )
    chosen = take(run.corpus.file("data.parquet"), selection.index)
    return mixture.write(pool, chosen, selection, out, redacted(container(run.cfg)))


def _diversity(run: Run, out: Path) -> dict[str, Any]:
    from smartdpp.embedding.shards import load

    chosen, probe = np.load(run.mixture.here() / "rows.npy", allow_pickle=False), load(run.probe.here())
    task = np.asarray(run_rows(run, columns=["task"])["task"].take(chosen).to_pylist(), dtype=np.dtypes.StringDType())
    measured = run.parts.diversity.measure(np.asarray(probe[chosen]), pool=probe, task=task)
    write_json(out / "diversity.json", measured)
    return {name: value for name, value in measured.items() if value is None or isinstance(value, (int, float))}


def _adapter(this: Round, run: Run, out: Path) -> dict[str, Any]:
    from smartdpp.finetune.trainer import together

    model, recipe, rows, seed = run.parts.model, run.parts.recipe, _new_rows(this), run.cfg.train_seed
    if this.before is None:
        return recipe.train(model, rows, out, seed)
    facts = recipe.train(model, rows, out, seed, this.before.adapter.here())
    return together(this.before.adapter.meta()["facts"], facts)


def _new_rows(this: Round) -> Any:
    """What a round's mixture has beyond that of the round before: pyarrow table."""
    from smartdpp.strategies.mixture import read

    rows = read(this.mixture.here())
    return rows.slice(len(read(this.before.mixture.here()))) if this.before else rows


def _training_content(this: Round, run: Run) -> str:
    """All that decides a round's weights, its rows by what they hold."""
    from smartdpp.strategies.mixture import content

    decides = {"version": this.adapter.version, "params": this.adapter.params, "rows": content(_new_rows(this))}
    return digest(decides | {"start": this.before.adapter.meta()["facts"]["content"] if this.before else None})


def _scores_content(run: Run) -> str:
    """All that decides the scores of the finetuned model, its weights by what they were trained on."""
    decides = {"version": run.scores.version, "params": run.scores.params, "corpus": run.corpus.key}
    return digest(decides | {"query": run.query and run.query.key, "adapter": run.adapter.meta()["facts"]["content"]})


def _evaluate(run: Run, adapter: Path | None, out: Path) -> dict[str, Any]:
    from smartdpp.evaluation.rows import evaluated

    try:
        run.parts.evaluation.evaluate(run.parts.model, adapter, run_rows(run, "heldout"), out)
    except NotFinite as error:
        if adapter is None:
            raise NotFinite(f"model={run.names['model']}: {error}, before any training: check the model's weights, and its dtype") from None
        raise Diverged(
            f"training diverged: {error} after it, with recipe.learning_rate={run.cfg.recipe.get('learning_rate')}: try a lower one"
        ) from None
    if run.query and run.query.finished:
        from smartdpp.evaluation.scores import read_samples
        from smartdpp.query.stage import refuse_scored

        refuse_scored(run.query.here(), (sample["id"] for sample in read_samples(out / "samples.jsonl")))
    return evaluated(read_json(out / "scores.json"))
