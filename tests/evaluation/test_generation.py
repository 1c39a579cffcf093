"""Answers to rows: the same in any batch, after any interruption, and the same as those that are scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartdpp.evaluation import generation
from smartdpp.evaluation.generation import Generation, Sampling, generated
from smartdpp.evaluation.rows import evaluate_rows
from smartdpp.evaluation.scores import read_samples

from .lively import Lively, row

ROWS = [row("t", i, "Say it " * (i % 4 + 1) + str(i), "yes") for i in range(7)]
ROWS.append(
    row("t", 7, "hi", "ho")
    | {
        "messages": json.dumps(
            [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "hey"},
                {"role": "user", "content": "and?"},
                {"role": "assistant", "content": "ho"},
            ]
        )
    }
)
GREEDY = Sampling(12, None, 0.0, 0)
DRAWN = Sampling(12, None, 1.0, 3)


def answers(out: Path, how: Sampling, batch_size: int, rows: list[dict] = ROWS) -> list[Generation]:
    return generated(Lively(), None, rows, out / "generations.jsonl", how, batch_size)


def test_greedy_answers_are_those_that_an_evaluation_scores(tmp_path: Path) -> None:
    stop = {"max_new_tokens": 12, "stop": None}
    evaluate_rows(Lively(), None, {"t": ROWS}, tmp_path, limit=8, batch_size=3, generate=True, seed=0, **stop)
    scored = {sample["id"]: sample["generation"] for sample in read_samples(tmp_path / "samples.jsonl")}
    found = answers(tmp_path, GREEDY, 8)
    assert {one.id: one.answer for one in found} == scored
    assert len(set(scored.values())) > 4
    assert {one.ended for one in found} <= {"end", "length"}
    assert all(one.tokens == 12 for one in found if one.ended == "length")


@pytest.mark.parametrize("how", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_the_batch_and_an_interruption_do_not_matter(
    how: Sampling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = answers(tmp_path / "a", how, 8)
    written, batches = generation._written, []

    def dies(model, tokenizer, asked, how):  # type: ignore[no-untyped-def]
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append([row["id"] for row, _ in asked])
        return written(model, tokenizer, asked, how)

    monkeypatch.setattr(generation, "_written", dies)
    with pytest.raises(KeyboardInterrupt):
        answers(tmp_path / "b", how, 3)
    assert len(generation.read(tmp_path / "b" / "generations.jsonl")) == 6
    monkeypatch.setattr(generation, "_written", lambda *args: batches.append("again") or written(*args))
    assert answers(tmp_path / "b", how, 3) == whole
    assert batches.count("again") == 1
    files = [(tmp_path / name / "generations.jsonl").read_bytes() for name in "ab"]
    assert files[0] == files[1]
    assert answers(tmp_path / "b", how, 3) == whole  # nothing is left to write
    assert batches.count("again") == 1


def test_another_seed_and_another_temperature_draw_other_answers(tmp_path: Path) -> None:
    found = []
    for i, how in enumerate((GREEDY, DRAWN, Sampling(12, None, 1.0, 4), Sampling(12, None, 1e-6, 3))):
        (tmp_path / str(i)).mkdir()
        found.append([one.answer for one in answers(tmp_path / str(i), how, 8)])
    assert found[0] != found[1] != found[2]
    assert found[3] == found[0]  # as cold as greedy


def test_a_draw_follows_the_probabilities() -> None:
    import numpy as np

    logits = np.log(np.array([0.1, 0.6, 0.3]))
    draw = generation._chooses(DRAWN, {"task": "t", "id": "1"})
    counts = np.bincount([draw(logits) for _ in range(4000)], minlength=3) / 4000
    assert counts == pytest.approx([0.1, 0.6, 0.3], abs=0.03)


def test_an_answer_ends_at_the_stop_text_which_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    text = next(one.answer for one in answers(tmp_path, GREEDY, 8) if len(one.answer) > 4)
    found = answers(tmp_path / "a", Sampling(12, text[2], 0.0, 0), 8)
    stopped = [one for one in found if one.ended == "stop"]
    assert stopped
    assert not [one for one in stopped if text[2] in one.answer]
