"""Shards: row i is row i, a kill costs one of them, and the bytes do not depend on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from smartdpp.embedding.shards import embed
from smartdpp.errors import InputError
from smartdpp.runtime.shards import load, run

ROWS = pa.table({"id": [str(i) for i in range(25)], "prompt": ["x" * i for i in range(25)]})


class Lengths:
    """Embeds a prompt as (its length, 1), and stops as a kill would after ``survives`` shards."""

    def __init__(self, survives: int = 99, bad: int = -1) -> None:
        self.survives, self.bad, self.encoded = survives, bad, 0

    def check(self):
        return []

    def cut(self, rows):
        over = [len(text) - 20 for text in rows["prompt"].to_pylist() if len(text) > 20]
        return len(over), sum(over)

    def prepare(self, rows):
        def encode(shard):
            if self.survives == 0:
                raise KeyboardInterrupt
            self.survives -= 1
            self.encoded += len(shard)
            return np.array(
                [[np.nan if len(text) == self.bad else len(text), 1] for text in shard["prompt"].to_pylist()]
            )

        return encode


def test_row_i_belongs_to_row_i(tmp_path: Path) -> None:
    facts = run(Lengths(), ROWS, tmp_path, "lengths", shard=4)
    X = load(tmp_path)
    assert isinstance(X, np.memmap)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X[:, 0], np.arange(25))
    assert facts == {"n": 25, "d": 2, "dtype": "float32", "resumed_rows": 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["X.npy", "manifest.json"]


def test_an_interrupted_embedding_goes_on_with_the_next_shard(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Lengths(survives=3), ROWS, tmp_path, "lengths", shard=4)
    # of a worker, and of a run in several processes
    for left in ("shard-000000012.writing", "rows.arrow", ".rows.arrow", "job.json"):
        (tmp_path / left).write_bytes(b"half a shard")
    again = Lengths()
    facts = run(again, ROWS, tmp_path, "lengths", shard=4)
    assert again.encoded == 25 - 12
    assert facts["resumed_rows"] == 12
    np.testing.assert_array_equal(load(tmp_path)[:, 0], np.arange(25))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["X.npy", "manifest.json"]


def test_a_vector_that_is_not_finite_names_its_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lengths: the numbers of 1 rows are not finite, first 13"):
        run(Lengths(bad=13), ROWS, tmp_path, "lengths", shard=4)


def test_what_an_encoder_cuts_is_a_fact_whatever_was_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        embed(Lengths(survives=3), ROWS, tmp_path, shard=4)
    facts = embed(Lengths(), ROWS, tmp_path, shard=4)
    assert (facts["cut_rows"], facts["cut_tokens"]) == (4, 1 + 2 + 3 + 4)
    assert "4 of 25 prompts are longer than the encoder reads, 10 tokens were cut" in caplog.text
