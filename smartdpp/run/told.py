"""One line for each finished stage: what it did, and whatever was dropped."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from smartdpp.corpus.notes import said
from smartdpp.logs.visible import one_line
from smartdpp.store.artifact import Artifact

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


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
