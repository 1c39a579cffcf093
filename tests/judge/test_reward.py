"""A reward model as a judge: the logistic function of two scores' difference, whatever the order."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from smartdpp.errors import InputError
from smartdpp.judge import Reward
from smartdpp.models import Tiny
from smartdpp.types import Question, Verdict

from .conftest import make_reward_model

QUESTIONS = [
    Question("Name a fruit.", "An apple.", "A stone, which is no fruit at all."),
    Question("Hello", "x", ""),
]


def test_the_preference_follows_from_the_scores_of_whole_conversations(reward_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    model = AutoModelForSequenceClassification.from_pretrained(reward_model).eval()

    def score(instruction: str, answer: str) -> float:
        turns = [{"role": "user", "content": instruction}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        text += answer + "<|im_end|>"
        with torch.inference_mode():
            return float(model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0, 0])

    found = Reward(str(reward_model), batch_size=3).prepare()(QUESTIONS)
    for question, verdict in zip(QUESTIONS, found, strict=True):
        by = score(question.instruction, question.answer) - score(question.instruction, question.reference)
        assert abs(by) > 1e-3
        assert verdict.first == verdict.second == pytest.approx(1 / (1 + math.exp(-by)), abs=1e-5)


def test_one_without_a_chat_template_reads_the_pair(reward_model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(reward_model, bare)
    (bare / "chat_template.jinja").unlink()
    ask = Reward(str(bare)).prepare()
    assert ask.tokenizer.decode(ask._tokens("ask", "tell")) == "asktell"
    assert ask(QUESTIONS) != Reward(str(reward_model)).prepare()(QUESTIONS)


def test_answers_longer_than_it_reads_have_no_verdict(reward_model: Path) -> None:
    assert Reward(str(reward_model)).prepare()([Question("x", "y" * 600, "z")]) == [Verdict(None, None)]


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    two = make_reward_model(tmp_path / "two", labels=2)
    with pytest.raises(InputError, match=r"is no reward model.*2 labels"):
        Reward(str(two)).prepare()
    assert "there is no such folder" in Reward("./nowhere").check()[0]


def test_a_language_model_has_no_score_and_is_refused() -> None:
    with pytest.raises(InputError, match=r"no reward model.*(lack score|labels)"):
        Reward(str(Tiny().path())).prepare()
