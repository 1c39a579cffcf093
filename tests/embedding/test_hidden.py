"""Pooled hidden states against one example at a time, straight from the model."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from smartdpp.embedding.hidden import Hidden
from smartdpp.errors import InputError
from smartdpp.models import Tiny
from smartdpp.models.tokens import encode

PROMPTS = ["Add 2 and 3", "Say <|im_end|> {{ 7*7 }}", "x", "Which of these is longest?" * 4, "Why?"]
RESPONSES = ["5", "hi", "y" * 40, "ccc", "Because."]
ROWS = pa.table({"id": list("abcde"), "prompt": PROMPTS, "response": RESPONSES})


def one_by_one(settings: Hidden) -> np.ndarray:
    model = settings.model
    weights, tokenizer = model.load(dtype=torch.float32), model.tokenizer()
    vectors = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        ids, n_prompt = encode(tokenizer, model.format, prompt, response)
        with torch.inference_mode():
            states = weights(torch.tensor([ids]), output_hidden_states=True).hidden_states[settings.layer][0]
        part = {"all": states, "prompt": states[:n_prompt], "response": states[n_prompt:]}[settings.tokens]
        later = torch.arange(1, len(part) + 1)[:, None]
        weighted = {"mean": part.mean(0), "last": part[-1], "position": (later * part).sum(0) / later.sum()}
        vector = weighted[settings.pooling]
        vectors.append(vector.numpy() / (np.linalg.norm(vector) if settings.normalize else 1))
    return np.stack(vectors)


@pytest.mark.parametrize("pooling", ["mean", "last", "position"])
@pytest.mark.parametrize("tokens", ["all", "prompt", "response"])
@pytest.mark.parametrize("layer", [-1, 1, -3])
def test_padding_and_batching_change_nothing(pooling, tokens, layer) -> None:
    settings = Hidden(Tiny(format="chat"), layer, pooling, tokens, batch_tokens=300)
    encoded = settings.prepare(ROWS)
    X = encoded(ROWS)
    assert X.dtype == np.float32
    np.testing.assert_allclose(X, one_by_one(settings), atol=1e-5)
    shards = np.concatenate([encoded(ROWS.slice(start, 2)) for start in (0, 2, 4)])
    np.testing.assert_allclose(shards, X, atol=1e-5)


def test_raw_states_keep_their_length() -> None:
    settings = Hidden(Tiny(), normalize=False)
    np.testing.assert_allclose(settings.prepare(ROWS)(ROWS), one_by_one(settings), atol=1e-5)


def test_positive_and_negative_layers_count_the_same_states() -> None:
    last, two = (Hidden(Tiny(num_layers=2), layer).prepare(ROWS)(ROWS) for layer in (-1, 2))
    np.testing.assert_array_equal(last, two)


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_the_model_does_not_have(layer: int) -> None:
    with pytest.raises(InputError, match=rf"embedding\.layer is {layer}, but the model has 2 layers"):
        Hidden(Tiny(num_layers=2), layer).prepare(ROWS)


def test_rows_without_a_response_are_named() -> None:
    rows = pa.table({"id": ["a", "b"], "prompt": ["x", "y"], "response": ["z", ""]})
    with pytest.raises(InputError, match="first b"):
        Hidden(Tiny(format="chat")).prepare(rows)(rows)
