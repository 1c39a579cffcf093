"""Batches: every row once, under the token budget, labelled on its response; memory that runs out costs time,
not rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smartdpp.errors import InputError
from smartdpp.models import Tiny
from smartdpp.models.batches import encoded, run_batches, token_batches
from smartdpp.models.tokens import Encoded

PAD = 0


def examples(lengths: list[int]) -> list[Encoded]:
    return [Encoded([10 * i + 1 + j for j in range(n)], n // 2) for i, n in enumerate(lengths)]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(1, 120))
def test_every_row_once_within_the_budget_and_labelled_on_its_response(
    lengths: list[int], max_tokens: int
) -> None:
    given_ = examples(lengths)
    seen = []
    for batch in token_batches(given_, max_tokens, PAD):
        b, t = batch.input_ids.shape
        assert b * t <= max_tokens or b == 1
        for line, row in enumerate(batch.rows):
            n, n_prompt = lengths[row], given_[row].n_prompt
            assert batch.input_ids[line].tolist() == given_[row].ids + [PAD] * (t - n)
            assert batch.attention_mask[line].tolist() == [1] * n + [0] * (t - n)
            assert batch.labels[line].tolist() == [-100] * n_prompt + given_[row].ids[n_prompt:] + [-100] * (
                t - n
            )
        seen += batch.rows.tolist()
    assert seen == sorted(range(len(lengths)), key=lambda i: (lengths[i], i))


def test_a_batch_that_does_not_fit_is_halved_and_the_pass_goes_on(capsys: pytest.CaptureFixture) -> None:
    lengths = [3, 9, 5, 9, 9, 4, 9, 9]

    def work(batch):
        if batch.input_ids.numel() > 20:
            raise torch.OutOfMemoryError("simulated")
        return batch.input_ids.sum(1)

    done = list(run_batches(examples(lengths), 80, PAD, work))
    rows = np.concatenate([batch.rows for batch, _ in done])
    assert sorted(rows) == list(range(8))
    sums = torch.cat([result for _, result in done])
    assert sums.tolist() == [sum(examples(lengths)[row].ids) for row in rows]
    assert "out of memory with 8 rows of 9 tokens" in capsys.readouterr().out


def test_a_row_that_never_fits_is_named() -> None:
    def work(batch):
        if batch.input_ids.shape[1] > 20:
            raise torch.OutOfMemoryError("simulated")
        return 1

    with pytest.raises(InputError, match=r"row c: its 30 tokens alone"):
        list(run_batches(examples([3, 4, 30]), 100, PAD, work, ids=["a", "b", "c"]))


def test_rows_without_response_tokens_are_refused_by_name() -> None:
    tiny = Tiny()
    good = {"id": ["a", "b"], "prompt": ["one", "two"], "response": ["1", "2"]}
    ids, n_prompt = encoded(tiny.tokenizer(), "chat", pa.table(good))[0]
    assert len(ids) - n_prompt == 2  # "1" and the end of the turn
    rows = pa.table({"id": list("abcdefgh"), "prompt": ["p"] * 8, "response": ["r", *[""] * 7]})
    with pytest.raises(InputError, match=r"7 rows have no response tokens, first b, c, d, e, f:"):
        encoded(tiny.tokenizer(), "chat", rows)
