"""One reading of a prompt gives what separate, unbatched readings give."""

from __future__ import annotations

import pytest
from lm_eval.api.instance import Instance

from smartdpp.evaluation import language_model as module
from smartdpp.evaluation.language_model import load
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
