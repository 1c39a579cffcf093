"""What the terminal shows: one line per stage, the plan, and the closing table.

Nothing that is only shown can end a run: what the terminal's encoding lacks is written as its number, and where nobody reads any more
(``| head``, a terminal that was closed) the run goes on in silence; its files tell what it said. No secret is shown.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import select
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.corpus.notes import said
from smartdpp.memory import need, too_large
from smartdpp.price import training
from smartdpp.redact import redact
from smartdpp.remote import shown
from smartdpp.store import Artifact
from smartdpp.visible import one_line

if TYPE_CHECKING:
    from smartdpp.pipeline import Run

log = logging.getLogger("smartdpp")


class Lasting(io.FileIO):
    """A descriptor that goes on as /dev/null once it cannot be written, for this process and those it starts."""

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # a full pipe whose reader has set it not to block
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF) and self.fileno() == 1:  # a full disk, say
                print(f"warning: standard output cannot be written ({error.strerror}); the run goes on without", file=sys.stderr)
            return memoryview(data).nbytes


class Stream(io.TextIOWrapper):
    """Standard output or error without secrets."""

    def write(self, text: str) -> int:
        super().write(redact(text))
        if self.write_through:  # as Python's own, where PYTHONUNBUFFERED is set: there is a buffer below
            self.flush()
        return len(text)


def streams() -> None:
    """Standard output and error as described above. Idempotent; leaves what a test or a notebook has put in their place."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:  # closed ones are opened: the next file would become standard output
        pass
    os.close(spare)
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        number = 1 if name == "stdout" else 2
        if stream is None:  # it was closed when Python started
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        elif stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue
        with suppress(OSError):
            stream.flush()
        lasting: Any = io.BufferedWriter(Lasting(number, "wb", closefd=False))
        through = stream.write_through or name == "stderr"
        setattr(
            sys, name, Stream(lasting, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering, write_through=through)
        )


def start() -> None:
    """Our own messages on standard output, libraries' chatter off; their warnings still reach run.log. Idempotent."""
    streams()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|trl|peft|torch|lm_eval|datasets")
    logging.captureWarnings(True)
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(Short())
        log.addHandler(handler)
        log.setLevel(logging.INFO)


class Redacted(logging.Formatter):
    """Whatever is logged, without the secrets of the environment."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class Short(Redacted):
    """The message alone; a warning says that it is one."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"warning: {text}" if record.levelno >= logging.WARNING else text


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Everything logged meanwhile, by libraries too, goes to this file with its time."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(Redacted("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    except BaseException as error:
        log.debug("stopped by %s", type(error).__name__, exc_info=True)
        raise
    finally:
        root.removeHandler(handler)
        handler.close()


def stage(name: str, artifact: Artifact, hit: bool) -> None:
    meta = artifact.meta()
    taken = meta["facts"].get("taken_from")
    time = "cached" if hit else f"taken from {taken}" if taken else f"{meta['seconds']:.1f} s, {meta['peak_gib']:.1f} GiB"
    log.info("%-17s%s  [%s]", name, describe(name, meta["facts"]), time)
    if taken and not hit:
        work = "a training on the same rows in the same order" if name.startswith("adapter") else "an evaluation of the same weights"
        log.info("%-17s%s was finished before under another configuration: its files are taken over", "", work)


def describe(stage: str, facts: dict[str, Any]) -> str:
    """What a finished stage did, in one line; whatever was dropped is said here."""
    stage = stage.partition(" round ")[0]
    if stage == "query":
        return "; ".join([f"{facts['n']} rows of {facts['tasks']} tasks", *(said(facts["reading"]) if "reading" in facts else [])])
    if stage == "corpus":
        dropped = {part: ", ".join(f"{n} {reason}" for reason, n in counts.items()) for part, counts in facts["dropped"].items()}
        some = ", ".join(map(one_line, facts["lost_tasks"][:3])) + (", ..." if len(facts["lost_tasks"]) > 3 else "")
        lost = f"; {len(facts['lost_tasks'])} tasks lost every row ({some}: see dropped.json)" if facts["lost_tasks"] else ""
        heldout = f"held out {facts['n_heldout']} of {facts['n_heldout_tasks']} tasks (dropped: {dropped['heldout'] or 'none'})"
        overlap = facts["overlap"]["pool_rows"]
        reading = "".join(f"; {sentence}" for sentence in said(facts["reading"])) if "reading" in facts else ""
        if theirs := said(facts["reading_evaluation"]) if "reading_evaluation" in facts else []:
            reading += f"; the evaluation's file: {', '.join(theirs)}"
        return (
            f"{facts['total_read']} rows: pool {facts['n_pool']} of {facts['n_tasks']} tasks (dropped: {dropped['pool'] or 'none'}), "
            f"{heldout if facts['n_heldout_tasks'] else 'no task of the corpus is held out'}; "
            f"{overlap} pool rows share text with a held-out prompt{lost}{reading}"
        )
    if "embedding" in stage:
        return "; ".join([f"{facts['n']} rows x {facts['d']}", *cut(facts)])
    if "signals" in stage:
        means = ", ".join(f"mean {name.removeprefix('mean_')} {value:.4g}" for name, value in facts.items() if name.startswith("mean_"))
        return f"{facts['n']} rows, {facts['tokens']} tokens read; {means}"
    if stage == "task vectors":
        return f"{facts['tasks']} tasks x {facts['p']}, from {facts['examples']} examples"
    if stage == "mixture":
        chosen, pool = facts.get("mean_quality"), facts.get("mean_quality_in_pool")
        quality = "" if chosen is None else f", mean quality {chosen:.4g} (pool {pool:.4g})"
        return (
            f"{facts['n']} of {facts['n_pool']} examples from {facts['tasks']} of {facts['tasks_in_pool']} tasks, {facts['tokens']} tokens"
            f"{quality}"
        )
    if stage == "adapter":
        return (
            f"{facts['method']} on {facts['rows']} rows, {facts['steps']} steps, {facts['trainable_parameters']} weights trained in "
            f"{facts['dtype']} on {facts['device']}, train loss {facts['train_loss']:.3f}"
        )
    if facts.get("ldd") is not None:
        return _distance(facts)
    told = [name for name, value in facts.items() if isinstance(value, (int, float)) and not name.endswith("_se") and name != "truncated"]
    return "; ".join([", ".join(f"{name} {facts[name]:.4g}" for name in told), *not_evaluated(facts)])


