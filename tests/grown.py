"""How far this process rises above its start while it does one thing: `python -m tests.grown WHAT` prints
bytes, stated and measured."""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sklearn.decomposition
import sklearn.feature_extraction.text
import torch

from smartdpp.diversity import LogDetDistance
from smartdpp.diversity.components import memory
from smartdpp.embedding.tfidf import Tfidf
from smartdpp.functions import FacilityLocation, GraphCut, LogDet, loops
from smartdpp.greedy import maximize
from smartdpp.runtime.shards import run
from smartdpp.store.record import peak_memory
from smartdpp.strategies.dpp import Dpp
from smartdpp.strategies.smart import Smart
from smartdpp.strategies.submodular import Submodular
from smartdpp.strategies.two_rounds import TwoRounds
from smartdpp.types import Pool

LOADED = (sklearn, torch, loops)  # a stage's growth without what it imports
N, D, BUDGET = 8000, 256, 1000


def pool(folder: Path) -> Pool:
    X = np.lib.format.open_memmap(folder / "X.npy", mode="w+", dtype=np.float32, shape=(N, D))
    X[:] = np.random.default_rng(0).normal(size=(N, D)) + 1
    X.flush()
    del X
    task = np.sort(np.arange(N) % 2)
    ids = np.array([f"{i:06d}" for i in range(N)])
    return Pool(ids, np.load(folder / "X.npy", mmap_mode="r"), task, ["a", "b"], np.ones(N, dtype=np.int64))


def measured(what: str, folder: Path) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    if what == "tfidf":
        words, d = rng.choice([f"word{i}" for i in range(2000)], (N, 60)), 64
        rows = pa.table({"id": [str(i) for i in range(N)], "prompt": [" ".join(row) for row in words]})
        rows = rows.append_column("n_tokens", [np.full(N, 60)])
        stated = Tfidf(dim=d).memory(N, d, rows.nbytes, 60, 4)
        work: Any = partial(run, Tfidf(dim=d), rows, folder, "embedding")
    elif what == "diversity":
        X = rng.normal(size=(2500, D)).astype(np.float32)
        stated, work = memory(len(X), D, len(X)), partial(LogDetDistance(reference_seeds=(0,)).measure, X)
    else:
        strategy = {
            "facility location": Submodular(FacilityLocation),
            "facility location in tasks": Smart(instances=FacilityLocation),
            "graph cut": Submodular(GraphCut),
            "two rounds": TwoRounds(FacilityLocation, parts=4),
            "log determinant": Submodular(LogDet),
            "dpp": Dpp(),
        }[what]
        stated, work = (
            strategy.memory(N, D, BUDGET, N // 2),
            partial(strategy.select, pool(folder), BUDGET, rng),
        )
    # what is compiled or set up once; no more, as memory that is freed is used again and would hide growth
    if what != "tfidf":
        for make in (FacilityLocation, LogDet):
            maximize(make(rng.normal(size=(200, 8))), 5)
    if what == "diversity":
        LogDetDistance(reference_seeds=(0,)).measure(rng.normal(size=(2100, 8)).astype(np.float32))
    with peak_memory(0.002) as peak:
        start = peak()
        work()
    return float(stated or 0), float(peak() - start)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(sys.argv[1], Path(folder))))
