"""Evaluates a model on rows, task by task. Finished tasks stay in ``samples.jsonl``: a killed evaluation goes
on with the next one."""

from __future__ import annotations

from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.errors import InputError
from smartdpp.evaluation import engines, judgement
from smartdpp.evaluation.contrast import contrasted
from smartdpp.evaluation.generation import FILE, Sampling, generated
from smartdpp.evaluation.language_model import WINDOW, context, load, quiet, spoken
from smartdpp.evaluation.scores import Sample, mean_scores, read_samples, task_scores, write_samples
from smartdpp.evaluation.tasks import documents, right_choice, rows_task
from smartdpp.logs.visible import one_line
from smartdpp.models.anatomy import Anatomy
from smartdpp.models.tokens import encode
from smartdpp.runtime.device import device_name
from smartdpp.runtime.memory import PACKED
from smartdpp.store.disk import write_json
from smartdpp.types import Model, Row

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

SAMPLES, SCORES = "samples.jsonl", "scores.json"


def evaluate_rows(
    model: Model,
    adapter: Path | None,
    tasks: dict[str, list[Row]],
    out: Path,
    *,
    limit: int,
    batch_size: int,
    max_new_tokens: int,
    stop: str | None,
    generate: bool,
    seed: int,
    max_tokens: int | None = None,
    num_fewshot: int = 0,
    contrast: bool = False,
    seen: dict[str, list[Row]] | None = None,
    engine: engines.Engine = "plain",
) -> None:
    """Writes ``samples.jsonl`` and, last, ``scores.json``. ``contrast`` adds the numbers of
    `smartdpp.evaluation.contrast`, with ``seen`` as there. Another ``engine`` than our own writes all answers
    first, and keeps them in ``generations.jsonl``.

    Of each task the first ``limit`` fitting documents are evaluated (see `documents` for the order). One that
    is empty, or longer than ``max_tokens`` or the model's context, is passed over and counted under
    ``excluded``; tasks that lost every document so are named under ``lost_tasks``. InputError if nothing is
    left at all.
    """
    from lm_eval.evaluator import evaluate
    from tqdm import tqdm

    generation = {"max_new_tokens": max_new_tokens, "stop": stop} if generate else None
    room = max_new_tokens if generate else 0
    how = (limit, max_tokens, room, num_fewshot, seed)
    written = None
    with quiet():
        if generate and engine != "plain":  # before the model is loaded for its scores: they share a memory
            chosen, excluded = fitting(model, tasks, context(model), *how)
            sampling, asked = Sampling(max_new_tokens, stop, 0.0, seed), list(chain(*chosen.values()))
            answers = generated(model, adapter, asked, out / FILE, sampling, batch_size, engine)
            written = {(one.task, one.id): one.answer for one in answers}
            lm = load(model, adapter, batch_size)
        else:
            lm = load(model, adapter, batch_size)
            chosen, excluded = fitting(model, tasks, lm.max_length, *how)
        if contrast:
            chosen = beside_another(model, chosen, excluded, lm.max_length, seen or {})
        finished = finished_samples(out)
        done: list[Sample] = []
        with tqdm(total=sum(map(len, chosen.values())), unit="document", desc="evaluating") as lm.progress:
            for name, rows in chosen.items():
                lm.progress.set_description(f"evaluating {name}")
                samples = finished.get(name, [])
                if [sample["id"] for sample in samples] == [row["id"] for row in rows]:
                    lm.progress.update(len(rows))
                else:
                    task = rows_task(name, rows, generation, written)
                    found = evaluate(lm, {"tasks": {name: task}}, bootstrap_iters=0)
                    samples = [example["sample"] for example in found["samples"][name]]
                    write_samples(out / SAMPLES, done + samples)
                done += samples
    write_scores(
        out,
        done,
        settings=settings(lm)
        | {
            "limit": limit,
            "batch_size": batch_size,
            "max_tokens": max_tokens,
            "num_fewshot": num_fewshot,
            "seed": seed,
        }
        | (generation or {"max_new_tokens": None, "stop": None})
        | ({"generation": engines.named(engine)} if written is not None else {}),
        excluded=excluded,
        lost_tasks=[name for name in sorted(tasks) if name not in chosen],
        tokens=sum(sample["prompt_tokens"] + sample["tokens"] for sample in done),
    )