def _distance(facts: dict[str, Any]) -> str:
    """The log determinant distance; what greedy stopped too early to know is said to be unknown."""
    sd, kept, untruncated = (facts.get(name) for name in ("ldd_sd", "kept", "ldd_untruncated"))
    spread = "one reference set" if sd is None else f"± {sd:.3f} over reference sets"
    share = f"kept {kept} of {facts['size']}" if kept is not None else f"kept at least {facts['ldd_n']} of {facts['size']}"
    whole = f"untruncated {untruncated:.3f}" if untruncated is not None else "untruncated unknown"
    return (
        f"log determinant distance {facts['ldd']:.3f} nats per example at n = {facts['ldd_n']} ({spread}; lower is more diverse); "
        f"{share}, {whole}, copies {facts['duplicate_share']:.1%}"
    )


def cut(facts: dict[str, Any]) -> list[str]:
    """A sentence on what an embedding did not read, if anything."""
    return [f"{facts['cut_rows']} rows were cut, by {facts['cut_tokens']} tokens in all"] if facts.get("cut_rows") else []


def not_evaluated(facts: dict[str, Any]) -> list[str]:
    """Sentences on the documents that an evaluation passed over or cut to fit the model's context, and on tasks that have none left."""
    said = []
    if passed_over := facts.get("passed_over"):
        reasons = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in passed_over.items())
        said.append(f"{sum(passed_over.values())} documents were passed over ({reasons})")
    if truncated := facts.get("truncated"):
        said.append(f"{truncated} documents were cut to fit the model's context")
    if lost := facts.get("lost_tasks"):
        said.append(
            f"no document is left of {', '.join(map(one_line, lost[:5]))}" + (f" and {len(lost) - 5} more tasks" if len(lost) > 5 else "")
        )
    return said


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
    from smartdpp.cost import estimate
    from smartdpp.pipeline import run_rows

    if not run.corpus.finished:
        return ""
    n_tokens = run_rows(run, columns=["n_tokens"])["n_tokens"].to_numpy()
    return ": " + estimate(run.root, "embedding", run.what[group], len(n_tokens), int(n_tokens.sum()))


def _signals_work(run: Run, which: Any, pool: str) -> str:
    from smartdpp.cost import estimate
    from smartdpp.pipeline import run_rows
    from smartdpp.signals.stage import planned_tokens

    cost = ""
    if run.corpus.finished:
        tokens, params = planned_tokens(which, run_rows(run, columns=["n_prompt_tokens", "n_tokens"])), run.signals[which].params
        cost = ": " + estimate(run.root, "signals", params, len(tokens), int(tokens.sum()))
    what = {"response": "forward over", "alone": "forward over the responses alone of", "gradient": "forward and backward over"}[which]
    return f"{what} {pool}, for {run.names['quality']}{cost}"


def _task_vectors_cost(run: Run) -> str:
    from smartdpp.cost import estimate
    from smartdpp.pipeline import run_rows
    from smartdpp.task_vectors import drawn

    if not run.corpus.finished:
        return ""
    settings: Any = run.parts.task_vector  # where there is such a stage, it has the two below
    tasks = drawn(run_rows(run), settings.examples, settings.seed)
    return ": " + estimate(run.root, "task_vectors", run.what["task_vector"], len(tasks), sum(tasks["n_tokens"].to_pylist()))
