"""Answers to rows: the same in any batch, after any interruption, and the same as those that are scored."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation import engines, generation
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


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of Lively's that changes its answers."""
    import torch
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(Lively().load(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=2)
        model.save_pretrained(folder)
    return folder


def test_continuous_batching_writes_the_same_to_the_token(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "MORE", 2)  # two chunks
    rows, stop, ends = ROWS[2:], None, set()
    for name in ("whole", "stopped"):
        how, out = Sampling(12, stop, 0.0, 0), tmp_path / name
        out.mkdir()
        plain = generated(Lively(), adapter, rows, out / "a", how, 2)
        assert generated(Lively(), adapter, rows, out / "b", how, 2, "continuous") == plain
        assert (out / "a").read_bytes() == (out / "b").read_bytes()
        assert plain != generated(Lively(), None, rows, out / "base", how, 2)
        stop = stop or next(one.answer[2] for one in plain if len(one.answer) > 4)
        ends |= {one.ended for one in plain}
    assert ends == {"length", "stop"}


def test_a_request_that_fails_in_continuous_batching_is_told(tmp_path: Path) -> None:
    class Broken:
        device = SimpleNamespace(type="cpu")

        def generate_batch(self, prompts: list[list[int]], **_: Any) -> dict[str, Any]:
            return {"0": SimpleNamespace(error="out of pages", generated_tokens=[])}

    with pytest.raises(InputError, match=r"2 of 2 answers were not written \(out of pages\)"):
        engines.continuous(Broken(), [[1], [2]], 3, {0}, 2)  # type: ignore[arg-type]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A stand-in with the library's own signatures, that writes with the model in the folder it is given."""
    import torch
    from transformers import AutoModelForCausalLM

    made: list[Any] = []

    class LLM:
        def __init__(self, model: str, *, dtype: str = "auto", seed: int = 0) -> None:
            self.weights = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
            self.asked: list[tuple[dict[str, list[int]], SimpleNamespace]] = []
            made.append(self)

        def generate(self, prompts: Any, sampling_params: Any, *, use_tqdm: bool = True) -> list[Any]:
            self.asked += zip(prompts, sampling_params, strict=True)
            return [
                SimpleNamespace(
                    outputs=[SimpleNamespace(token_ids=tuple(self._write(prompt["prompt_token_ids"], how)))]
                )
                for prompt, how in zip(prompts, sampling_params, strict=True)
            ]

        def _write(self, prompt: list[int], how: SimpleNamespace) -> list[int]:
            new: list[int] = []
            with torch.inference_mode():
                while len(new) < how.max_tokens and not {*new[-1:]} & {*how.stop_token_ids}:
                    new.append(int(self.weights(torch.tensor([prompt + new])).logits[0, -1].argmax()))
            return new

    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, lambda **how: SimpleNamespace(**how)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return made


def test_vllm_is_given_the_tuned_model_and_its_tokens_are_read_as_our_own(
    vllm: list[Any], adapter: Path, tmp_path: Path
) -> None:
    how, rows = Sampling(8, None, 0.0, 0), ROWS[4:]
    plain = generated(Lively(), adapter, rows, tmp_path / "a.jsonl", how, 2)
    assert generated(Lively(), adapter, rows, tmp_path / "b.jsonl", how, 2, "vllm") == plain
    assert generated(Lively(), adapter, rows, tmp_path / "b.jsonl", how, 2, "vllm") == plain
    assert len(vllm) == 1  # nothing was left to write


def test_each_of_vllms_draws_has_a_seed_of_its_own_that_the_others_do_not_change(
    vllm: list[Any], tmp_path: Path
) -> None:
    def seeds(rows: list[dict], seed: int, name: str) -> list[int]:
        generated(Lively(), None, rows, tmp_path / name, Sampling(1, None, 0.7, seed), 8, "vllm")
        assert {how.temperature for _, how in vllm[-1].asked} == {0.7}
        return [how.seed for _, how in vllm[-1].asked]

    whole = seeds(ROWS[:4], 3, "a")
    assert len(set(whole)) == 4
    assert set(seeds(ROWS[:2], 3, "b")) < set(whole)
    assert not set(seeds(ROWS[:4], 4, "c")) & set(whole)


def test_an_engine_that_cannot_do_it_says_so_before_any_work() -> None:
    assert engines.problems("plain", 0.7) == engines.problems("continuous", 0.0) == []
    assert "each would depend on those beside it" in engines.problems("continuous", 0.7)[0]
    if engines.find_spec("vllm") is None:
        assert "pip install 'smartdpp[vllm]'" in engines.problems("vllm", 0.0)[0]
