"""Evaluates a model on rows, task by task. Finished tasks stay in ``samples.jsonl``: a killed evaluation goes on with the next one."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.device import device_name
from smartdpp.errors import InputError
from smartdpp.evaluation.scores import Sample, mean_scores, read_samples, task_scores, write_samples
from smartdpp.evaluation.tasks import documents, right_choice, rows_task
from smartdpp.store import write_json
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
) -> None:
    """Writes ``samples.jsonl`` and, last, ``scores.json``.

    Of each task the first ``limit`` fitting documents are evaluated (see `documents` for the order). One that is empty, or longer than
    ``max_tokens`` or the model's context, is passed over and counted under ``excluded``. InputError if nothing is left at all.
    """
    from lm_eval.evaluator import evaluate
    from tqdm import tqdm

    from smartdpp.evaluation.language_model import load, quiet

    generation = {"max_new_tokens": max_new_tokens, "stop": stop} if generate else None
    with quiet():
        lm = load(model, adapter, batch_size)
        chosen, excluded = _fitting(model, tasks, lm.max_length, limit, max_tokens, max_new_tokens if generate else 0, num_fewshot, seed)
        finished = finished_samples(out)
        done: list[Sample] = []
        with tqdm(total=sum(map(len, chosen.values())), unit="document", desc="evaluating") as lm.progress:
            for name, rows in chosen.items():
                lm.progress.set_description(f"evaluating {name}")
                samples = finished.get(name, [])
                if [sample["id"] for sample in samples] == [row["id"] for row in rows]:
                    lm.progress.update(len(rows))
                else:
                    found = evaluate(lm, {"tasks": {name: rows_task(name, rows, generation)}}, bootstrap_iters=0)
                    samples = [example["sample"] for example in found["samples"][name]]
                    write_samples(out / SAMPLES, done + samples)
                done += samples
    write_scores(
        out,
        done,
        settings=settings(lm)
        | {"limit": limit, "batch_size": batch_size, "max_tokens": max_tokens, "num_fewshot": num_fewshot, "seed": seed}
        | (generation or {"max_new_tokens": None, "stop": None}),
        excluded=excluded,
        tokens=sum(sample["prompt_tokens"] + sample["tokens"] for sample in done),
    )


def finished_samples(out: Path) -> dict[str, list[Sample]]:
    """Samples by task that an interrupted evaluation left in ``out``: the file only ever holds whole tasks."""
    found: dict[str, list[Sample]] = {}
    for sample in read_samples(out / SAMPLES) if (out / SAMPLES).is_file() else []:
        found.setdefault(sample["task"], []).append(sample)
    return found


def write_scores(out: Path, samples: list[Sample], **facts: Any) -> None:
    """``scores.json``, the last file. ``facts`` are what else a reader of the numbers must know."""
    write_samples(out / SAMPLES, samples)
    by_task: dict[str, list[Sample]] = {}
    for sample in samples:
        by_task.setdefault(sample["task"], []).append(sample)
    scores = {name: task_scores(of_task) for name, of_task in by_task.items()}
    write_json(out / SCORES, {"tasks": scores, "mean": mean_scores(scores), **facts})


def settings(lm: HFLM) -> dict[str, Any]:
    """What else the numbers depend on."""
    dtype = str(lm.model.dtype).removeprefix("torch.")
    return {"lm_eval": version("lm_eval"), "device": device_name(), "dtype": dtype, "context": lm.max_length}


def _fitting(
    model: Model, tasks: dict[str, list[Row]], context: int, limit: int, max_tokens: int | None, room: int, num_fewshot: int, seed: int
) -> tuple[dict[str, list[Row]], dict[str, dict[str, int]]]:
    """The documents to evaluate by task, and why and how often others were passed over. ``room`` is kept free for the generation."""
    from smartdpp.encode import encode

    tokenizer = model.tokenizer()

    def problem(row: Row) -> str | None:
        right_choice(row)  # an answer that is no choice shows before any model work
        encoded = [encode(tokenizer, model.format, row["prompt"], text) for text in (row["response"], *(row.get("choices") or []))]
        n_prompt = encoded[0].n_prompt
        if n_prompt == 0 or not row["response"]:
            return "empty_prompt" if n_prompt == 0 else "empty_response"
        too_long = max(n_prompt + room, *(len(ids) for ids, _ in encoded)) > context
        return "too_long" if too_long or (max_tokens is not None and len(encoded[0].ids) > max_tokens) else None

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
    bound = f"too long: over {context} tokens of context" + (f" or evaluation.max_tokens={max_tokens}" if max_tokens else "")
    if excluded:
        n = sum(sum(reasons.values()) for reasons in excluded.values())
        print(f"evaluation: {n} documents of {len(excluded)} tasks were passed over, empty or {bound}", flush=True)
    if lost := [name for name in sorted(tasks) if name not in chosen]:
        print(f"evaluation: no document is left of {', '.join(lost)}", flush=True)
    if not chosen:
        raise InputError(f"evaluation: each of the {sum(map(len, tasks.values()))} held-out documents is empty or {bound}")
    return chosen, excluded
