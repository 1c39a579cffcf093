"""The mixture on disk: order, provenance and counts survive."""

from __future__ import annotations

import csv
import dataclasses
import json
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from smartdpp.strategies import mixture
from smartdpp.types import Selection

ROWS = pa.table(
    {
        "id": ["a/0", "a/1", "b/0", "c/0"],
        "task": ["a", "a", "b", "c"],
        "dataset": [None, None, "set", None],
        "prompt": ["line\u2028separator", "p1", "${oc.env:HOME}", "p3"],
        "response": ["r0", "r1", "{{ 7*7 }}", "r3"],
        "source": ["s", "s", "s2", "s"],
        "license": ["mit", "mit", None, "mit"],
        "template": pa.array([None] * 4, pa.string()),
        "n_tokens": pa.array([3, 4, 5, 6], pa.int32()),
    }
)
CONFIG = {
    "corpus": {},
    "pool": {},
    "embedding": {},
    "quality": {},
    "strategy": {"_target_": "x"},
    "budget": 3,
    "select_seed": 0,
}


def test_the_files_say_what_was_chosen(tmp_path: Path) -> None:
    pool = mixture.pool(ROWS, np.eye(4, dtype=np.float32), np.ones(4))
    assert pool.names == ["a", "b", "c"]
    assert pool.task.tolist() == [0, 0, 1, 2]
    assert pool.template is None
    facts = mixture.write(
        pool,
        ROWS.take([2, 0, 1]),
        Selection(np.array([2, 0, 1]), np.array([3.0, 2.0, 1.0])),
        tmp_path,
        CONFIG,
    )
    assert facts == {"n": 3, "n_pool": 4, "tasks": 2, "tasks_in_pool": 3, "tokens": 12} | {
        "mean_quality": None,
        "mean_quality_in_pool": None,
    }
    scored = dataclasses.replace(pool, quality=np.array([1.0, 2.0, 9.0, 4.0]))
    facts = mixture.write(
        scored,
        ROWS.take([2, 0, 1]),
        Selection(np.array([2, 0, 1]), np.array([3.0, 2.0, 1.0])),
        tmp_path,
        CONFIG,
    )
    assert (facts["mean_quality"], facts["mean_quality_in_pool"]) == (4, 4)

    lines = [json.loads(line) for line in (tmp_path / "mixture.jsonl").open(encoding="utf-8", newline="\n")]
    assert [(line["rank"], line["gain"], line["id"], line["license"]) for line in lines] == [
        (0, 3.0, "b/0", None),
        (1, 2.0, "a/0", "mit"),
        (2, 1.0, "a/1", "mit"),
    ]
    assert lines[0]["prompt"] == "${oc.env:HOME}"
    assert mixture.read(tmp_path)["prompt"].to_pylist()[1] == "line\u2028separator"
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy", allow_pickle=False), [2, 0, 1])
    tasks = list(csv.DictReader((tmp_path / "tasks.csv").open()))
    assert [(row["task"], row["pool"], row["selected"]) for row in tasks] == [
        ("a", "2", "2"),
        ("b", "1", "1"),
        ("c", "1", "0"),
    ]
    card = (tmp_path / "README.md").read_text()
    assert "| mit | 2 |" in card
    assert "| a | 2 |" in card


def test_template_types_reach_the_strategy() -> None:
    flan = ROWS.set_column(
        ROWS.schema.get_field_index("template"), "template", pa.array(["zs_opt", "fs_opt", "zs_noopt", None])
    )
    assert mixture.pool(flan, np.eye(4, dtype=np.float32), np.ones(4)).template.tolist() == [
        "zs_opt",
        "fs_opt",
        "zs_noopt",
        "",
    ]


def test_a_mixtures_content_is_its_prompts_and_responses_in_order() -> None:
    renamed = ROWS.set_column(ROWS.schema.get_field_index("id"), "id", pa.array(["w", "x", "y", "z"]))
    assert mixture.content(renamed) == mixture.content(ROWS)
    assert mixture.content(ROWS.take([1, 0, 2, 3])) != mixture.content(ROWS)
    shifted = pa.table({"prompt": ["ab"], "response": ["c"]}), pa.table({"prompt": ["a"], "response": ["bc"]})
    assert mixture.content(shifted[0]) != mixture.content(shifted[1])


def test_memory_does_not_follow_the_longest_id() -> None:
    import tracemalloc

    from smartdpp.strategies.pool_order import by_id
    from smartdpp.task_vectors.task2vec import sample

    n = 300
    ids = [f"{(i * 7919) % n}é" for i in range(n - 1)] + ["w" * 100_000]
    rows = pa.table({"id": ids, "task": ["t"] * n, "template": [None] * n, "n_tokens": [3] * n})
    tracemalloc.start()
    pool = mixture.pool(rows, np.zeros((n, 1), np.float32), np.ones(n))
    order = by_id(pool)
    drawn = sample(rows, 5, 0)["t"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [ids[i] for i in order] == sorted(ids)
    assert (
        drawn.tolist()
        == np.random.default_rng([0, zlib.crc32(b"t")]).permutation(np.argsort(np.array(ids)))[:5].tolist()
    )
    assert peak < 20e6  # an array of fixed width takes 120 MB
