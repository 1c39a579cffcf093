"""One reading of a prompt gives what separate, unbatched readings give."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lm_eval.api.instance import Instance

from smartdpp.evaluation import language_model as module
from smartdpp.evaluation import reading
from smartdpp.evaluation.language_model import load
from smartdpp.evaluation.reading import reader
from smartdpp.models.tokens import encode, encode_prompt

from .lively import Lively

DOCUMENTS = [
    ("a", ["b"]),
    ("What is 2 + 2?", ["4", "five", ""]),
    ("Say something long. " * 5, ["a longer response than the others, é and 字", "x"]),
    ("Zwölf Boxkämpfer", ["jagen", "Viktor quer"]),
    ("Count: 1, 2, 3,", ["4"]),
]


def answers(lm, generation=None):
    return lm.answer(
        [
            Instance("answer", {}, (prompt, continuations, generation), 0)
            for prompt, continuations in DOCUMENTS
        ]
    )


def direct_logprob(model, weights, prompt, continuation):
    import torch

    ids, n_prompt = encode(model.tokenizer(), model.format, prompt, continuation)
    logits = weights(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(logits[i - 1, ids[i]].item() for i in range(n_prompt, len(ids) - 1))


@pytest.mark.parametrize("fmt", ["plain", "chat"])
@pytest.mark.parametrize("window", [3, 128])
def test_loglikelihoods_are_those_of_the_training_tokens_without_end_of_text(fmt, window, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", window)
    model = Lively(format=fmt)
    lm = load(model, None, batch_size=3)
    for (prompt, continuations), answer in zip(DOCUMENTS, answers(lm), strict=True):
        expected = [direct_logprob(model, lm.model, prompt, continuation) for continuation in continuations]
        assert answer.logprobs == pytest.approx(expected, abs=1e-3)
        assert answer.n_tokens == [
            len(encode(model.tokenizer(), fmt, prompt, text).ids) - answer.n_prompt - 1
            for text in continuations
        ]


@pytest.mark.parametrize("fmt", ["plain", "chat"])
def test_generation_is_greedy_and_the_same_in_any_batch(fmt):
    import torch

    model = Lively(format=fmt)
    tokenizer = model.tokenizer()
    generation = {"max_new_tokens": 12, "stop": None}
    batched = [answer.generation for answer in answers(load(model, None, batch_size=5), generation)]
    lm = load(model, None, batch_size=1)
    assert [answer.generation for answer in answers(lm, generation)] == batched
    assert len(set(batched)) > 2, "the model must be lively for this test to mean something"
    for (prompt, _), text in zip(DOCUMENTS, batched, strict=True):
        ids = torch.tensor([encode_prompt(tokenizer, fmt, prompt)])
        out = lm.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        assert text == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).lstrip()


def test_generation_ends_at_the_stop_text_once_there_are_words():
    lm = load(Lively(), None, batch_size=5)
    whole = [answer.generation for answer in answers(lm, {"max_new_tokens": 12, "stop": None})]
    stop = next(text for text in whole if len(text) > 5)[3:5]
    stopped = [answer.generation for answer in answers(lm, {"max_new_tokens": 12, "stop": stop})]
    assert stopped == [text.split(stop)[0] for text in whole]


@pytest.mark.parametrize("fmt", ["plain", "chat"])
def test_lm_evals_own_requests_read_the_same_tokens(fmt):
    model = Lively(format=fmt)
    lm = load(model, None, batch_size=2)
    # a blank at the end lm-eval moves over
    documents = [(prompt.rstrip(), continuations[0]) for prompt, continuations in DOCUMENTS]
    requests = [
        Instance("loglikelihood", {}, (prompt, " " + continuation), 0) for prompt, continuation in documents
    ]
    expected = [direct_logprob(model, lm.model, prompt, continuation) for prompt, continuation in documents]
    assert [found for found, _ in lm.loglikelihood(requests, disable_tqdm=True)] == pytest.approx(
        expected, abs=1e-3
    )

    mine = [answer.generation for answer in answers(lm, {"max_new_tokens": 8, "stop": None})]
    requests = [
        Instance("generate_until", {}, (prompt, {"until": [], "max_gen_toks": 8}), 0)
        for prompt, _ in DOCUMENTS
    ]
    assert [text.lstrip() for text in lm.generate_until(requests, disable_tqdm=True)] == mine


def test_special_tokens_in_lm_evals_own_requests_are_text():
    lm = load(Lively(), None, batch_size=2)
    eos = lm.tokenizer.eos_token
    assert lm.tokenizer.eos_token_id not in [*lm.tok_encode(eos), *lm.tok_batch_encode([eos])[0][0].tolist()]


KINDS = [
    ("llama", {}),
    ("llama", {"attention_bias": True}),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {}),
]


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("adapted", [False, True])
def test_reading_without_padding_gives_the_numbers_of_the_librarys_own_layers(
    kind, options, adapted, monkeypatch
):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 259}
    sizes |= {"num_attention_heads": 6, "num_key_value_heads": 2}
    weights = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **options)).eval()
    if adapted:
        weights = get_peft_model(weights, LoraConfig(r=3, target_modules="all-linear")).eval()
    for parameter in weights.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.5)
    weights.requires_grad_(False)
    lm = module.language_model(weights, Lively().tokenizer(), "plain", 3)
    read = []
    monkeypatch.setattr(module, "reader", lambda *given: read.append(reader(*given)) or read[-1])
    monkeypatch.setattr(reading, "TILE", 4)
    ours = answers(lm, {"max_new_tokens": 12, "stop": "e"})
    assert len(read) == 2
    assert None not in read
    monkeypatch.setattr(module, "reader", lambda *given: None)
    usual = answers(lm, {"max_new_tokens": 12, "stop": "e"})
    for a, b in zip(ours, usual, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, rel=1e-5, abs=1e-5)
        assert a[1:] == b[1:]
    assert len({answer.generation for answer in ours}) > 2


def test_models_and_rows_beyond_such_layers_are_read_the_usual_way():
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 9}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1}

    def made(kind, **options):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **options))
        return model.requires_grad_(False)

    assert reader(made("llama"), [5, 7]) is not None
    assert reader(made("qwen3", head_dim=4), [5, 7]) is None
    assert reader(made("llama").to(torch.bfloat16), [5, 7]) is None
    assert reader(made("llama"), [reading.LONGEST + 1]) is None
    assert reader(made("mistral", sliding_window=6), [5, 7]) is None
    assert reader(made("mistral", sliding_window=7), [5, 7]) is not None


@pytest.mark.parametrize("own", [None, 2, [2, 7]])
def test_answers_end_with_the_end_of_text_of_a_turn_and_what_the_model_names(own: object) -> None:
    tokenizer = Lively().tokenizer()
    tokenizer.eos_token = "<|endoftext|>"  # and turns end with <|im_end|>, 2
    named = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=own))
    also = {None: set(), 2: {2}}[own] if not isinstance(own, list) else set(own)
    assert module.ends_of(named, tokenizer, "plain") == {0} | also
    assert module.ends_of(named, tokenizer, "chat") == {0, 2} | also


def test_nothing_is_written_after_the_end_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model, prompt = Lively(format="chat"), DOCUMENTS[1][0]
    tokenizer = model.tokenizer()
    asked = [Instance("answer", {}, (prompt, [], {"max_new_tokens": 12, "stop": None}), 0)]
    of_lm_eval = [Instance("generate_until", {}, (prompt, {"until": [], "max_gen_toks": 12}), 0)]
    ids = torch.tensor([encode_prompt(tokenizer, "chat", prompt)])
    weights = load(model, None, 1).model
    written = weights.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
    end = written[3]
    expected = tokenizer.decode(written[: written.index(end) + 1]).lstrip()
    monkeypatch.setattr(module, "end_of", lambda tokenizer, fmt: end)
    lm = load(model, None, 1)
    assert lm.answer(asked)[0].generation == expected
    assert lm.generate_until(of_lm_eval, disable_tqdm=True)[0].lstrip() == expected
    monkeypatch.setattr(module, "reader", lambda *given: None)
    assert lm.answer(asked)[0].generation == expected
