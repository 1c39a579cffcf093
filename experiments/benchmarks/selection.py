"""Times smartdpp's selection engine beside its peers, after checking that they pick the same.

    python experiments/benchmarks/selection.py                    every case that fits this machine's memory
    python experiments/benchmarks/selection.py --only 10k --repeat 3

Data: clustered unit vectors, float32, d = 384. A k-DPP is drawn from 20 times, in float64, by the dual
representation on both sides. Each measurement is a process of its own: its peak memory is its own, and a peer
that crashes or is not installed (``pip install -e '.[bench]'``) costs one line. Times include everything from
the features on: the kernel, too, where a library needs one. Written: selection.csv (every measurement),
selection.md (the table), selection.png (growth). The share of peak is the plain algorithm's arithmetic (2 n d
k for graph cut and the dual log determinant, n² d for facility location, 2 n k d + n k² for the kernel form,
2 n (d² + d k + k²) for a draw) over the time and the machine's measured float32 matrix-product rate; above
100 %, work was avoided.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
D = 384
DRAWS = 20  # sets drawn from a k-DPP


def clustered(n: int, d: int = D, clusters: int = 200, seed: int = 0) -> np.ndarray:
    """float32[n, d] unit vectors around ``clusters`` centres of unequal weight; cosine within a cluster is
    about 0.5."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((clusters, d), dtype=np.float32)
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    label = rng.choice(clusters, n, p=rng.dirichlet(np.ones(clusters)))
    X = np.empty((n, d), dtype=np.float32)
    for a in range(0, n, 20_000):
        x = (
            rng.standard_normal((min(20_000, n - a), d), dtype=np.float32) / np.float32(d**0.5)
            + centre[label[a : a + 20_000]]
        )
        X[a : a + 20_000] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return X


# One selector each: (X, k, case) -> picks.


def smartdpp(X: np.ndarray, k: int, case: str) -> np.ndarray:
    from smartdpp.greedy import maximize
    from smartdpp.strategies.kdpp import sample_dual

    if case == "k-DPP":
        return draws(X, k, lambda X, k, seed: sample_dual(X, k, np.random.default_rng(seed)))
    return maximize(function(X, case), k).index


def smartdpp_sparse(X: np.ndarray, k: int, case: str) -> np.ndarray:
    from smartdpp.functions import FacilityLocation
    from smartdpp.greedy import maximize

    return maximize(FacilityLocation(X, neighbors=64), k).index


def draws(X: np.ndarray, k: int, draw) -> np.ndarray:
    """DRAWS sets one after the other, everything computed anew for each: draw(X in float64, k, seed) ->
    int[k]."""
    X = X.astype(np.float64)
    return np.concatenate([draw(X, k, seed) for seed in range(DRAWS)])


def dppy(X: np.ndarray, k: int, case: str) -> np.ndarray:
    from dppy.finite_dpps import FiniteDPP

    return draws(
        X,
        k,
        lambda X, k, seed: FiniteDPP("likelihood", L_gram_factor=X.T).sample_exact_k_dpp(
            size=k, random_state=seed
        ),
    )


def function(X: np.ndarray, case: str):
    from smartdpp.functions import FacilityLocation, GraphCut, LogDet

    match case:
        case "facility location":
            return FacilityLocation(X)
        case "graph cut":
            return GraphCut(X, lam=0.4)
        case "log det":
            return LogDet(X)
        case "DPP MAP":
            return LogDet(X, kernel="vmf", gamma=1.0)