def beside_another(
    model: Model,
    chosen: dict[str, list[Row]],
    excluded: dict[str, dict[str, int]],
    context: int,
    seen: dict[str, list[Row]],
) -> dict[str, list[Row]]:
    """The documents with what `contrasted` adds. Those that it leaves out are counted in ``excluded``; it
    leaves some of each task, as beside the shortest prompt there is room for every answer."""
    found = {name: contrasted(model, rows, context, seen.get(name, ())) for name, rows in chosen.items()}
    for name, rows in chosen.items():
        if left_out := len(rows) - len(found[name]):
            excluded.setdefault(name, {})["too_long_with_another_answer"] = left_out
    return found


def finished_samples(out: Path) -> dict[str, list[Sample]]:
    """Samples by task that an interrupted evaluation left in ``out``: the file only ever holds whole
    tasks."""
    found: dict[str, list[Sample]] = {}
    for sample in read_samples(out / SAMPLES) if (out / SAMPLES).is_file() else []:
        found.setdefault(sample["task"], []).append(sample)
    return found


def write_scores(out: Path, samples: list[Sample], **facts: Any) -> None:
    """``scores.json``, the last file. ``facts`` are what else a reader of the numbers must know; some have a
    default.

    ``excluded`` counts the documents of a task that were passed over, by reason, ``truncated`` those that
    were cut to fit, ``lost_tasks`` names the tasks without any document, ``left_out`` the metrics of a task
    that cannot be compared; ``judge`` says what smartdpp.evaluation.judgement knows.
    """
    facts = {"excluded": {}, "truncated": {}, "lost_tasks": [], "left_out": {}} | facts
    write_samples(out / SAMPLES, samples)
    by_task: dict[str, list[Sample]] = {}
    for sample in samples:
        by_task.setdefault(sample["task"], []).append(sample)
    scores = {name: task_scores(of_task) for name, of_task in by_task.items()}
    write_json(out / SCORES, {"tasks": scores, "mean": mean_scores(scores), **facts})


