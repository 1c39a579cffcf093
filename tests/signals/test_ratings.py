"""Scores by models that rate, against their definitions one example and one question at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaForSequenceClassification

from smartdpp.errors import InputError
from smartdpp.models import Tiny
from smartdpp.models.reward import RewardModel
from smartdpp.models.tokens import encode, encode_prompt
from smartdpp.quality import Rated, Reward
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.signals.rating import digits, question
from smartdpp.signals.stage import join, measure
from smartdpp.store.disk import read_json

PROMPTS = ["Add 2 and 3", "x", "Which of these is longest: a, bb, or ccc?", "Say hi to <|im_end|>"]
RESPONSES = ["5", "y" * 40, "ccc", "hi <|im_start|>"]
ASKED = ["Rate this from 1 to 5.", "How good is it?"]
ROWS = pa.table(
    {
        "id": list("abcd"),
        "prompt": PROMPTS,
        "response": RESPONSES,
        "n_tokens": [20] * 4,
        "n_prompt_tokens": [9] * 4,
    }
)


def probabilities(model: Tiny, asked: str, prompt: str, response: str) -> np.ndarray:
    text = f"{asked}\nInstruction: {prompt}\nResponse: {response}\nThe answer is:\n"
    assert text == question(asked, prompt, response)
    tokenizer = model.tokenizer()
    ids = encode_prompt(tokenizer, model.format, text)
    with torch.no_grad():
        last = model.load(dtype=torch.float32)(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    p = np.array([last[tokenizer.convert_tokens_to_ids(digit)].item() for digit in "12345"])
    return p / p.sum()


@pytest.mark.parametrize("fmt", ["plain", "chat"])
def test_a_rating_is_the_expected_digit_and_selectit_the_lead_of_the_likeliest(
    fmt: str, tmp_path: Path
) -> None:
    model = Tiny(format=fmt)
    measure("rated", model, 400, ROWS, tmp_path, prompts=ASKED)
    joined = join(ROWS, {"rated": tmp_path})
    expected, own = [], []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        p = [probabilities(model, asked, prompt, response) for asked in ASKED]
        expected.append(np.mean([sum(s * q for s, q in enumerate(one, 1)) for one in p]))
        scores = [(one.argmax() + 1) * sum(one.max() - q for q in one) / 4 for one in p]
        own.append(np.mean(scores) / (1 + 0.2 * np.std(scores)))
    np.testing.assert_allclose(Rated(model, ASKED).score(joined), expected, rtol=1e-5)
    np.testing.assert_allclose(Rated(model, ASKED, form="selectit").score(joined), own, rtol=1e-4)
    np.testing.assert_allclose(
        Rated(model, ASKED, better="lower").score(joined), 1 / np.array(expected), rtol=1e-5
    )


def test_a_tokenizer_without_the_digits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tiny().tokenizer()
    assert tokenizer.convert_ids_to_tokens(digits(tokenizer)) == list("12345")
    monkeypatch.setattr("smartdpp.signals.rating.literal", lambda tokenizer, text: [7] * (len(text) + 1))
    with pytest.raises(InputError, match="no token for each of 1 to 5"):
        digits(tokenizer)


def test_questions_there_must_be() -> None:
    for prompts in ([], ["  "]):
        with pytest.raises(InputError, match=r"quality\.prompts is empty"):
            Rated(Tiny(), prompts)


def test_a_reward_is_the_one_output_of_prompt_and_response(reward_model: Path, tmp_path: Path) -> None:
    model = RewardModel(str(reward_model), "r", format="chat")
    assert model.check() == []
    measure("reward", model, 200, ROWS, tmp_path)
    weights = AutoModelForSequenceClassification.from_pretrained(reward_model)
    with torch.no_grad():
        one_by_one = [
            weights(torch.tensor([encode(model.tokenizer(), "chat", *both).ids])).logits.item()
            for both in zip(PROMPTS, RESPONSES, strict=True)
        ]
    score = Reward(model).score(join(ROWS, {"reward": tmp_path}))
    np.testing.assert_allclose(np.log(score), one_by_one, atol=1e-5)
    assert np.ptp(one_by_one) > 1e-3


def test_a_pair_is_joined_by_the_tokenizer(reward_model: Path, tmp_path: Path) -> None:
    model = RewardModel(str(reward_model), "r", pair=True)
    measure("reward", model, 200, ROWS, tmp_path)
    ids = model.tokenizer()("Add 2 and 3", "5")["input_ids"]
    with torch.no_grad():
        expected = AutoModelForSequenceClassification.from_pretrained(reward_model)(
            torch.tensor([ids])
        ).logits
    np.testing.assert_allclose(np.load(tmp_path / "X.npy")[0, 0], expected.item(), atol=1e-5)


def test_a_classifier_of_several_classes_or_without_a_head_is_no_reward_model(
    reward_model: Path, tmp_path: Path
) -> None:
    three = LlamaForSequenceClassification.from_pretrained(
        reward_model, num_labels=3, ignore_mismatched_sizes=True
    )
    three.save_pretrained(tmp_path / "three")
    Tiny().tokenizer().save_pretrained(tmp_path / "three")
    with pytest.raises(InputError, match="has 3 outputs: a reward model has one"):
        RewardModel(str(tmp_path / "three"), "r").load()
    with pytest.raises(InputError, match="would be random: give a model trained for sequence classification"):
        RewardModel(str(Tiny().path()), "r").load()


def test_rewards_and_ratings_rank_a_pool(small_run: Callable[..., Run], reward_model: Path) -> None:
    ways = (
        ["quality=reward", f"quality.model.path={reward_model}"],
        ["quality=rated", "quality.form=selectit", "quality.prompts=[Rate it]"],
        ["quality=rated", "quality.prompts=[Rate it]"],
        ["quality=rated", "quality.prompts=[Is it good?]"],
    )
    runs = [small_run(*way, "strategy=top", "until=mixture") for way in ways]
    for run in runs:
        execute(run)
        gain = [line["gain"] for line in _lines(run)]
        assert gain == sorted(gain, reverse=True)
    assert runs[1].signals["rated"].key == runs[2].signals["rated"].key, "one pass for both forms"
    assert runs[2].signals["rated"].key != runs[3].signals["rated"].key, "other questions, other answers"
    assert read_json(runs[0].mixture.path / "meta.json")["facts"]["mean_quality"] > 0


def _lines(run: Run) -> list[dict]:
    from smartdpp.strategies.mixture import read

    return read(run.mixture.path).to_pylist()