def submodlib(X: np.ndarray, k: int, case: str) -> np.ndarray:
    import submodlib as lib

    n, K = len(X), X @ X.T
    if case == "facility location":
        f = lib.FacilityLocationFunction(n=n, mode="dense", sijs=K, separate_rep=False)
    elif case == "graph cut":
        f = lib.GraphCutFunction(n=n, mode="dense", lambdaVal=0.4, ggsijs=K, separate_rep=False)
    else:
        f = lib.LogDeterminantFunction(n=n, mode="dense", lambdaVal=1.0, sijs=K)
    picks = f.maximize(
        budget=k, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return np.array([j for j, _ in picks])


def apricot(X: np.ndarray, k: int, case: str) -> np.ndarray:
    import apricot as lib

    K = X @ X.T  # apricot refuses negative similarities
    if case == "facility location":
        return (
            lib.FacilityLocationSelection(k, metric="precomputed", optimizer="lazy")
            .fit(np.maximum(K, 0, out=K))
            .ranking[:k]
        )
    K += 1  # adds the same to every item's gain, so the picks are those of the cosine
    return lib.GraphCutSelection(k, metric="precomputed", alpha=1 / 0.4, optimizer="naive").fit(K).ranking[:k]


def dfs_solver_rs(X: np.ndarray, k: int, case: str) -> np.ndarray:
    from dfs_solver import select_portfolio

    return select_portfolio(X @ X.T, mode="excess", line=0.0, n_select=k)


def row_at_a_time_float64(X: np.ndarray, k: int, case: str) -> np.ndarray:
    """The reference for the picks: float32 cannot tell the second pick's candidates apart, whose d² differ by
    1e-9."""
    X = X.astype(np.float64)
    return row_at_a_time(X / np.linalg.norm(X, axis=1, keepdims=True), k, case)


def row_at_a_time(X: np.ndarray, k: int, case: str) -> np.ndarray:
    """Fast greedy MAP, Chen, Zhang and Zhou 2018: one kernel row and one column of the factor a pick, in X's
    precision."""
    n = len(X)
    d2 = np.full(n, 2.0 if case == "log det" else 1.0, dtype=X.dtype)
    C = np.empty((k, n), dtype=X.dtype)
    picks = []
    for t in range(k):
        j = int(d2.argmax())
        row = X @ X[j]
        if case == "DPP MAP":
            row = np.exp((row - 1) / 2)
        C[t] = (row - C[:t, j] @ C[:t]) / np.sqrt(d2[j])
        d2 -= C[t] ** 2
        picks.append(j)
        d2[picks] = -np.inf
    return np.array(picks)


SELECTORS = {
    f.__name__: f
    for f in (
        smartdpp,
        smartdpp_sparse,
        submodlib,
        apricot,
        dfs_solver_rs,
        dppy,
        row_at_a_time,
        row_at_a_time_float64,
    )
}

# case, n, k, peers; the peers that hold n × n are left out where it does not fit.
CASES = [
    ("graph cut", 10_000, 1_000, ["submodlib", "apricot"]),
    ("log det", 10_000, 1_000, ["row_at_a_time", "row_at_a_time_float64", "submodlib"]),
    ("facility location", 10_000, 1_000, ["dfs_solver_rs", "apricot", "submodlib"]),
    # about the largest n at which dfs-solver-rs was seen to run: 4 n² < 2^31
    ("facility location", 23_000, 1_000, ["dfs_solver_rs"]),
    ("facility location", 50_000, 1_000, ["dfs_solver_rs", "smartdpp_sparse"]),
    ("graph cut", 50_000, 5_000, []),
    ("log det", 50_000, 5_000, []),
    ("DPP MAP", 20_000, 2_000, ["row_at_a_time", "row_at_a_time_float64"]),
    ("k-DPP", 10_000, 100, ["dppy"]),
    ("graph cut", 100_000, 10_000, []),
    ("log det", 100_000, 10_000, []),
    ("graph cut", 1_000_000, 1_000, []),
    ("graph cut", 1_000_000, 3_000, []),
    ("graph cut", 1_000_000, 10_000, []),
    ("log det", 1_000_000, 1_000, []),
    ("log det", 1_000_000, 3_000, []),
    ("log det", 1_000_000, 10_000, []),
]


def flops(case: str, n: int, k: int) -> float:
    match case:
        case "facility location":
            return n * n * D
        case "DPP MAP":
            return 2 * n * k * D + n * k * k
        case "k-DPP":
            return DRAWS * (2 * n * D * D + 2 * n * k * D + 2 * n * k * k)
    return 2 * n * k * D


def measure(selector: str, case: str, n: int, k: int) -> None:
    """Child process: prints one JSON line. A small selection first loads and compiles what there is to load
    and compile."""
    X = clustered(n)
    SELECTORS[selector](clustered(3000), 5, case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work = counted() if selector == "smartdpp" else {}
    start, cpu = time.perf_counter(), time.process_time()
    picks = SELECTORS[selector](X, k, case)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu": cpu,
                "peak_gib": peak / 2**20,
                "features_gib": before / 2**20,
                **work,
                "picks": picks.tolist(),
            }
        )
    )


def counted() -> dict[str, int]:
    """Counts gains evaluated outside the windows, and how often any were."""
    from smartdpp.functions import coverage, graph_cut, logdet

    work = {"evaluations": 0, "passes": 0}
    for state in (coverage.Coverage, graph_cut.GraphCutState, logdet.LogDetState):

        def gains(self, index=None, plain=state.gains):
            result = plain(self, index)
            work["evaluations"] += len(result)
            work["passes"] += 1
            return result

        state.gains = gains
    return work


