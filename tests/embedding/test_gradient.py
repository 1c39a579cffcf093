"""embedding=gradient: unit vectors, resumable and splittable to the same bytes, and clear about rows it
cannot use."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartdpp.embedding.gradient import Gradient
from smartdpp.embedding.shards import embed, load
from smartdpp.errors import InputError
from smartdpp.models import Tiny
from smartdpp.store.disk import read_json
from tests.forked import Forked

N = 40
ROWS = pa.table(
    {
        "id": [f"r{i}" for i in range(N)],
        "prompt": [f"What is {i} plus {i}? {'Think. ' * (i % 4)}" for i in range(N)],
        "response": [str(2 * i) for i in range(N)],
        "n_tokens": [30 + i for i in range(N)],
    }
)
SMALL = Gradient(Tiny(), dim=64, batch_tokens=256)


def test_rows_of_norm_one_in_half_precision(tmp_path: Path) -> None:
    facts = embed(SMALL, ROWS, tmp_path, shard=16)
    X = load(tmp_path)
    assert X.dtype == np.float16
    assert X.shape == (N, 64)
    np.testing.assert_allclose(np.linalg.norm(X.astype(np.float64), axis=1), 1, atol=1e-3)
    assert facts["tokens"] == sum(ROWS["n_tokens"].to_pylist())
    assert facts["seconds"] > 0
    whole = Gradient(Tiny(), dim=64, store="float32").prepare(ROWS)(ROWS)
    np.testing.assert_allclose(X, whole, atol=1e-3)


@pytest.mark.parametrize("projection", ["lora", "exact"])
def test_the_projections_it_is_checked_against(projection) -> None:
    X = Gradient(Tiny(), dim=64, projection=projection, lora_rank=8, store="float32").prepare(ROWS)(
        ROWS.slice(0, 5)
    )
    assert X.shape == (5, 64 if projection == "lora" else 2 * (2 * 32 * 32 + 2 * 32 * 16))
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-5)


def test_killed_half_way_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    embed(SMALL, ROWS, whole, shard=1)
    program = (
        "import sys, pyarrow.parquet as pq; from pathlib import Path; from smartdpp.embedding.gradient "
        "import Gradient;"
        "from smartdpp.embedding.shards import embed; from smartdpp.models import Tiny;"
        "embed(Gradient(Tiny(), dim=64, batch_tokens=256), pq.read_table(sys.argv[1]), Path(sys.argv[2]), "
        "shard=1)"
    )
    process = Forked(str(tmp_path / "rows.parquet"), str(killed), code=program)
    while len(list(killed.glob("shard-*.npy"))) < 3 and process.running:
        time.sleep(0.002)
    process.kill()
    process.ended()
    survived = len(list(killed.glob("shard-*.npy")))
    assert not (killed / "X.npy").exists()
    assert 3 <= survived < N
    facts = embed(SMALL, ROWS, killed, shard=1)
    assert facts["resumed_rows"] == survived
    assert facts["tokens"] < sum(ROWS["n_tokens"].to_pylist())
    for name in ("X.npy", "manifest.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_two_processes_leave_the_bytes_of_one(tmp_path: Path) -> None:
    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
        embed(SMALL, ROWS, tmp_path / str(processes), shard=8, processes=processes)
    for name in ("X.npy", "manifest.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == ["X.npy", "manifest.json"]


def test_shards_of_other_rows_are_not_used(tmp_path: Path) -> None:
    embed(SMALL, ROWS, tmp_path, shard=16)
    (tmp_path / "shard-000000000.npy").write_bytes(b"of another corpus")
    other = ROWS.slice(1)
    facts = embed(SMALL, other, tmp_path, shard=16)
    assert facts["resumed_rows"] == 0
    assert read_json(tmp_path / "manifest.json")["rows"] == len(other)


def test_rows_without_a_response_are_refused_before_the_work() -> None:
    rows = pa.table({"id": ["a", "b"], "prompt": ["x", "y"], "response": ["1", ""]})
    with pytest.raises(InputError, match="1 rows have no response tokens, first b:"):
        Gradient(Tiny(format="chat"), dim=8).prepare(rows)


def test_a_gradient_of_zero_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    load_model = Tiny.load

    def flat(self, **kwargs):
        model = load_model(self, **kwargs)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.data.zero_()
            layer.self_attn.v_proj.weight.data.zero_()
        return model

    monkeypatch.setattr(Tiny, "load", flat)
    with pytest.raises(InputError, match=r"the gradient of 40 rows is zero, first r0, r1, r2, r3, r4:"):
        Gradient(Tiny(), dim=8).prepare(ROWS)(ROWS)


def test_full_gradients_of_too_many_rows_are_refused_with_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smartdpp.embedding.gradient.EXACT_BYTES", 10_000)
    with pytest.raises(InputError, match=r"would keep 6144 numbers of each of 40 rows, 0 GB"):
        Gradient(Tiny(), projection="exact").prepare(ROWS)


@pytest.mark.parametrize(
    "wrong", [{"dim": 0}, {"batch_tokens": 0}, {"processes": 0}, {"rank": 0}, {"seed": -1}]
)
def test_impossible_parameters_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=rf"embedding\.{next(iter(wrong))} is"):
        Gradient(Tiny(), **wrong)