def evaluated(scores: dict[str, Any]) -> dict[str, Any]:
    """The facts of a finished evaluation, from its ``scores.json``: the means over tasks, and what was not
    evaluated or not whole."""
    passed_over: dict[str, int] = {}
    for reasons in scores["excluded"].values():
        for reason, n in reasons.items():
            passed_over[reason] = passed_over.get(reason, 0) + n
    missing = {
        "passed_over": passed_over,
        "truncated": sum(scores["truncated"].values()),
        "lost_tasks": scores["lost_tasks"],
    }
    missing |= {"judge": scores["judge"]} if "judge" in scores else {}
    others = {name: evaluated(of_another) for name, of_another in scores.get("others", {}).items()}
    return scores["mean"] | missing | ({"others": others} if others else {})


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line."""
    numbers = {
        name: value
        for name, value in facts.items()
        if isinstance(value, (int, float)) and name != "truncated"
    }
    told = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if not name.endswith("_se"))
    others = [f"{name}: {describe(of_another)}" for name, of_another in facts.get("others", {}).items()]
    judged = judgement.said(facts["judge"]) if "judge" in facts else []
    return "; ".join([told, *not_evaluated(facts), *judged, *others])


def memory(sizes: Anatomy, batch: int, longest: int, response: int, wide: int) -> float:
    """Bytes of scoring: weights, the keys and values of a batch of the longest rows, one layer's work, and
    the logits of a window of their responses; ``wide`` bytes a number."""
    tokens = batch * longest
    cache = tokens * sizes.layers * 2 * sizes.keys * wide
    return (
        PACKED * sizes.parameters * wide
        + cache
        + tokens * sizes.kept * wide
        + 2 * batch * min(WINDOW, response) * sizes.vocabulary * 4
    )


def not_evaluated(facts: dict[str, Any]) -> list[str]:
    """Sentences on the documents that an evaluation passed over or cut to fit the model's context, and on
    tasks that have none left."""
    said = []
    if passed_over := facts.get("passed_over"):
        reasons = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in passed_over.items())
        said.append(f"{sum(passed_over.values())} documents were passed over ({reasons})")
    if truncated := facts.get("truncated"):
        said.append(f"{truncated} documents were cut to fit the model's context")
    if lost := facts.get("lost_tasks"):
        more = f" and {len(lost) - 5} more tasks" if len(lost) > 5 else ""
        said.append(f"no document is left of {', '.join(map(one_line, lost[:5]))}{more}")
    return said


def settings(lm: HFLM) -> dict[str, Any]:
    """What else the numbers depend on."""
    dtype = str(lm.model.dtype).removeprefix("torch.")
    return {"lm_eval": version("lm_eval"), "device": device_name(), "dtype": dtype, "context": lm.max_length}


def fitting(
    model: Model,
    tasks: dict[str, list[Row]],
    context: int | None,
    limit: int,
    max_tokens: int | None,
    room: int,
    num_fewshot: int,
    seed: int,
) -> tuple[dict[str, list[Row]], dict[str, dict[str, int]]]:
    """The documents to evaluate by task, and why and how often others were passed over. ``room`` is kept free
    for the generation.

    ``context`` None: not known yet, so no document is too long for it. InputError if nothing is left at all.
    """
    tokenizer = model.tokenizer()

    def problem(row: Row) -> str | None:
        right_choice(row)  # an answer that is no choice shows before any model work
        if (conversation := spoken(tokenizer, model.format, row)) is not None:
            prompt, (rest, _), opened, _ = conversation
            if not prompt or not rest:
                return "empty_response" if prompt else "empty_prompt"
            n_tokens = max(len(prompt) + len(rest) + 1, len(opened) + room)  # with the last turn's end
            too_long = context is not None and n_tokens > context
            return (
                "too_long"
                if too_long or (max_tokens is not None and len(prompt) + len(rest) + 1 > max_tokens)
                else None
            )
        encoded = [
            encode(tokenizer, model.format, row["prompt"], text)
            for text in (row["response"], *(row.get("choices") or []))
        ]
        n_prompt = encoded[0].n_prompt
        if n_prompt == 0 or not row["response"]:
            return "empty_prompt" if n_prompt == 0 else "empty_response"
        too_long = context is not None and max(n_prompt + room, *(len(ids) for ids, _ in encoded)) > context
        return (
            "too_long" if too_long or (max_tokens is not None and len(encoded[0].ids) > max_tokens) else None
        )

    chosen: dict[str, list[Row]] = {}
    excluded: dict[str, dict[str, int]] = {}
    for name, rows in sorted(tasks.items()):
        for row in documents(rows, num_fewshot, seed):
            if len(chosen.get(name, [])) == limit:
                break
            if reason := problem(row):
                reasons = excluded.setdefault(name, {})
                reasons[reason] = reasons.get(reason, 0) + 1
            else:
                chosen.setdefault(name, []).append(row)
    if not chosen:
        limits = ([f"over {context} tokens of context"] if context else []) + (
            [f"evaluation.max_tokens={max_tokens}"] if max_tokens else []
        )
        raise InputError(
            f"evaluation: each of the {sum(map(len, tasks.values()))} held-out documents is empty or too "
            f"long: {' or '.join(limits)}; "
            "give shorter ones, or a model that reads more"
        )
    return chosen, excluded


def row_problems(
    tasks: dict[str, list[Row]],
    model: Model | None,
    *,
    limit: int,
    max_new_tokens: int,
    generate: bool,
    seed: int,
    max_tokens: int | None = None,
    num_fewshot: int = 0,
) -> list[str]:
    """What `evaluate_rows` would refuse, found without a model's weights; without ``model``, all but what
    does not fit its context."""
    problems = (
        [] if tasks else ["evaluation: there is no held-out document: hold out tasks that the corpus has"]
    )
    for _, rows in sorted(tasks.items()):
        try:
            for row in islice(documents(rows, num_fewshot, seed), limit):
                right_choice(row)
        except InputError as error:
            problems.append(str(error))
    if model is not None and not problems:
        try:
            fitting(
                model,
                tasks,
                context(model),
                limit,
                max_tokens,
                max_new_tokens if generate else 0,
                num_fewshot,
                seed,
            )
        except InputError as error:
            problems.append(str(error))
    return problems