def child(selector: str, case: str, n: int, k: int, timeout: float) -> dict:
    command = [sys.executable, __file__, "--child", selector, case, str(n), str(k)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"no result in {timeout:.0f} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:120]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(case: str, n: int, ours: list[int], theirs: list[int]) -> str:
    """Same picks, or where they part and what the objectives are (in float64); of draws, the mean log det and
    its standard error."""
    if case == "k-DPP":
        X = clustered(n).astype(np.float64)
        of = [
            np.array([np.linalg.slogdet(X[p] @ X[p].T)[1] for p in np.split(np.array(picks), DRAWS)])
            for picks in (theirs, ours)
        ]
        theirs_, ours_ = (f"{v.mean():.2f} ± {v.std(ddof=1) / DRAWS**0.5:.2f}" for v in of)
        return f"{DRAWS} draws: mean log det L_Y {theirs_}, ours {ours_}"
    if ours == theirs:
        return "same picks"
    length = min(len(ours), len(theirs))
    part = next((t for t in range(length) if ours[t] != theirs[t]), length)
    f = function(clustered(n), case)
    return f"same for {part} of {length}; objective {f.value(theirs) / f.value(ours):.5%} of ours"


def peak_rate() -> float:
    """Float32 matrix products, operations a second, at facility location's tile shapes."""
    import torch

    x, out = torch.randn(4096, D), torch.empty(4096, 4096)
    best = min(_timed(lambda: torch.mm(x, x.T, out=out)) for _ in range(20))
    return 2 * 4096 * 4096 * D / best


def _timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", default="", help="cases whose name contains this, e.g. 'graph cut', '10k' or '1000k k=3000'"
    )
    parser.add_argument("--repeat", type=int, default=1, help="the fastest of so many runs counts")
    parser.add_argument("--timeout", type=float, default=900, help="seconds a measurement may take")
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count(),
        help="of matrix products and sweeps, for every selector",
    )
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        selector, case, n, k = options.child
        measure(selector, case, int(n), int(k))
        return
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ):
        os.environ[name] = str(options.threads)
    RESULTS.mkdir(parents=True, exist_ok=True)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    rows = read()
    for case, n, k, peers in CASES:
        if options.only not in f"{case} {n // 1000}k k={k}":
            continue
        ours: list[int] = []
        for selector in ["smartdpp", *peers]:
            if selector in ("dfs_solver_rs", "submodlib", "apricot") and 4.5 * n * n > 0.9 * memory:
                result = {"error": f"needs more than the {memory / 2**30:.0f} GiB there are"}
            else:
                runs = [child(selector, case, n, k, options.timeout) for _ in range(options.repeat)]
                result = min(runs, key=lambda run: run.get("seconds", np.inf))
            row = {
                "case": case,
                "n": n,
                "k": k,
                "selector": selector,
                "peak_gflops": round(peak_rate() / 1e9),
                "load": round(os.getloadavg()[0], 1),
                "threads": options.threads,
            }
            picks = result.pop("picks", [])
            ours = picks if selector == "smartdpp" else ours
            row |= {
                key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()
            }
            if picks:
                row["share_of_peak"] = round(
                    flops(case, n, k) / result["seconds"] / 1e9 / row["peak_gflops"], 3
                )
                row["agreement"] = "" if selector == "smartdpp" else compare(case, n, ours, picks)
            print(row, flush=True)
            rows[case, n, k, selector] = row
            write(rows)
    figure(rows)


COLUMNS = [
    "case",
    "n",
    "k",
    "selector",
    "seconds",
    "cpu",
    "peak_gib",
    "features_gib",
    "share_of_peak",
    "peak_gflops",
    "threads",
    "load",
]
HEADER = [
    "case",
    "n",
    "k",
    "by",
    "seconds",
    "CPU s",
    "ratio",
    "CPU ratio",
    "peak GiB",
    "before selecting",
    "share of matrix peak",
]
HEADER += ["GFLOP/s", "threads", "load", "gains evaluated (passes)", "picks"]
COLUMNS += ["evaluations", "passes", "agreement", "error"]


def read() -> dict[tuple, dict]:
    """Measurements of earlier calls, so that one case can be measured again."""
    path = RESULTS / "selection.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {
            (row["case"], int(row["n"]), int(row["k"]), row["selector"]): row for row in csv.DictReader(file)
        }


