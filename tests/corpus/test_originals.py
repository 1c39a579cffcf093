"""A mixture also holds the records as they came: all fields, in their format."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset

from smartdpp.corpus import originals
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute

STOP = ("until=mixture",)


@pytest.fixture
def records(corpus: Path) -> list[dict]:
    """With fields that no row has, some of which no encoding accepts."""
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    return [
        {**row, "about": {"n": i, "tags": ["é", None]}, "odd": "\ud800" if i == 3 else 0.1}
        for i, row in enumerate(rows)
    ]


def chosen_of(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.mixture.path / "mixture.jsonl").open(encoding="utf-8")]


def same_rows(run: Run, found: list[dict]) -> None:
    assert [(row["prompt"], row["response"]) for row in found] == [
        (row["prompt"], row["response"]) for row in chosen_of(run)
    ]


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_json_comes_out_as_it_came(
    ending: str, records: list[dict], small_run: Callable[..., Run], tmp_path: Path
) -> None:
    text = json.dumps(records) if ending == "json" else "".join(json.dumps(row) + "\n" for row in records)
    (tmp_path / f"in.{ending}").write_text(text)
    run = small_run(f"corpus.path={tmp_path / f'in.{ending}'}", "strategy=full", *STOP)
    execute(run)
    path = run.mixture.path / f"original.{ending}"
    raw = path.read_text(encoding="utf-8")
    found = json.loads(raw) if ending == "json" else [json.loads(line) for line in raw.splitlines()]
    assert all(row in records for row in found)
    same_rows(run, found)
    again = small_run(f"corpus.path={run.mixture.path}", "strategy=full", *STOP)
    assert len(list(again.parts.corpus.rows())) == len(found), (
        "a mixture's folder still is a corpus of its rows, each once"
    )


def test_tables_come_out_as_they_came(
    records: list[dict], small_run: Callable[..., Run], tmp_path: Path
) -> None:
    rows = [{key: row[key] for key in ("task", "prompt", "response")} for row in records]
    frame = pd.DataFrame([{**row, "n": str(i), "empty": ""} for i, row in enumerate(rows)])
    frame.to_csv(tmp_path / "in.csv", index=False)
    run = small_run(f"corpus.path={tmp_path / 'in.csv'}", *STOP)
    execute(run)
    found = pd.read_csv(run.mixture.path / "original.csv", dtype=str, keep_default_na=False)
    assert list(found) == list(frame)
    assert all(row in frame.to_dict("records") for row in found.to_dict("records"))
    same_rows(run, found.to_dict("records"))

    names = sorted({row["task"] for row in rows})
    extra = {
        "day": datetime.datetime(2026, 1, 2, 3, 4, 5),
        "price": Decimal("1.50"),
        "raw": b"\x00\xff",
        "many": [1, 2],
    }
    data = Dataset.from_list([{**row, "task": names.index(row["task"]), **extra} for row in rows])
    data = data.cast_column("task", ClassLabel(names=names))
    data.to_parquet(tmp_path / "in.parquet")
    run = small_run(f"corpus.path={tmp_path / 'in.parquet'}", *STOP)
    execute(run)
    table, given = (
        pq.read_table(run.mixture.path / "original.parquet"),
        pq.read_table(tmp_path / "in.parquet"),
    )
    assert table.schema.remove_metadata().equals(given.schema.remove_metadata())
    assert all(row in given.to_pylist() for row in table.to_pylist())
    assert (
        Dataset.from_parquet(
            str(run.mixture.path / "original.parquet"), cache_dir=str(tmp_path / "c")
        ).features
        == data.features
    )
    same_rows(run, table.to_pylist())

    run = small_run("corpus=hub", f"corpus.path={tmp_path / 'in.csv'}", *STOP)
    execute(run)
    assert list(pd.read_csv(run.mixture.path / "original.csv")) == list(frame)
    run = small_run("corpus=hub", f"corpus.path={tmp_path / 'in.parquet'}", *STOP)
    execute(run)
    same = pq.read_table(run.mixture.path / "original.parquet")
    assert same.schema.remove_metadata().equals(given.schema.remove_metadata())

    data.save_to_disk(tmp_path / "saved")
    run = small_run("corpus=hub", f"corpus.path={tmp_path / 'saved'}", *STOP)
    execute(run)
    same_rows(run, pq.read_table(run.mixture.path / "original.parquet").to_pylist())


def test_files_of_several_formats_come_out_as_json_lines(
    records: list[dict], small_run: Callable[..., Run], tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records[:70]))
    (folder / "b.json").write_text(json.dumps(records[70:]))
    run = small_run(f"corpus.path={folder}", *STOP)
    execute(run)
    found = [json.loads(line) for line in (run.mixture.path / "original.jsonl").open()]
    assert all(row in records for row in found)
    same_rows(run, found)


def test_the_pool_has_the_bytes_that_it_had_before_records_were_kept(
    corpus: Path, small_run: Callable[..., Run], tmp_path: Path
) -> None:
    kept = small_run(*STOP)
    execute(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(Jsonl, "originals")
        plain = small_run(*STOP, f"root={tmp_path / 'plain'}")
        execute(plain)
    assert kept.corpus.key == plain.corpus.key
    for name in ("data.parquet", "heldout.parquet", "overlap.jsonl"):
        assert (kept.corpus.path / name).read_bytes() == (plain.corpus.path / name).read_bytes()
    assert (kept.mixture.path / "mixture.jsonl").read_bytes() == (
        plain.mixture.path / "mixture.jsonl"
    ).read_bytes()
    assert originals.found(kept.mixture.path) == kept.mixture.path / "original.jsonl"
    assert originals.found(plain.mixture.path) is None, "a corpus made before is still one"
    assert not (plain.corpus.path / originals.FILE).exists()
    n = pq.read_metadata(kept.corpus.path / "data.parquet").num_rows
    assert pq.read_metadata(kept.corpus.path / originals.FILE).num_rows == n
    records = pq.read_table(kept.corpus.path / originals.FILE)["record"].to_pylist()
    prompts = pq.read_table(kept.corpus.path / "data.parquet")["prompt"].to_pylist()
    np.testing.assert_array_equal([json.loads(record)["prompt"] for record in records], prompts)
