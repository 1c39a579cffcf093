"""Importance resampling by words against its equation, text by text."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from smartdpp.errors import InputError
from smartdpp.query import Development
from smartdpp.strategies import dsir
from smartdpp.strategies.dsir import Dsir
from smartdpp.types import Pool

POOL = [
    ("Add 2 and 3.", "5"),
    ("Is it RED or blue?!", "Red, of course"),
    ("say nothing", ""),
    ("Name a colour: red, blue", "blue"),
    ("Add 40 and 2, please", "42"),
    ("Straße, naïve; x_1 = y--z", "ok"),
    ("red", "red red red red"),
]
QUERY = [("Which colour is it?", "red"), ("red or blue?", "Blue!")]
WORDS = {  # as people would take them apart
    "Add 2 and 3. 5": ["add", "2", "and", "3", ".", "5"],
    "Is it RED or blue?! Red, of course": ["is", "it", "red", "or", "blue", "?!", "red", ",", "of", "course"],
    "say nothing": ["say", "nothing"],
    "Name a colour: red, blue blue": ["name", "a", "colour", ":", "red", ",", "blue", "blue"],
    "Add 40 and 2, please 42": ["add", "40", "and", "2", ",", "please", "42"],
    "Straße, naïve; x_1 = y--z ok": ["straße", ",", "naïve", ";", "x_1", "=", "y", "--", "z", "ok"],
    "red red red red red": ["red"] * 5,
    "Which colour is it? red": ["which", "colour", "is", "it", "?", "red"],
    "red or blue? Blue!": ["red", "or", "blue", "?", "blue", "!"],
}


def table(rows: list[tuple[str, str]]) -> pa.Table:
    return pa.table({"prompt": [p for p, _ in rows], "response": [r for _, r in rows]})


def pool_of(rows: list[tuple[str, str]] = POOL, query: list[tuple[str, str]] = QUERY) -> Pool:
    n = len(rows)
    return Pool(
        np.array([f"{i:03d}" for i in range(n)])[::-1],
        np.ones((n, 2), np.float32),
        np.zeros(n, int),
        ["t"],
        np.ones(n, int),
        text=table(rows),
        query_text=table(query),
    )


def buckets(rows: list[tuple[str, str]], size: int) -> list[Counter[int]]:
    found = []
    for prompt, response in rows:
        words = WORDS[f"{prompt} {response}".strip()]
        grams = words + [f"{a} {b}" for a, b in pairwise(words)]
        found.append(Counter(int(hashlib.sha256(g.encode()).hexdigest(), 16) % size for g in grams))
    return found


def log_weights(size: int) -> list[float]:
    mine, theirs = buckets(POOL, size), buckets(QUERY, size)
    q, p = (sum(counts, Counter()) for counts in (mine, theirs))

    def log_share(counts: Counter[int], b: int) -> float:
        return math.log(counts[b] / sum(counts.values()) + 1e-8)

    return [sum(c * (log_share(p, b) - log_share(q, b)) for b, c in counts.items()) for counts in mine]


@pytest.mark.parametrize("size", [10_000, 7])
def test_rows_are_ranked_by_the_log_weight_of_their_words_and_pairs(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dsir, "CHUNK", 3)
    expected = log_weights(size)
    chosen = Dsir(Development(), buckets=size, temperature=0).select(pool_of(), 7, np.random.default_rng(0))
    assert chosen.index.tolist() == sorted(range(7), key=lambda i: -expected[i])
    np.testing.assert_allclose(chosen.gain, sorted(expected, reverse=True), rtol=1e-12)


def test_noise_draws_rows_in_proportion_to_their_weights() -> None:
    rows = [("red", "blue"), ("red red", "blue"), ("blue", "x"), ("a", "x")]
    pool = pool_of(rows, [("red", "blue")])
    strategy = Dsir(Development(), reads="prompt", temperature=4.0)
    log_w = Dsir(Development(), reads="prompt", temperature=0.0).select(pool, 4, np.random.default_rng(0))
    w = np.exp(log_w.gain[np.argsort(log_w.index)] / 4)
    draws = [strategy.select(pool, 1, np.random.default_rng(seed)).index[0] for seed in range(3000)]
    np.testing.assert_allclose(np.bincount(draws, minlength=4) / 3000, w / w.sum(), atol=0.03)


def test_the_prompt_alone_can_be_read() -> None:
    rows = [("good", "bad"), ("bad", "good")]
    pool = pool_of(rows, [("good", "bad bad bad")])

    def first(reads: str) -> int:
        strategy = Dsir(Development(), reads=reads, temperature=0)
        return int(strategy.select(pool, 1, np.random.default_rng(0)).index[0])

    assert first("prompt") == 0
    pool = pool_of(rows, [("x", "bad good bad good")])
    assert first("all") == 1


def test_short_rows_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    strategy = Dsir(Development(), min_words=6)
    with caplog.at_level(logging.WARNING):
        chosen = strategy.select(pool_of(), 5, np.random.default_rng(0))
    assert sorted(chosen.index.tolist()) == [0, 1, 3, 4, 5]
    assert "2 of 7 rows have fewer than 6 words and are left out" in caplog.text
    with pytest.raises(InputError, match=r"min_words=6 leaves 5 of 7 rows, fewer than .* of 6"):
        strategy.select(pool_of(), 6, np.random.default_rng(0))


def test_what_it_cannot_do_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="without a query's texts"):
        Dsir(Development()).select(replace(pool_of(), query_text=None), 1, rng)
    with pytest.raises(InputError, match="without texts"):
        Dsir(Development()).select(replace(pool_of(), text=None), 1, rng)
    with pytest.raises(InputError, match="hold no word, so no text"):
        Dsir(Development()).select(pool_of(query=[(" ", "")]), 1, rng)
    with pytest.raises(InputError, match=r"strategy.buckets is 1: choose 2 to 65536"):
        Dsir(Development(), buckets=1)
    with pytest.raises(InputError, match=r"strategy.temperature is -1"):
        Dsir(Development(), temperature=-1.0)
    with caplog.at_level(logging.WARNING):
        Dsir(Development()).select(pool_of([("a", "b")] * 3), 1, rng)
    assert "every row has the same weight" in caplog.text
