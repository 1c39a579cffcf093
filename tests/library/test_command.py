"""``smartdpp select``: what the function chooses, written as it came in."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, load_dataset

import smartdpp
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.library.command import main
from smartdpp.library.select import GAIN, RANK

TFIDF = ["embedding=tfidf", "embedding.dim=16"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def rows(corpus: Path) -> list[dict]:
    found = [json.loads(line) for line in corpus.read_text().splitlines()]
    return [{**row, "n": i, "note": "é" if i % 2 else None} for i, row in enumerate(found)]


def plain(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in (RANK, GAIN)} for row in rows]


def test_each_format_comes_out_as_it_went_in(rows: list[dict], tmp_path: Path) -> None:
    nested = [{**row, "about": {"tags": ["a", str(row["n"])], "score": 0.1}} for row in rows]
    (tmp_path / "in.json").write_text(json.dumps(nested, indent=2), encoding="utf-8")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in nested), encoding="utf-8")
    for ending in ("json", "jsonl"):
        out = tmp_path / f"out.{ending}"
        assert main([str(tmp_path / f"in.{ending}"), "budget=9", f"out={out}", *TFIDF]) == 0
        chosen = (
            json.loads(out.read_text(encoding="utf-8"))
            if ending == "json"
            else [json.loads(line) for line in out.open()]
        )
        assert chosen == smartdpp.select(nested, 9, embedding="tfidf", embedding_options={"dim": 16})
        assert len(list(Jsonl(str(out)).rows())) == 9
    pd.DataFrame(rows).to_csv(tmp_path / "in.csv", index=False)
    assert main([str(tmp_path / "in.csv"), "budget=9", f"out={tmp_path / 'out.csv'}", *TFIDF]) == 0
    table = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    given = pd.read_csv(tmp_path / "in.csv", dtype=str, keep_default_na=False)
    assert list(table) == [*given, RANK, GAIN]
    assert all(
        line in given.to_dict("records") for line in table.drop(columns=[RANK, GAIN]).to_dict("records")
    )
    assert list(table["prompt"]) == [row["prompt"] for row in chosen]


def test_a_table_keeps_its_types_and_the_names_of_its_classes(rows: list[dict], tmp_path: Path) -> None:
    names = sorted({row["task"] for row in rows})
    data = Dataset.from_list(
        [
            {
                **row,
                "task": names.index(row["task"]),
                "day": datetime.date(2026, 1, 1 + i % 9),
                "raw": b"\x00\xff",
            }
            for i, row in enumerate(rows)
        ]
    ).cast_column("task", ClassLabel(names=names))
    data.to_parquet(tmp_path / "in.parquet")
    assert main([str(tmp_path / "in.parquet"), "budget=9", f"out={tmp_path / 'out.parquet'}", *TFIDF]) == 0
    chosen, given = pq.read_table(tmp_path / "out.parquet"), pq.read_table(tmp_path / "in.parquet")
    assert chosen.schema.remove_metadata().equals(
        given.schema.remove_metadata().append(pa.field(RANK, pa.int64())).append(pa.field(GAIN, pa.float64()))
    )
    assert all(row in given.to_pylist() for row in plain(chosen.to_pylist()))
    loaded = load_dataset(
        "parquet", data_files=str(tmp_path / "out.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.features["task"] == data.features["task"]
    assert sorted({names[task] for task in loaded["task"]}) == names, "equal shares of every class"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "budget=9: this is no file"),
        (["in.jsonl"], "out: say where the chosen rows go"),
        (["in.jsonl", "other.jsonl", "out=o.jsonl"], "one file or folder is chosen from, and 2 are given"),
        (["in.jsonl", "out=o.txt"], "the ending says the format: choose one of .json, .jsonl"),
        (["in.jsonl", "out=no/o.jsonl"], "there is no folder no"),
        (["in.jsonl", "out=in.jsonl"], "this is what is chosen from"),
        (["in.jsonl", "out=o.jsonl", "budgt=3"], "there is no setting 'budgt'; did you mean budget?"),
        (["in.jsonl", "out=o.jsonl", "strategy=smrt"], "did you mean smart?"),
        (["in.jsonl", "out=o.jsonl", "strategy.temprature=3"], "did you mean temperature?"),
        (
            ["in.jsonl", "out=o.csv", "embedding=tfidf", "budget=9"],
            "about holds lists or objects, which CSV cannot",
        ),
        (["in.jsonl", "out=o.jsonl", "budget=many"], "budget='many': it must be a whole number"),
        (["no.jsonl", "out=o.jsonl"], "there is no file or folder no.jsonl"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(
    words: list[str],
    said: str,
    rows: list[dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "".join(json.dumps({**row, "about": {"a": 1}}) + "\n" for row in rows)
    (tmp_path / "in.jsonl").write_text(text, encoding="utf-8")
    if not words:
        words, said = ["budget=9"], "one file or folder is chosen from, and 0 are given"
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert printed.splitlines()[-1].startswith("error: ")  # below the progress
    assert said in printed
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    assert (tmp_path / "in.jsonl").read_text() == text


def test_the_command_line_knows_it_before_any_run(rows: list[dict], tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [
        "select",
        "in.jsonl",
        "out=out.jsonl",
        "budget=5",
        "strategy=dpp",
        "strategy.gamma=2",
        "task=task",
        *TFIDF,
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("5 rows written to out.jsonl\n")
    chosen = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    options = {"embedding": "tfidf", "embedding_options": {"dim": 16}, "strategy_options": {"gamma": 2}}
    assert chosen == smartdpp.select(rows, 5, "dpp", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_budget_in_tokens_weights_and_a_start_are_settings_too(corpus: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "out.jsonl", tmp_path / "more.jsonl"
    asked = ["strategy=equal", "model=tiny", "weights.copy=3", "budget_tokens=300", *TFIDF]
    assert main([str(corpus), f"out={out}", *asked]) == 0
    assert main([str(corpus), f"out={more}", f"start={out}", *asked]) == 0
    chosen, added = ([json.loads(line) for line in path.open()] for path in (out, more))
    assert sum(row["task"] == "copy" for row in chosen) > len(chosen) / 4
    assert not {row["prompt"] for row in chosen} & {row["prompt"] for row in added}
