"""A corpus of conversations through every stage: chosen, trained, measured and scored by turns, planned,
shown and reported."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from smartdpp.corpus.build import describe
from smartdpp.embedding.hidden import Hidden
from smartdpp.errors import InputError
from smartdpp.evaluation.scores import read_samples
from smartdpp.gradient import gradients, reduction
from smartdpp.models import Tiny
from smartdpp.models.batches import encoded
from smartdpp.models.tokens import IGNORED
from smartdpp.models.turns import flat, render
from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.store.disk import read_json
from smartdpp.strategies.mixture import content, read

TOOLS = [{"type": "function", "function": {"name": "count", "parameters": {}}}]
WORDS = ("apple", "bread", "cloud", "delta", "ember", "flint")


def talk(draw: random.Random, task: str) -> dict:
    n = draw.randint(1, 999)
    call = {"type": "function", "function": {"name": "count", "arguments": {"n": n}}}
    messages = [
        {"role": "system", "content": "Be <|im_end|> brief."},
        {"role": "user", "content": f"{task} {draw.choice(WORDS)} {n}?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "count", "content": str(n * 2)},
        {"role": "assistant", "content": f"{n * 2} {draw.choice(WORDS)}"},
        {"role": "user", "content": f"Sure about {draw.choice(WORDS)}?"},
        {"role": "assistant", "content": draw.choice(["Yes.", "No.", "Quite."])},
    ]
    return {"task": task, "messages": messages, "tools": TOOLS}


@pytest.fixture
def talks(tmp_path: Path) -> str:
    """Four tasks of conversations beside one of single turns."""
    draw = random.Random(3)
    rows = [talk(draw, task) for task in ("add", "copy", "parity", "first") for _ in range(8)]
    rows += [{"task": "single", "prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(8)]
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps({"id": f"r{i}", **row}) + "\n" for i, row in enumerate(rows)))
    return f"corpus.path={path}"


COMMON = ("model.format=chat", "pool.max_tokens=900", "budget=12", "evaluation.limit=3")


@pytest.mark.parametrize(
    "more",
    [
        ("+recipe.loss=example", "pool.turns=last"),
        ("strategy=dpp", "embedding=gradient", "embedding.dim=64", "quality=ifd", "strategy.theta=0.1"),
        ("strategy=top", "quality=perplexity", "embedding.text=all", "model.format=plain"),
        (
            "strategy=smart",
            "strategy.num_tasks=2",
            "task_vector=task2vec",
            "task_vector.examples=4",
            "embedding.text=prompt",
        ),
    ],
    ids=["last", "gradient-ifd", "perplexity-plain", "task2vec"],
)
def test_conversations_go_through_every_stage(
    talks: str, small_run: Callable[..., Run], more: tuple[str, ...], tmp_path: Path
) -> None:
    execute(small_run(talks, *COMMON, *more, "until=plan"))
    run = small_run(talks, *COMMON, *more)
    score = execute(run)
    assert score is not None
    assert "of all eligible rows are conversations" in describe(run.corpus.meta()["facts"])

    mixture = read(run.mixture.here())
    lines = [json.loads(line) for line in (run.mixture.here() / "mixture.jsonl").read_text().splitlines()]
    assert all(line["messages"][0]["role"] == "system" for line in lines if line["task"] != "single")
    assert all("messages" not in line for line in lines if line["task"] == "single")
    tokenizer, fmt = run.parts.model.tokenizer(), run.parts.model.format
    examples = encoded(tokenizer, fmt, mixture)
    facts = run.adapter.meta()["facts"]
    assert facts["tokens"] == sum(len(example.ids) for example in examples)
    assert facts["response_tokens"] == sum(example.n_trained for example in examples)
    turns = {len(example.trained) for example in examples if hasattr(example, "trained")}
    assert turns == ({1} if "pool.turns=last" in more else {3})

    samples = read_samples(run.scores.here() / "samples.jsonl")
    stored = {row["id"]: row for row in pq.read_table(run.corpus.file("heldout.parquet")).to_pylist()}
    for sample in samples:
        found = render(tokenizer, fmt, json.loads(stored[sample["id"]]["messages"]), TOOLS)
        assert sample["tokens"] == sum(b - a - 1 for a, b in found.trained)  # without each turn's end
        assert sample["target"] in ("Yes.", "No.", "Quite.")

    assert execute(small_run(talks, *COMMON, *more)) == score
    assert report([str(run.path), "--out", str(tmp_path / "report")]) == 0
    assert read_json(run.path / "result.json")["n"] == 12


def test_the_choice_of_turns_is_part_of_what_a_run_is_and_its_default_is_not(
    small_run: Callable[..., Run],
) -> None:
    assert small_run("pool.turns=all").slug == small_run().slug != small_run("pool.turns=last").slug
    assert (
        small_run("embedding.text=user").embedding.key
        == small_run().embedding.key
        != small_run("embedding.text=all").embedding.key
    )
    with pytest.raises(InputError, match=r"pool\.turns"):
        small_run("pool.turns=first")


def test_a_template_that_cannot_write_the_rows_ends_the_run_at_the_corpus(
    talks: str, small_run: Callable[..., Run], monkeypatch
) -> None:
    made = Tiny.tokenizer

    def strict(self: Tiny):
        tokenizer = made(self)
        refuse = (
            "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif "
            "%}{% endfor %}"
        )
        tokenizer.chat_template = refuse + tokenizer.chat_template
        return tokenizer

    monkeypatch.setattr(Tiny, "tokenizer", strict)
    with pytest.raises(
        InputError, match=r"line 1: the model's chat template refuses the conversation: no tools here"
    ):
        execute(small_run(talks, *COMMON))


def test_the_gradient_is_that_of_the_mean_loss_over_all_trained_turns() -> None:
    model = Tiny(format="chat")
    tokenizer, rows = model.tokenizer(), [talk(random.Random(i), "add") for i in range(3)]
    examples = [render(tokenizer, "chat", row["messages"], row["tools"]) for row in rows]
    weights = model.load(dtype=torch.float32)
    expected = []
    for example in examples:
        weights.zero_grad()
        labels = torch.tensor([example.labels])
        assert (labels != IGNORED).sum() == example.n_trained
        weights(input_ids=torch.tensor([example.ids]), labels=labels).loss.backward()
        grads = [p.grad.flatten() for name, p in weights.named_parameters() if "self_attn" in name]
        expected.append(torch.cat(grads).norm().item())
    exact = reduction(weights, "exact", layers="attention", dim=1, seed=0, rank=None, lora_rank=1)
    found = {}
    for done in gradients(weights, exact, examples, 0, 2000):
        found |= dict(zip(done.rows.tolist(), done.norm.tolist(), strict=True))
    np.testing.assert_allclose([found[i] for i in range(3)], expected, rtol=1e-4)


@pytest.mark.parametrize("tokens", ["response", "prompt"])
def test_hidden_states_are_pooled_over_the_trained_turns_or_the_others(tokens: str) -> None:
    import pyarrow as pa

    model = Tiny(format="chat")
    row = flat({"id": "r", "prompt": "p", "response": "r", **talk(random.Random(0), "add")})
    table = pa.Table.from_pylist([row])
    found = Hidden(model, tokens=tokens, normalize=False).prepare(table)(table)[0]  # type: ignore[arg-type]
    (example,) = encoded(model.tokenizer(), "chat", table)
    states = model.load(dtype=torch.float32).model(torch.tensor([example.ids])).last_hidden_state[0].detach()
    trained = torch.tensor(example.labels) != IGNORED
    np.testing.assert_allclose(
        found, states[trained if tokens == "response" else ~trained].mean(0), atol=1e-5
    )


def test_two_mixtures_of_other_turns_are_other_trainings() -> None:
    import pyarrow as pa

    row = {"prompt": "p", "response": "r"}
    turns = [json.dumps([{"role": "user", "content": text}]) for text in ("p", "q")]
    hashes = {
        content(pa.table({name: [value] for name, value in {**row, "messages": one, "tools": None}.items()}))
        for one in turns
    }
    assert len(hashes) == 2
    alone = content(pa.table({name: [value] for name, value in row.items()}))
    assert (
        alone
        == content(pa.table({"prompt": ["p"], "response": ["r"], "messages": pa.array([None], pa.string())}))
        not in hashes
    )
