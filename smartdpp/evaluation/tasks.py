"""Rows as an lm-eval task. A row's text is passed on as it is: no template ever sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.evaluation.scorers import task_score
from smartdpp.evaluation.scores import exact_match, rouge_l
from smartdpp.types import Row

if TYPE_CHECKING:
    from lm_eval.api.task import Task

    from smartdpp.evaluation.language_model import Answer
    from smartdpp.evaluation.scores import Sample


def documents(rows: list[Row], num_fewshot: int, seed: int) -> Iterator[Row]:
    """One task's rows in a shuffled order that depends on their ids and ``seed`` alone, so a smaller limit is
    a prefix of a larger one.

    Each prompt gets ``num_fewshot`` solved rows of the task in front, "prompt response" and a blank line
    each. They come from the end of the order, and never share the evaluated row's prompt. InputError if the
    task has too few.
    """
    rows = sorted(rows, key=lambda row: row["id"])
    rows = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    for row in rows:
        if num_fewshot and row.get("messages") is not None:
            raise InputError(
                f"evaluation.num_fewshot={num_fewshot}: row {row['id']!r} of task {row['task']!r} is a "
                "conversation, which has a history "
                "of its own; set it to 0"
            )
        others = (other for other in reversed(rows) if other["prompt"] != row["prompt"])
        shots = [shot for shot, _ in zip(others, range(num_fewshot), strict=False)]
        if len(shots) < num_fewshot:
            raise InputError(
                f"evaluation.num_fewshot={num_fewshot}: task {row['task']!r} has {len(shots)} other prompts "
                f"than row {row['id']!r}'s; "
                f"set it to {len(shots)} or less"
            )
        yield {
            **row,
            "prompt": "".join(f"{shot['prompt']} {shot['response']}\n\n" for shot in reversed(shots))
            + row["prompt"],
        }


def unscored(rows: list[Row], limit: int, seed: int) -> list[Row]:
    """One task's rows behind the first ``limit`` of `documents`, from its end, without those whose prompt is
    also one of the first."""
    order = list(documents(rows, 0, seed))
    scored = {row["prompt"] for row in order[:limit]}
    return [row for row in reversed(order[limit:]) if row["prompt"] not in scored]


def right_choice(row: Row) -> int | None:
    """Index of the choice whose text or else whose index is ``answer``; without an answer, of the response.
    None without choices."""
    choices, answer = row.get("choices"), row.get("answer")
    if not choices:
        return None
    if row.get("messages") is not None:
        raise InputError(
            f"row {row['id']!r} of task {row['task']!r}: a conversation with choices cannot be scored; "
            "leave the choices out, or give it "
            "as prompt and response"
        )
    if answer is None:
        answer = row["response"]
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if str(answer).isdecimal() and int(answer) < len(choices):
        return int(answer)
    raise InputError(
        f"row {row['id']!r} of task {row['task']!r}: answer {answer!r} is none of its {len(choices)} "
        "choices; "
        "give a choice's text or its index from 0"
    )


def rows_task(
    name: str,
    rows: list[Row],
    generation: dict[str, Any] | None,
    written: dict[tuple[str, str], str] | None = None,
) -> Task:
    """The task of answering these rows in this order. lm-eval's own bookkeeping around it stays; each
    document's result is one `Sample`. Answers that are ``written`` already, by task and id, are scored in
    place of generating them."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import Task
    from lm_eval.config.task import TaskConfig

    class RowsTask(Task):
        VERSION = 1
        OUTPUT_TYPE = "answer"  # the one request of smartdpp.evaluation.language_model

        def __init__(self) -> None:
            super().__init__()
            self._config = TaskConfig(task=name, output_type=self.OUTPUT_TYPE, num_fewshot=0)

        def download(self, *_: Any, **__: Any) -> None:
            """The rows are here already."""

        def has_training_docs(self) -> bool:
            return False

        def has_validation_docs(self) -> bool:
            return False

        def has_test_docs(self) -> bool:
            return True

        def test_docs(self) -> list[Row]:
            return rows

        def doc_to_text(self, doc: Row) -> str:
            return doc["prompt"]

        def doc_to_target(self, doc: Row) -> str:
            return doc["response"]

        def build_all_requests(self, **_: Any) -> None:
            self._instances = [
                self.construct_requests(doc, doc["prompt"], metadata=(name, i, 1))
                for i, doc in enumerate(rows)
            ]

        def construct_requests(self, doc: Row, ctx: str, **kwargs: Any) -> Instance:
            asked = generation if written is None else None
            return Instance("answer", doc, (ctx, continuations(doc), asked), 0, **kwargs)

        def process_results(self, doc: Row, results: list[Answer]) -> dict[str, Sample]:
            (answer,) = results
            if written is not None:
                answer = answer._replace(generation=written[doc["task"], doc["id"]])
            return {"sample": _sample(doc, answer)}

        def aggregation(self) -> dict[str, Any]:
            return {"sample": len}  # scores are made from the samples: see smartdpp.evaluation.scores

        def higher_is_better(self) -> dict[str, bool]:
            return {"sample": True}

    return RowsTask()


def continuations(row: Row) -> list[str]:
    """What is scored after a row's prompt: its response, its choices, and the other document's response that
    it may have been given (see smartdpp.evaluation.contrast)."""
    return [row["response"], *(row.get("choices") or []), *([row["other"]] if "other" in row else [])]


def _sample(row: Row, answer: Answer) -> Sample:
    right = right_choice(row)
    n = 1 + len(row.get("choices") or [])
    text, target = answer.generation, row["response"] if answer.target is None else answer.target
    return {
        "task": row["task"],
        "id": row["id"],
        "nll": -answer.logprobs[0],
        "tokens": answer.n_tokens[0],
        "bytes": len(target.encode()) if answer.n_bytes is None else answer.n_bytes,
        "prompt_tokens": answer.n_prompt,
        "generation": text,
        "target": target,
        "exact_match": None if text is None else exact_match(text, target),
        "task_score": None if text is None else task_score(row, text),
        "rouge_l": None if text is None else rouge_l(text, target),
        "choice_logprobs": answer.logprobs[1:n] if right is not None else None,
        "accuracy": float(int(np.argmax(answer.logprobs[1:n])) == right) if right is not None else None,
    } | (contrast(row, answer.logprobs) if "other" in row else {})


def contrast(row: Row, logprobs: list[float]) -> Sample:
    """How much likelier a document's own answer is than the other one it was given."""
    over = logprobs[0] - logprobs[-1]
    return {"blind_nll": row["blind_nll"], "own_over_other": over, "own_first": float(over > 0)}
