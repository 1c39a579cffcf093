"""The plan: the stages, where each lies or will lie, what it would do, and whether it is cached."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from smartdpp.run.memory import need, too_large
from smartdpp.run.price import training
from smartdpp.store.remote import shown

if TYPE_CHECKING:
    from smartdpp.run.cell import Run
from smartdpp.run.told import describe

log = logging.getLogger(__name__)


def plan(run: Run) -> None:
    """The stages, where each lies or will lie, and whether it is cached."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"plan of {run.slug}", title_justify="left")
    for column in ("stage", "state", "what", "peak above its start", "folder"):
        table.add_column(column, overflow="fold")
    for name, artifact in run.stages().items():
        state, what = ("cached", describe(name, artifact.meta()["facts"])) if artifact.finished else ("to do", _work(run, name))
        peak = None if artifact.finished else need(run, name)
        table.add_row(name, state, what, str(peak or ""), shown(artifact.path))
    table.add_row("result", "done" if run.done else "to do", "", "", shown(run.path))
    Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else 160).print(table)  # a pipe has no width of its own
    for name, artifact in run.stages().items():
        if not artifact.finished:
            warn_of_memory(run, name)


def warn_of_memory(run: Run, stage: str) -> None:
    """One sentence where a stage is likely to need more memory than there is. It is not refused: the statement is an estimate."""
    peak = need(run, stage)
    if peak and (problem := too_large(peak)):
        log.warning("%s: %s", stage, problem)


def _work(run: Run, stage: str) -> str:
    n = run.corpus.meta()["facts"]["n_pool"] if run.corpus.finished else None
    pool = f"{n} examples" if n else "the pool (its size is known after the corpus stage)"
    size = run.parts.strategy.size(n or 0, run.cfg.budget) or "all"
    if "signals" in stage:
        return _signals_work(run, stage.removesuffix(" signals"), pool)
    stage, _, number = stage.partition(" round ")
    if number:
        return {
            "mixture": f"select a part of {pool} by {run.names['strategy']}",
            "adapter": f"finetune {run.names['model']} on that part by {run.names['recipe']}",
            "embedding": f"encode {pool} with {run.names['embedding']} of the model as trained so far{_embedding_cost(run, 'embedding')}",
        }[stage]
    if stage == "task vectors":
        return f"{run.names['task_vector']} of every task{_task_vectors_cost(run)}"
    return {
        "corpus": f"read {run.names['corpus']}, drop rows above {run.cfg.pool.max_tokens} tokens",
        "embedding": f"encode {pool} with {run.names['embedding']}{_embedding_cost(run, 'embedding')}",
        "probe embedding": f"encode {pool} with {run.names['embedding@probe']}{_embedding_cost(run, 'probe')}",
        "query": f"choose examples of the target and encode them with {run.names['embedding']}",
        "mixture": f"select {size} of {pool} by {run.names['strategy']}",
        "diversity": f"measure {run.names['diversity']}",
        "adapter": f"finetune {run.names['model']} by {run.names['recipe']}: {training(run)}",
        "base scores": f"evaluate {run.names['model']} on {run.names['evaluation']}",
        "scores": f"evaluate the finetuned model on {run.names['evaluation']}",
    }[stage]


def _embedding_cost(run: Run, group: str) -> str:
    from smartdpp.run.cell import run_rows
    from smartdpp.run.cost import estimate

    if not run.corpus.finished:
        return ""
    n_tokens = run_rows(run, columns=["n_tokens"])["n_tokens"].to_numpy()
    return ": " + estimate(run.root, "embedding", run.what[group], len(n_tokens), int(n_tokens.sum()))


def _signals_work(run: Run, which: Any, pool: str) -> str:
    from smartdpp.run.cell import run_rows
    from smartdpp.run.cost import estimate
    from smartdpp.signals.stage import planned_tokens

    cost = ""
    if run.corpus.finished:
        tokens, params = planned_tokens(which, run_rows(run, columns=["n_prompt_tokens", "n_tokens"])), run.signals[which].params
        cost = ": " + estimate(run.root, "signals", params, len(tokens), int(tokens.sum()))
    what = {"response": "forward over", "alone": "forward over the responses alone of", "gradient": "forward and backward over"}[which]
    return f"{what} {pool}, for {run.names['quality']}{cost}"


def _task_vectors_cost(run: Run) -> str:
    from smartdpp.run.cell import run_rows
    from smartdpp.run.cost import estimate
    from smartdpp.task_vectors.task2vec import drawn

    if not run.corpus.finished:
        return ""
    settings: Any = run.parts.task_vector  # where there is such a stage, it has the two below
    tasks = drawn(run_rows(run), settings.examples, settings.seed)
    return ": " + estimate(run.root, "task_vectors", run.what["task_vector"], len(tasks), sum(tasks["n_tokens"].to_pylist()))