def write(rows: dict[tuple, dict]) -> None:
    ordered = [
        rows[c, n, k, s] for c, n, k, peers in CASES for s in ["smartdpp", *peers] if (c, n, k, s) in rows
    ]
    with (RESULTS / "selection.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(ordered)
    lines = [
        "# Selection: smartdpp and its peers",
        "",
        f"{os.cpu_count()} cores, clustered unit vectors, float32, d = {D}; kernel included. Ratio: a "
        "peer's seconds over smartdpp's. CPU",
        "is seconds of all threads, and stays meaningful where other work shares the machine. Peak memory "
        "is the process's, features and",
        "libraries included. GFLOP/s is what the machine multiplies at, and tells machines apart: rows are "
        "measured one after another. Load is the machine's",
        "at the time: above the number of cores, seconds are disturbed. Gains evaluated leave out those of "
        "facility location's compiled loop.",
        "Measured by `python experiments/benchmarks/selection.py`.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|---" * len(HEADER) + "|",
    ]
    for row in ordered:
        own = rows.get((row["case"], int(row["n"]), int(row["k"]), "smartdpp"), {})
        if row.get("error"):
            lines.append(
                f"| {row['case']} | {row['n']} | {row['k']} | {row['selector']} | {row['error']} "
                + "|" * (len(HEADER) - 4)
            )
            continue
        wall, cpu = (
            f"{float(row[key]) / float(own[key]):.1f}"
            if own.get(key) and row["selector"] != "smartdpp"
            else ""
            for key in ("seconds", "cpu")
        )
        work = f"{row['evaluations']} ({row['passes']})" if row.get("evaluations") else ""
        cells = [
            row["case"],
            row["n"],
            row["k"],
            row["selector"],
            row["seconds"],
            row["cpu"],
            wall,
            cpu,
            row["peak_gib"],
            row["features_gib"],
        ]
        cells += [f"{float(row['share_of_peak']):.0%}", row["peak_gflops"], row["threads"], row["load"]]
        cells += [work, row["agreement"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    (RESULTS / "selection.md").write_text("\n".join(lines) + "\n")


def figure(rows: dict[tuple, dict]) -> None:
    """Seconds against n, peers as crosses; seconds and memory beyond the features against k at a million
    rows."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = ["graph cut", "log det", "facility location", "DPP MAP"]
    colour = dict(zip(names, ["#4477AA", "#228833", "#EE6677", "#AA3377"], strict=True))
    good = [r for r in rows.values() if not r.get("error")]
    own = [r for r in good if r["selector"] == "smartdpp"]
    fig, (left, middle, right) = plt.subplots(
        1, 3, figsize=(13, 4.2), layout="constrained", width_ratios=[2, 1, 1]
    )
    for name in names:
        largest = {int(r["n"]): r for r in sorted(own, key=lambda r: int(r["k"])) if r["case"] == name}
        if not largest:
            continue
        n = sorted(largest)
        left.plot(
            n, [float(largest[m]["seconds"]) for m in n], "o-", color=colour[name], label=f"{name}, smartdpp"
        )
        for m in n:
            text = f"k={int(largest[m]['k']):,}"
            left.annotate(
                text,
                (m, float(largest[m]["seconds"])),
                textcoords="offset points",
                xytext=(4, -10),
                fontsize=7,
            )
        for r in good:
            if r["case"] == name and not r["selector"].startswith("smartdpp"):
                left.plot(int(r["n"]), float(r["seconds"]), "x", color=colour[name])
                left.annotate(
                    r["selector"],
                    (int(r["n"]), float(r["seconds"])),
                    textcoords="offset points",
                    xytext=(4, 2),
                    fontsize=7,
                )
        million = sorted(
            (r for r in own if r["case"] == name and int(r["n"]) == 1_000_000), key=lambda r: int(r["k"])
        )
        k = [int(r["k"]) for r in million]
        middle.plot(k, [float(r["seconds"]) for r in million], "o-", color=colour[name])
        right.plot(
            k, [float(r["peak_gib"]) - float(r["features_gib"]) for r in million], "o-", color=colour[name]
        )
    left.set(
        xscale="log",
        yscale="log",
        xlabel="rows n",
        ylabel="seconds",
        title="Greedy selection, d = 384 (crosses: other libraries)",
    )
    middle.set(xscale="log", yscale="log", xlabel="picks k", ylabel="seconds", title="a million rows")
    right.set(
        xscale="log",
        xlabel="picks k",
        ylabel="GiB beyond the features",
        title="a million rows",
        ylim=(0, None),
    )
    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
    left.legend(frameon=False, fontsize=8)
    fig.savefig(RESULTS / "selection.png", dpi=150)


if __name__ == "__main__":
    main()
