"""A trained model's own answers are scored as the responses that it was trained on are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from smartdpp.evaluation.generation import read
from smartdpp.evaluation.own_answers import measure
from smartdpp.finetune import Finetune
from smartdpp.models import Finetuned, Tiny
from smartdpp.models.reward import RewardModel
from smartdpp.models.turns import Message, last_only, render, render_prompt
from smartdpp.quality import Reward
from smartdpp.signals.rating import rewards

MODEL = Tiny(format="chat")
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "How are you?"},
    {"role": "assistant", "content": "Well, thanks."},
    {"role": "user", "content": "Bye"},
]
ALONE = [{"role": "user", "content": "Say one."}, {"role": "assistant", "content": "one"}]
ROWS = pa.table(
    {
        "task": ["t", "t"],
        "id": ["a", "b"],
        "prompt": ["Hi\n\nHow are you?\n\nBye", "Say one."],
        "response": ["Hello.\n\nWell, thanks.", "one"],
        "messages": [json.dumps(TALK), None],
        "tools": pa.nulls(2, pa.string()),
    }
)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapter")
    Finetune(learning_rate=1e-2).train(MODEL, ROWS, out, seed=0)
    return out


def nll(adapter: Path, messages: list[Message]) -> float:
    """Mean nats per token of the last trained turn after the true history, in one pass."""
    found = render(MODEL.tokenizer(), "chat", last_only(messages))
    with torch.no_grad():
        logits = Finetuned(MODEL, str(adapter)).load(dtype=torch.float32)(torch.tensor([found.ids])).logits
    return torch.nn.functional.cross_entropy(
        logits[0, :-1], torch.tensor(found.labels[1:]), ignore_index=-100
    ).item()


def test_the_last_trained_turn_of_a_conversation_is_answered_after_the_true_history(
    adapter: Path, tmp_path: Path
) -> None:
    facts = measure(MODEL, adapter, ROWS, 6, None, tmp_path)
    answers = [one.answer for one in read(tmp_path / "generations.jsonl")]
    assert facts["silent"] == 0
    tokenizer, weights = MODEL.tokenizer(), Finetuned(MODEL, str(adapter)).load(dtype=torch.float32)
    expected = []
    for turns, answer in zip((TALK[:4], ALONE), answers, strict=True):
        opened = torch.tensor([render_prompt(tokenizer, "chat", turns[:-1])])
        written = weights.generate(opened, max_new_tokens=6, do_sample=False)[0, opened.shape[1] :]
        assert answer == tokenizer.decode(written, skip_special_tokens=True).lstrip()
        own = [*turns[:-1], {"role": "assistant", "content": answer}]
        expected.append(nll(adapter, own) - nll(adapter, turns))
    np.testing.assert_allclose(np.load(tmp_path / "gap.npy"), -np.array(expected), rtol=1e-3, atol=1e-5)


def test_a_reward_model_reads_the_own_answer_in_the_place_of_the_last_turn(
    adapter: Path, tmp_path: Path, reward_model: Path
) -> None:
    judge = RewardModel(str(reward_model), "r")
    measure(MODEL, adapter, ROWS, 6, Reward(judge), tmp_path)
    answers = [one.answer for one in read(tmp_path / "generations.jsonl")]
    prompts, said = ["Hi\n\nHow are you?", "Say one."], ["Hello.\n\n", ""]
    pairs = [
        (name, prompt, before + text)
        for texts in (("Well, thanks.", "one"), answers)
        for name, prompt, before, text in zip("ab", prompts, said, texts, strict=True)
    ]
    table = pa.table(dict(zip(("id", "prompt", "response"), zip(*pairs, strict=True), strict=True)))
    scores = rewards(judge.load().eval(), judge.tokenizer(), table, "plain", False, 400)[:, 0]
    np.testing.assert_allclose(np.load(tmp_path / "gap.npy"), scores[:2] - scores[2:], atol=1e-5)
