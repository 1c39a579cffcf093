"""How diverse data at hand is: the numbers of the commands, on any kind of data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

import smartdpp
from smartdpp.comparison.command import main
from smartdpp.diversity import AllMeasures, log_det_distance, vendi_score
from smartdpp.errors import InputError

TFIDF = {"embedding": "tfidf", "embedding_options": {"dim": 12}}
FEW = {"options": {"log_det.reference_seeds": [0, 1]}}


@pytest.fixture
def sets(corpus: Path) -> tuple[list[dict], list[dict]]:
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    return rows[:60], rows[60:]


def test_diversity_is_a_package_and_is_called_as_measure_is(sets: tuple[list[dict], list[dict]]) -> None:
    X = np.random.default_rng(3).normal(size=(60, 5)).astype(np.float32)
    assert smartdpp.diversity(sets[0], X=X) == smartdpp.measure(sets[0], X=X)  # type: ignore[operator]
    assert smartdpp.diversity.vendi_score(X) > 1
    code = "import smartdpp; print(callable(smartdpp.diversity), 'diversity' in dir(smartdpp))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout == "True True\n", said.stderr


def test_a_set_is_measured_by_every_measure(sets: tuple[list[dict], list[dict]]) -> None:
    X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    found = smartdpp.measure(sets[0], X=X)
    assert found["vendi"] == pytest.approx(vendi_score(X))
    assert found["ldd"] == pytest.approx(log_det_distance(X).value)
    assert found["task_entropy"] > 0
    assert set(found) >= {
        name for name, value in AllMeasures().measure(X).items() if isinstance(value, float)
    }
    copies = smartdpp.measure(sets[0], X=np.tile(X[:6], (10, 1)))
    assert copies["vendi"] < found["vendi"]


def test_coverage_is_of_the_pool_that_is_named(sets: tuple[list[dict], list[dict]]) -> None:
    chosen = smartdpp.select(Dataset.from_list(sets[0]), 10, **TFIDF)
    some, whole = (
        smartdpp.measure(part, pool=sets[0], **TFIDF, **FEW)["coverage"] for part in (chosen, sets[0])
    )
    assert whole == pytest.approx(1, abs=1e-5)
    assert some < whole
    assert "coverage" not in smartdpp.measure(chosen, **TFIDF, **FEW)
    with pytest.raises(InputError, match="does not go with X"):
        smartdpp.measure(sets[0], X=np.zeros((60, 2)), pool=sets[1])


def test_two_sets_compare_as_two_files_do(sets: tuple[list[dict], list[dict]], tmp_path: Path) -> None:
    for name, rows in zip("ab", sets, strict=True):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows[: 60 if name == "a" else 50])
        )
    options = [
        "embedding=tfidf",
        "embedding.dim=12",
        "diversity.log_det.reference_seeds=[0,1]",
        "rows=40",
        "seed=2",
    ]
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    assert main([*files, *options, f"out={tmp_path / 'out'}", f"root={tmp_path}"]) == 0
    expected = pd.read_csv(tmp_path / "out" / "diversity.csv").set_index("set")
    found = smartdpp.compare(sets[0], pd.DataFrame(sets[1][:50]), rows=40, seed=2, **TFIDF, **FEW).set_index(
        "set"
    )
    pd.testing.assert_frame_equal(found.loc[["a", "b"]], expected.loc[["a", "b"]], check_dtype=False)


def test_names_are_one_for_each_set(sets: tuple[list[dict], list[dict]]) -> None:
    found = smartdpp.compare(*sets, names=("chosen", "random"), **TFIDF, **FEW)
    assert set(found["set"]) == {"chosen", "random"}
    with pytest.raises(InputError, match="give 2 different names"):
        smartdpp.compare(*sets, names=("a", "a"))
