"""Times every method that papers on choosing instruction data compare with, and its memory, on one pool.

    python experiments/benchmarks/baselines.py --work FOLDER
    python experiments/benchmarks/baselines.py --work FOLDER --rows 5000 --picks 200 --only targeted    a try

Data: clustered unit vectors, float32, d = 384, kept in FOLDER and read from its map; a query of 100 rows of
ten targets; qualities and tasks at random; for methods that read texts, words by Zipf's law. Every method
is a process of its own, which first chooses from 2,000 rows, so that what is to be loaded and compiled is.
Timed is `select`; memory is the peak above what the process held before it, without one copy of the features.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from selection import D, clustered  # beside this script

QUERY, TARGETS = 100, 10
WORDS, VOCABULARY = 100, 30_000  # of a text, and of all
WARM = 2_000

# what a line says, the strategy in conf/strategy, and options of it as smartdpp.select takes them
METHODS: list[tuple[str, str, dict[str, Any]]] = [
    ("random", "random", {}),
    ("FLQMI", "targeted", {"function": "flqmi"}),
    ("FLVMI", "targeted", {"function": "flvmi"}),
    ("FLVMI, 1,000 witnesses", "targeted", {"function": "flvmi", "witnesses": 1000}),
    ("GCMI", "targeted", {"function": "gcmi"}),
    ("round robin (RDS+)", "targeted", {"function": "round_robin"}),
    ("round robin, targets balanced", "targeted", {"function": "round_robin", "targets": "balanced"}),
    ("doubly greedy (max)", "targeted", {"function": "max"}),
    ("max, targets balanced", "targeted", {"function": "max", "targets": "balanced"}),
    ("mean", "targeted", {"function": "mean"}),
    ("LESS's rule", "targeted", {"function": "less"}),
    ("TSDS", "tsds", {}),
    ("TSDS, alpha = 0.01", "tsds", {"alpha": 0.01}),
    ("KNN-uniform", "tsds", {"sigma": 0.0}),
    ("unbalanced transport", "uot", {}),
    ("DSIR", "dsir", {}),
    ("DEITA", "deita", {}),
    ("filtered, facility location", "filtered", {}),
    ("k-center", "k_center", {}),
    ("k-means, random", "kmeans_random", {}),
    ("kMQ", "kmq", {}),
    ("QDIT, 64 neighbours", "qdit", {"function.neighbors": 64}),
    ("GIST", "gist", {}),
    ("NovelSelect", "novelselect", {}),
    ("S2L", "s2l", {}),
    ("TAGCOS", "tagcos", {}),
]


def features(work: Path, n: int) -> np.ndarray:
    """float32[n + QUERY, D], the last of them the query's."""
    path = work / f"X{n}.npy"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        np.save(path, clustered(n + QUERY))
    return np.load(path, mmap_mode="r")


def texts(n: int, seed: int) -> Any:
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    words = np.array([f"w{i}" for i in range(VOCABULARY)])[rng.zipf(1.3, size=(n, WORDS)) % VOCABULARY]
    said = [" ".join(row) for row in words]
    return pa.table({"prompt": said, "response": [""] * n})


def pool_of(X: np.ndarray, n: int, text: bool) -> Any:
    from smartdpp.types import Pool

    rng = np.random.default_rng(0)
    return Pool(
        ids=np.array([f"{i:09d}" for i in range(n)], dtype=np.dtypes.StringDType()),
        X=X[:n],
        task=rng.integers(50, size=n),
        names=[f"task {i}" for i in range(50)],
        cost=rng.integers(20, 500, size=n),
        quality=rng.uniform(0.5, 2, size=n),
        query=np.array(X[-QUERY:]),
        query_task=np.arange(QUERY) * TARGETS // QUERY,
        query_names=[f"target {i}" for i in range(TARGETS)],
        text=texts(n, 1) if text else None,
        query_text=texts(QUERY, 2) if text else None,
    )


def held(what: str) -> int:
    """Bytes that this process holds now (VmRSS), or has at most (VmHWM)."""
    return 1024 * int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def measure(label: str, given: argparse.Namespace) -> dict[str, float]:
    from smartdpp.library.components import made, node

    name, options = next((name, options) for said, name, options in METHODS if said == label)
    strategy = made("strategy", node("strategy", name, options))
    X = features(given.work, given.rows)
    warm = min(WARM, given.rows)
    small = pool_of(np.concatenate([X[:warm], X[-QUERY:]]), warm, strategy.text)
    strategy.select(small, max(1, warm // 20), np.random.default_rng(0))
    pool = pool_of(X, given.rows, strategy.text)
    before, start = held("VmRSS"), time.perf_counter()
    chosen = strategy.select(pool, given.picks, np.random.default_rng(0))
    seconds = time.perf_counter() - start
    assert len(np.unique(chosen.index)) == strategy.size(given.rows, given.picks)
    above = max(0, held("VmHWM") - before - 4 * given.rows * D)
    return {"seconds": seconds, "gib": above / 2**30}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where the vectors are kept")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--picks", type=int, default=1_000)
    parser.add_argument("--most", type=int, default=300, help="seconds of one method, its start included")
    parser.add_argument("--only", default="", help="methods whose line contains this, or of this strategy")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given)))
        return
    features(given.work, given.rows)
    size = f"{given.rows:,} rows, d = {D}, {QUERY} rows of query, {given.picks:,} picks"
    print(
        f"{size}, {os.cpu_count()} cores\n"
        "\n| method | strategy | seconds | peak memory above features (GiB) |\n|---|---|---:|---:|"
    )
    for label, name, options in METHODS:
        if given.only not in (name, "") and given.only not in label:
            continue
        line = [sys.executable, __file__, "--one", label, "--work", str(given.work)]
        line += ["--rows", str(given.rows), "--picks", str(given.picks)]
        how = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=given.most)
        except subprocess.TimeoutExpired:
            print(f"| {label} | {how} | ended after {given.most} | |", flush=True)
            continue
        if done.returncode:
            print(f"| {label} | {how} | failed: {done.stderr.strip().splitlines()[-1]} | |", flush=True)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {label} | {how} | {found['seconds']:.1f} | {found['gib']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
