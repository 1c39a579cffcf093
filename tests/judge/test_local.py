"""A causal model as a judge: its probabilities of two letters, in both orders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smartdpp.judge import Local
from smartdpp.judge.template import both_orders, read
from smartdpp.models import Tiny
from smartdpp.types import Question, Verdict

QUESTIONS = [
    Question("Name a fruit.", "An apple, which grows on trees.", "A stone."),
    Question("How long is a day?", "24 hours.", "It depends on where and when you are, I should say."),
    Question("Hello", "", "x"),
]


@pytest.mark.parametrize("fmt", ["plain", "chat"])
def test_the_preference_is_the_models_own_probability_of_the_letter(fmt: str) -> None:
    model = Tiny(format=fmt)  # type: ignore[arg-type]
    tokenizer, weights = model.tokenizer(), model.load().eval()

    def probability(text: str) -> float:
        if fmt == "chat":
            turns = [{"role": "user", "content": text}]
            shown = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(shown, add_special_tokens=False, return_tensors="pt")["input_ids"]
        else:
            ids = tokenizer(text + " ", return_tensors="pt")["input_ids"]
        letters = [tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "AB"]
        with torch.inference_mode():
            return float(weights(ids).logits[0, -1, letters].double().softmax(-1)[0])

    ask = Local(model, batch_size=4).prepare()
    verdicts = ask(QUESTIONS)
    for question, verdict in zip(QUESTIONS, verdicts, strict=True):
        first, second = both_orders(read(None), question)
        assert verdict.first == pytest.approx(probability(first), abs=1e-5)
        assert verdict.second == pytest.approx(1 - probability(second), abs=1e-5)
    assert (ask.spent.calls, ask.spent.tokens > 1000) == (0, True)


def test_the_batch_does_not_matter() -> None:
    one, all_of_them = (Local(Tiny(), batch_size=size).prepare()(QUESTIONS) for size in (1, 8))
    for alone, together in zip(one, all_of_them, strict=True):
        assert alone.first == pytest.approx(together.first, abs=1e-5)
        assert alone.second == pytest.approx(together.second, abs=1e-5)


def test_what_is_longer_than_it_reads_has_no_verdict() -> None:
    found = Local(Tiny()).prepare()([Question("x", "y" * 3000, "z"), QUESTIONS[0]])
    assert found[0] == Verdict(None, None)
    assert found[1].preference is not None


def test_its_template_counts_by_content(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(read(None))
    assert Local(Tiny(), str(tmp_path / "mine.txt")).fingerprint() == Local(Tiny()).fingerprint()
    (tmp_path / "mine.txt").write_text("{instruction} {first} {second}")
    assert Local(Tiny(), str(tmp_path / "mine.txt")).fingerprint() != Local(Tiny()).fingerprint()
    assert Local(Tiny(), str(tmp_path / "none.txt")).check()[0].startswith("evaluation.judge.template=")


@pytest.mark.parametrize(
    ("verdict", "preference"),
    [
        (Verdict(0.9, 0.7), 0.8),
        (Verdict(0.9, 0.2), 0.5),
        (Verdict(0.1, 0.3), 0.2),
        (Verdict(0.5, 0.7), 0.6),
        (Verdict(1.0, 0.0), 0.5),
        (Verdict(None, 1.0), None),
    ],
)
def test_orders_that_disagree_are_a_half(verdict: Verdict, preference: float | None) -> None:
    assert verdict.preference == (preference if preference is None else pytest.approx(preference))
