"""Held-out conversations: every trained turn is scored after the conversation as it was, the last is
generated."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance

from smartdpp.errors import InputError
from smartdpp.evaluation.language_model import language_model
from smartdpp.evaluation.rows import evaluate_rows, row_problems
from smartdpp.evaluation.scores import read_samples
from smartdpp.models import Tiny
from smartdpp.models.turns import last_only, render, render_prompt

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi <|im_end|>"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "How are you?"},
    {"role": "assistant", "content": "Well, thanks. ☀"},
]
HOW = {"limit": 9, "max_new_tokens": 6, "seed": 0}


def row(i: int, messages: list | None = None, **more: object) -> dict:
    single = {"id": f"r{i}", "task": "t", "prompt": f"What is {i}?", "response": f"It is {i}."}
    return single | ({"messages": json.dumps(messages), "tools": None} if messages else {}) | more


def expected(model: Tiny, messages: list) -> tuple[float, int]:
    """-log p of the trained turns without their end tokens, one pass over the whole."""
    tokenizer = model.tokenizer()
    found = render(tokenizer, model.format, messages)
    weights = model.load(dtype=torch.float32).double()
    with torch.no_grad():
        logp = weights(torch.tensor([found.ids])).logits[0].log_softmax(-1)
    places = [t for a, b in found.trained for t in range(a, b) if found.ids[t] != tokenizer.eos_token_id]
    return -sum(logp[t - 1, found.ids[t]].item() for t in places), len(places)


@pytest.mark.parametrize("fmt", ["chat", "plain"])
@pytest.mark.parametrize("choose", [list, last_only])
def test_the_score_is_that_of_the_trained_turns_in_the_whole(tmp_path: Path, fmt: str, choose) -> None:
    model, messages = Tiny(format=fmt), choose(TALK)
    rows = [row(0), row(1, messages), row(2)]
    evaluate_rows(model, None, {"t": rows}, tmp_path, batch_size=2, stop=None, generate=True, **HOW)
    samples = {sample["id"]: sample for sample in read_samples(tmp_path / "samples.jsonl")}
    nll, n = expected(model, messages)
    assert math.isclose(samples["r1"]["nll"], nll, rel_tol=1e-4)
    assert samples["r1"]["tokens"] == n == samples["r1"]["bytes"]
    assert samples["r1"]["target"] == "Well, thanks. ☀"
    assert samples["r1"]["prompt_tokens"] + n < len(render(model.tokenizer(), fmt, messages).ids)

    alone = tmp_path / "alone"
    alone.mkdir()
    evaluate_rows(model, None, {"t": [row(0), row(2)]}, alone, batch_size=2, stop=None, generate=True, **HOW)
    # single turns beside conversations score as without them
    for sample in read_samples(alone / "samples.jsonl"):
        assert samples[sample["id"]]["generation"] == sample["generation"]
        assert math.isclose(samples[sample["id"]]["nll"], sample["nll"], rel_tol=1e-5)


def test_the_last_turn_is_generated_after_the_true_history() -> None:
    model = Tiny(format="chat")
    tokenizer = model.tokenizer()
    weights = model.load(dtype=torch.float32)
    lm = language_model(weights, tokenizer, "chat", 4)
    generation = {"max_new_tokens": 5, "stop": None}
    (answer,) = lm.answer([Instance("answer", row(1, TALK), ("", [], generation), 0)])
    opened = torch.tensor([render_prompt(tokenizer, "chat", TALK[:-1])])
    written = weights.generate(opened, max_new_tokens=5, do_sample=False)[0, opened.shape[1] :]
    assert answer.generation == tokenizer.decode(written, skip_special_tokens=True).lstrip()


def test_what_cannot_be_scored_is_told_before_any_model_works() -> None:
    (said,) = row_problems({"t": [row(1, TALK, choices=["a", "b"])]}, None, generate=True, **HOW)
    assert "row 'r1' of task 't': a conversation with choices cannot be scored" in said
    (said,) = row_problems({"t": [row(1, TALK), row(2)]}, None, generate=True, num_fewshot=1, **HOW)
    assert "is a conversation, which has a history of its own; set it to 0" in said


def test_conversations_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    long = [*TALK[:-1], {"role": "assistant", "content": "a" * 3000}]
    silent = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in TALK]
    rows = [row(0, TALK), row(1, long), row(2, silent)]
    evaluate_rows(
        Tiny(format="chat"), None, {"t": rows}, tmp_path, batch_size=2, stop=None, generate=False, **HOW
    )
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["excluded"] == {"t": {"too_long": 1, "empty_response": 1}}
    with pytest.raises(InputError, match="each of the 1 held-out documents is empty or too long"):
        evaluate_rows(
            Tiny(format="chat"),
            None,
            {"t": rows[2:]},
            tmp_path,
            batch_size=2,
            stop=None,
            generate=False,
            **HOW,
        )
