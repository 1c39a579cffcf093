"""The embedding stage: row i is row i, a kill costs one shard, and the bytes do not depend on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from smartdpp.embedding.shards import embed, load
from smartdpp.errors import InputError

ROWS = pa.table({"id": [str(i) for i in range(25)], "prompt": ["x" * i for i in range(25)]})


class Lengths:
    """Embeds a prompt as (its length, 1), and stops as a kill would after ``survives`` shards."""

    def __init__(self, survives: int = 99, bad: int = -1) -> None:
        self.survives, self.bad, self.encoded = survives, bad, 0

    def check(self):
        return []

    def prepare(self, rows):
        def encode(shard):
            if self.survives == 0:
                raise KeyboardInterrupt
            self.survives -= 1
            self.encoded += len(shard)
            return np.array([[np.nan if len(text) == self.bad else len(text), 1] for text in shard["prompt"].to_pylist()])

        return encode


def test_row_i_belongs_to_row_i(tmp_path: Path) -> None:
    facts = embed(Lengths(), ROWS, tmp_path, shard=4)
    X = load(tmp_path)
    assert isinstance(X, np.memmap)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X[:, 0], np.arange(25))
    assert facts == {"n": 25, "d": 2, "dtype": "float32", "resumed_rows": 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["X.npy", "manifest.json"]


def test_an_interrupted_embedding_goes_on_with_the_next_shard(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        embed(Lengths(survives=3), ROWS, tmp_path, shard=4)
    (tmp_path / "shard-000000012.writing").write_bytes(b"half a shard")
    again = Lengths()
    facts = embed(again, ROWS, tmp_path, shard=4)
    assert again.encoded == 25 - 12
    assert facts["resumed_rows"] == 12
    np.testing.assert_array_equal(load(tmp_path)[:, 0], np.arange(25))


def test_a_vector_that_is_not_finite_names_its_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 rows is not finite, first 13"):
        embed(Lengths(bad=13), ROWS, tmp_path, shard=4)
