"""Answers to rows: the same in any batch, after any interruption, and the same as those that are scored."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation import engines, generation
from smartdpp.evaluation import rows as scoring
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

    def dies(model, tokenizer, asked, *more):  # type: ignore[no-untyped-def]
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append([row["id"] for row, _ in asked])
        return written(model, tokenizer, asked, *more)

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


def test_what_is_stopped_inside_a_continuous_batch_leaves_no_thread_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.generation.continuous_batching import ContinuousBatchingManager as Manager

    monkeypatch.setattr(generation, "MORE", 2)
    plain = generated(Lively(), None, ROWS, tmp_path / "a", GREEDY, 2)
    results, result, threads = [], Manager.get_result, threading.active_count()

    def interrupted(self: Any, *args: Any, **more: Any) -> Any:
        if len(results) == 6:  # the second batch's second
            raise KeyboardInterrupt
        found = result(self, *args, **more)
        results.extend([found] if found else [])
        return found

    monkeypatch.setattr(Manager, "get_result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generated(Lively(), None, ROWS, tmp_path / "b", GREEDY, 2, "continuous")
    monkeypatch.setattr(Manager, "get_result", result)
    assert threading.active_count() == threads
    assert len(generation.read(tmp_path / "b")) == 4
    assert generated(Lively(), None, ROWS, tmp_path / "b", GREEDY, 2, "continuous") == plain


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


@pytest.mark.parametrize("engine", ["continuous", "vllm"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_engine_that_is_stopped_goes_on_and_writes_nothing_twice(
    engine: engines.Engine,
    stop: type[BaseException],
    vllm: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generation, "MORE", 1)
    out = tmp_path / "generations.jsonl"
    plain = generated(Lively(), None, ROWS, tmp_path / "plain", GREEDY, 8)
    calls: list[list[list[int]]] = []
    real = getattr(engines, engine)

    def asked(prompts: list[list[int]]) -> None:
        if len(calls) == 2:
            raise stop
        calls.append(prompts)

    def of_continuous(model: Any, prompts: list[list[int]], *more: Any) -> list[list[int]]:
        asked(prompts)
        return real(model, prompts, *more)

    def of_vllm(*made: Any) -> Any:
        write = real(*made)

        def writes(prompts: list[list[int]], *more: Any) -> list[list[int]]:
            asked(prompts)
            return write(prompts, *more)

        return writes

    monkeypatch.setattr(engines, engine, of_vllm if engine == "vllm" else of_continuous)
    with pytest.raises(stop):
        generated(Lively(), None, ROWS, out, GREEDY, 3, engine)
    kept = generation.read(out)
    assert len([one for one in plain if one in kept]) == len(kept) == 6
    first, calls[:] = [*calls], []
    assert generated(Lively(), None, ROWS, out, GREEDY, 3, engine) == plain
    assert sorted(map(len, (*first, *calls))) == [2, 3, 3]
    assert len({tuple(prompt) for batch in (*first, *calls) for prompt in batch}) == len(ROWS)
    assert out.read_bytes() == (tmp_path / "plain").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path not in (out, tmp_path / "plain")] == []


@pytest.mark.parametrize("engine", ["continuous", "vllm"])
def test_an_evaluations_answers_by_another_engine_are_scored_as_our_own_and_kept(
    engine: engines.Engine, vllm: list[Any], adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "version", lambda package: f"of {package}")
    shots = [row("shots", i, f"Is {i} odd?", "no", choices=["yes", "no"]) for i in range(4)]
    tasks, how = {"t": ROWS[4:]}, {"limit": 4, "batch_size": 3, "max_new_tokens": 8, "stop": None, "seed": 0}
    for more in ({}, {"num_fewshot": 1}):
        tasks, out = {"shots": shots} if more else {"shots": shots, **tasks}, tmp_path / f"{len(more)}"
        for name in ("plain", engine):
            (out / name).mkdir(parents=True)
            evaluate_rows(
                Lively(),
                adapter,
                tasks,
                out / name,
                generate=True,
                engine=name,
                **how,
                **more,  # type: ignore[arg-type]
            )
        plain, other = (read_samples(out / name / "samples.jsonl") for name in ("plain", engine))
        assert len(plain) == len(other) == 4 * len(tasks)
        for one, two in zip(plain, other, strict=True):
            assert one | {"nll": 0, "choice_logprobs": 0} == two | {"nll": 0, "choice_logprobs": 0}
            assert two["nll"] == pytest.approx(one["nll"], rel=1e-5)
        written = generation.read(out / engine / "generations.jsonl")
        assert {(one.task, one.id): one.answer for one in written} == {
            (sample["task"], sample["id"]): sample["generation"] for sample in other
        }
        settings = json.loads((out / engine / "scores.json").read_text())["settings"]
        package = "vllm" if engine == "vllm" else "transformers"
        assert settings["generation"] == f"{engine}, {package} of {package}"
        assert "generation" not in json.loads((out / "plain" / "scores.json").read_text())["settings"]
        assert not (out / "plain" / "generations.jsonl").exists()


def test_an_evaluation_that_is_stopped_between_its_answers_and_its_scores_writes_none_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"limit": 8, "batch_size": 8, "max_new_tokens": 4, "stop": None, "seed": 0, "generate": True}

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    load = scoring.load
    monkeypatch.setattr(scoring, "load", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate_rows(Lively(), None, {"t": ROWS}, tmp_path, engine="continuous", **how)  # type: ignore[arg-type]
    monkeypatch.setattr(scoring, "load", load)
    monkeypatch.setattr(engines, "continuous", None)  # not asked again
    evaluate_rows(Lively(), None, {"t": ROWS}, tmp_path, engine="continuous", **how)  # type: ignore[arg-type]
    assert len(read_samples(tmp_path / "samples.jsonl")) == 8


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
