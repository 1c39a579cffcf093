"""How selection grows with rows and picks, what two rounds lose, and what FLAN 2022 would cost by these
rates.

    python experiments/benchmarks/scale.py --work FOLDER 10^4 to 10^6 rows, for a machine with nothing else to
    do
    python experiments/benchmarks/scale.py --work FOLDER --rows 1000 10000 --exact 1000 5000 --picks 100 300 a
    try
    python experiments/benchmarks/scale.py --only "log det, ray" the cases whose name contains this
    python experiments/benchmarks/scale.py --price the price of FLAN again, by what has been measured

Data: clustered unit vectors, float32, d = 384, kept in FOLDER; for SMART 1,841 tasks, or n / 4, with
log-normal sizes and four template types each. Graph cut and log determinant are chosen here (local), over
shares in one process, and over a Ray cluster on this machine, where ray is installed; facility location, and
a log determinant on the vmf kernel, exactly and in two rounds. Every case is a process of its own: one that
fails costs one line, and only what is missing or failed is measured when the command is given again. A case
is repeated up to --repeat times, or until a minute is spent. Written: scale.csv (every case), scale.md
(tables and the price), scale.png (growth).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from selection import D, clustered  # beside this script

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
TASKS = 1841  # of FLAN 2022
ENOUGH = 60  # seconds of one case after which it is not repeated
BOUND = (1 - 1 / math.e) / 2  # of the optimum: RandGreeDi, Barbosa, Ene, Nguyen and Ward, ICML 2015
TWO_ROUNDS = ("two rounds", "two rounds, witnesses")
Case = tuple[str, str, int, int]  # what, where or how, rows, picks


def cases(options: argparse.Namespace) -> list[Case]:
    found: list[Case] = []
    where = ["local", "shares", *(["ray"] if find_spec("ray") else [])]
    for what in ("graph cut", "log det"):
        found += [
            (what, place, n, k) for n in options.rows for k in options.picks if 2 * k <= n for place in where
        ]
    first = min(options.picks)
    found += [
        ("facility location", how, n, first)
        for n in options.exact
        for how in ("exact", "two rounds", "two rounds, witnesses")
    ]
    found += [("log det, vmf", how, n, first) for n in options.exact for how in ("exact", "two rounds")]
    large = [n for n in options.rows if n > max(options.exact, default=0)]
    found += [("facility location", "two rounds, witnesses", n, first) for n in large]
    found += [("SMART", "local", n, k) for n in options.rows for k in options.picks if 2 * k <= n]
    return [case for case in found if options.only in f"{case[0]}, {case[1]}, {case[2]}, {case[3]}"]


# One case: features(in memory) -> a function to be timed, which returns picks, gains and whatever else is
# told of it.


def run(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """In the child: fastest and median seconds, peak memory over the start, a hash of the picks."""
    import psutil

    from smartdpp.store.record import peak_memory

    what, how, n, k = case
    # loads and compiles what there is to
    work(what, "local" if how == "ray" else how, features(3000, options.work), 5, options)()
    X = features(n, options.work, mapped=how == "ray")
    timed, facts = work(what, how, X, k, options), {}
    start = psutil.Process().memory_info().rss
    seconds, cpu = [], []
    with peak_memory(0.01) as peak:
        while len(seconds) < options.repeat and sum(seconds) < ENOUGH:
            began, used = time.perf_counter(), time.process_time()
            facts = timed()
            seconds.append(time.perf_counter() - began - facts.get("setup", 0))
            cpu.append(time.process_time() - used)
    picks = np.asarray(facts.pop("picks"), dtype=np.int64)
    facts |= {"hash": hashlib.blake2b(picks.tobytes(), digest_size=6).hexdigest()}
    if how in ("exact", *TWO_ROUNDS):
        facts["value"] = coverage(X, picks) if what == "facility location" else volume(X, picks)
    return facts | {
        "seconds": min(seconds),
        "median": statistics.median(seconds),
        "repeats": len(seconds),
        "cpu": min(cpu),
        "gib": (peak() - start) / 2**30,
    }


def work(
    what: str, how: str, X: np.ndarray, k: int, options: argparse.Namespace
) -> Callable[[], dict[str, Any]]:
    from smartdpp.functions import FacilityLocation, GraphCut, LogDet
    from smartdpp.greedy import maximize
    from smartdpp.greedy.two_rounds import two_rounds

    if what == "SMART":
        return smart(X, k, options)
    if what in ("facility location", "log det, vmf"):
        pairwise: Any = FacilityLocation if what == "facility location" else partial(LogDet, kernel="vmf")
        if how == "exact":
            return lambda: {"picks": maximize(pairwise(X), k).index}
        parts = max(
            2, options.parts if len(X) <= max(options.exact, default=0) else round(len(X) / options.part_rows)
        )
        witnesses = min(options.witnesses, len(X)) if "witnesses" in how else None
        facts = {"parts": parts} | ({"witnesses": witnesses} if witnesses else {})
        return lambda: (
            facts | {"picks": two_rounds(pairwise(X), k, parts, witnesses=witnesses).selection.index}
        )
    make = GraphCut if what == "graph cut" else LogDet
    if how == "local":
        return lambda: {"picks": maximize(make(X), k).index}
    return over_shares(make, how, X, k, options.parts)


def over_shares(
    make: Callable[[Any], Any], how: str, X: np.ndarray, k: int, parts: int
) -> Callable[[], dict[str, Any]]:
    """Setting up is told apart: of a Ray cluster it is starting the processes and reading the rows."""
    from smartdpp.functions.lazy import LazyRows
    from smartdpp.greedy import partitions
    from smartdpp.runtime.cluster import Ray
    from smartdpp.runtime.local import Local

    if how == "ray":
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # the workers import this checkout
        runtime: Any = Ray(cpus=min(1.0, (os.cpu_count() or 1) / parts))
        function = make(LazyRows(X, np.arange(len(X))))
        with runtime.connected():  # what a cluster takes to start is no part of a case
            pass
    else:
        runtime, function = Local(), make(X)

    def choose() -> dict[str, Any]:
        began, asked = time.perf_counter(), [0]
        makes = [
            partial(partitions.Share, function.subset(piece), piece.start)
            for piece in partitions.pieces(len(X), parts)
        ]
        with runtime.shares(makes) as ask:
            ask(partitions.Share.about)  # made by now
            setup = time.perf_counter() - began

            def counted(question: Any, which: Any = None) -> list[Any]:
                asked[0] += which is None or len(which) > 0
                return ask(question, which)

            picks = partitions.maximize(counted, k).index
        return {"picks": picks, "setup": setup, "asked": asked[0], "parts": parts}

    return choose


def smart(X: np.ndarray, k: int, options: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    from smartdpp.strategies.smart import Smart
    from smartdpp.types import Pool

    n, rng = len(X), np.random.default_rng(0)
    tasks = min(TASKS, n // 4)
    weight = np.exp(options.skew * rng.standard_normal(tasks))
    # none is empty
    task = np.concatenate([np.arange(tasks), rng.choice(tasks, n - tasks, p=weight / weight.sum())])
    template = np.array(["zs_opt", "zs_noopt", "fs_opt", "fs_noopt"])[rng.integers(4, size=n)]
    ids = np.array([f"{i:08d}" for i in range(n)])
    pool = Pool(
        ids, X, task, [f"task {t:04d}" for t in range(tasks)], np.ones(n, np.int64), template=template
    )

    def choose() -> dict[str, Any]:
        strategy, began = Smart(), time.perf_counter()
        strategy.task_budgets(pool, k, warn=False)
        first = time.perf_counter() - began
        # its first stage is made again: told as setup, and not timed twice
        picks = strategy.select(pool, k, rng).index
        return {
            "picks": picks,
            "setup": first,
            "stage1": first,
            "parts": tasks,
            "largest": int(np.bincount(task).max()),
        }

    return choose


def coverage(X: np.ndarray, picks: np.ndarray) -> float:
    """Mean over all rows of the cosine to the nearest pick, in float32 products: what facility location
    maximises, over n."""
    import torch

    chosen, total = torch.from_numpy(X[picks].T.copy()), 0.0
    for a in range(0, len(X), 4096):
        total += float((torch.from_numpy(X[a : a + 4096]) @ chosen).amax(1).clamp_(min=0).double().sum())
    return total / len(X)


def volume(X: np.ndarray, picks: np.ndarray) -> float:
    """log det of the picks' kernel, in nats."""
    from smartdpp.functions import LogDet

    return float(LogDet(X[picks], kernel="vmf").gains(np.arange(len(picks))).sum())


def features(n: int, folder: Path, mapped: bool = False) -> np.ndarray:
    path = folder / f"clustered-{n}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path.with_suffix(".writing.npy"), clustered(n), allow_pickle=False)
        path.with_suffix(".writing.npy").replace(path)
    return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)


# The parent: every case in a process of its own.


def child(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    kept = ("work", "repeat", "exact", "parts", "part_rows", "witnesses", "skew")
    given = {name: getattr(options, name) for name in kept} | {"work": str(options.work), "case": case}
    command = [sys.executable, __file__, "--child", json.dumps(given)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"no result in {options.timeout:.0f} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:160]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def quiet(patience: int = 30) -> float:
    """How busy all cores are, in %, once the case before has gone (a cluster ends slowly), or after so many
    seconds."""
    import psutil

    for _ in range(patience):
        busy = psutil.cpu_percent(1.0)
        if busy < 5:
            break
    return busy


COLUMNS = [
    "case",
    "how",
    "n",
    "k",
    "seconds",
    "median",
    "repeats",
    "cpu",
    "gib",
    "setup",
    "stage1",
    "asked",
    "parts",
    "largest",
    "witnesses",
]
COLUMNS += ["value", "hash", "threads", "busy", "error"]
Measured = dict[Case, dict[str, str]]


def read(folder: Path) -> Measured:
    path = folder / "scale.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {(row["case"], row["how"], int(row["n"]), int(row["k"])): row for row in csv.DictReader(file)}


def write(rows: Measured, folder: Path) -> None:
    with (folder / "scale.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows[case] for case in sorted(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("scale-features"),
        help="where the features are kept (2 GB at 10^6 rows)",
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument(
        "--picks",
        type=int,
        nargs="+",
        default=[1000, 3000, 10_000],
        help="where twice as many rows are there",
    )
    parser.add_argument(
        "--exact",
        type=int,
        nargs="*",
        default=[10_000, 50_000, 100_000],
        help="rows at which it is exact too",
    )
    parser.add_argument(
        "--parts", type=int, default=4, help="shares, and parts of two rounds up to the largest --exact"
    )
    parser.add_argument("--part-rows", type=int, default=25_000, help="of a part of two rounds above that")
    parser.add_argument("--witnesses", type=int, default=10_000)
    parser.add_argument(
        "--skew",
        type=float,
        default=1.2,
        help="standard deviation of log task sizes; assumed, FLAN's were not read",
    )
    parser.add_argument("--repeat", type=int, default=3, help="at most so many runs of a case")
    parser.add_argument(
        "--timeout", type=float, default=1800, help="seconds a case may take, all its runs together"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of matrix products and sweeps")
    parser.add_argument(
        "--only",
        default="",
        help="cases whose name contains this, e.g. 'log det, ray' or 'SMART, local, 10000,'",
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where the tables and the picture are written"
    )
    parser.add_argument(
        "--price", action="store_true", help="measure nothing, write the tables and the price again"
    )
    pricing = parser.add_argument_group(
        "the price of FLAN 2022, by what cannot be measured here (each is told as assumed)"
    )
    pricing.add_argument("--flan-rows", type=float, default=17.6e6, help="arXiv 2403.08370")
    pricing.add_argument("--flan-d", type=int, default=1024, help="of gte-large")
    pricing.add_argument("--flan-budget", type=int, default=25_000)
    pricing.add_argument(
        "--prompt-tokens", type=float, default=300, help="a row's, also with its response; FLAN was not read"
    )
    pricing.add_argument("--gpus", type=int, default=8)
    pricing.add_argument("--gpu-flops", type=float, default=312e12, help="dense bfloat16 of one GPU")
    pricing.add_argument(
        "--gpu-share", type=float, default=0.4, help="of it that matrix products of a model reach"
    )
    pricing.add_argument(
        "--gpu-source", default="A100 data sheet, 312 TFLOP/s dense bfloat16, 40 % of it reached"
    )
    pricing.add_argument("--encoder", type=float, default=335e6, help="parameters of gte-large")
    pricing.add_argument(
        "--model", type=float, default=6.7e9, help="parameters of Llama-2-7B, for gradients and training"
    )
    pricing.add_argument(
        "--root",
        type=Path,
        nargs="+",
        default=[Path(".")],
        help="roots whose stores tell what models did here",
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        given = json.loads(options.child)
        case = tuple(given.pop("case"))
        print(json.dumps(run(case, argparse.Namespace(**given | {"work": Path(given["work"])}))))  # type: ignore[arg-type]
        return
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    options.results.mkdir(parents=True, exist_ok=True)
    options.work = options.work.absolute()
    rows = read(options.results)
    for case in [] if options.price else cases(options):
        if case in rows and not rows[case]["error"]:
            continue
        what, how, n, k = case
        facts = {"case": what, "how": how, "n": n, "k": k, "threads": options.threads, "busy": quiet()}
        facts |= child(case, options)
        rows[case] = {
            name: str(round(v, 4) if isinstance(v, float) else v)
            for name, v in ({"error": ""} | facts).items()
        }
        print(", ".join(f"{name} {rows[case][name]}" for name in COLUMNS if rows[case].get(name)), flush=True)
        write(rows, options.results)
    good = {case: row for case, row in rows.items() if not row["error"]}
    text = "\n".join([*tables(rows), *losses(good), *price(good, options)]) + "\n"
    (options.results / "scale.md").write_text(text)
    print(text)
    figure(good, options.results)


# What is written.


def tables(rows: Measured) -> list[str]:
    lines = [
        "# Scale: selection by rows and picks",
        "",
        f"{os.cpu_count()} cores, clustered unit vectors, float32, d = {D}. Seconds are the fastest of the "
        "repeats, once features",
        "are in memory and shares are made. Setup: making shares and their first look at all rows, which "
        "local's seconds hold (of",
        "ray: starting its processes, which read their rows from disk); of SMART its first stage, which its "
        "seconds hold too. GiB",
        "and CPU s: this process's, of ray the asking process's alone; GiB over what it held before, CPU "
        "with setup. Ray's",
        "processes, one a share, have all threads each: here they share the cores, as they would not on "
        "machines of their own.",
        "Same: the picks are local's. Busy: of all cores as the case began, in %; above 5 or so, times are "
        "disturbed. SMART:",
        "graph cut over tasks, facility location within each template pool of each; log-normal task sizes.",
        "Measured by `python experiments/benchmarks/scale.py`.",
        "",
        "| case | how | n | k | seconds | median | repeats | CPU s | GiB | setup | parts | questions | same "
        "| threads | busy |",
        "|---" * 15 + "|",
    ]
    for case in sorted(rows):
        what, how, n, k = case
        row, own = rows[case], rows.get((what, "local", n, k), {})
        if row["error"]:
            lines.append(f"| {what} | {how} | {n:,} | {k:,} | {row['error']} " + "|" * 11)
            continue
        compared = how in ("shares", "ray") and own.get("hash")
        same = ("yes" if own["hash"] == row["hash"] else "NO") if compared else ""
        numbers = [f"{float(row[name]):.2f}" if row.get(name) else "" for name in ("seconds", "median")]
        more = [f"{float(row[name]):.2f}" if row.get(name) else "" for name in ("cpu", "gib", "setup")]
        cells = [
            what,
            how,
            f"{n:,}",
            f"{k:,}",
            *numbers,
            row["repeats"],
            *more,
            row.get("parts", ""),
            row.get("asked", ""),
        ]
        lines.append("| " + " | ".join([*cells, same, row["threads"], row["busy"]]) + " |")
    return lines


def losses(rows: Measured) -> list[str]:
    lines = [
        "",
        "## What two rounds lose",
        "",
        "Value: the mean cosine of a row to its nearest pick. Promised, in expectation, is (1 - 1/e) / 2 = "
        f"{BOUND:.1%} of the best there",
        "is (RandGreeDi; up to the sampling error of what parts and witnesses see): at most "
        f"{1 - BOUND:.1%} lost. Lost is against exact",
        f"greedy, which itself is promised {1 - 1 / math.e:.1%}. Of a log determinant on the vmf kernel, "
        "value is in nats;",
        "it need not rise with further picks, so nothing is promised, and what is lost is a difference.",
        "",
        "| what | n | k | how | parts | witnesses | value | lost | promised at most | seconds | exact's "
        "seconds |",
        "|---" * 11 + "|",
    ]
    for (what, how, n, k), row in sorted(rows.items()):
        if how not in TWO_ROUNDS:
            continue
        exact, share = rows.get((what, "exact", n, k)), what == "facility location"
        lost = "exact not measured"
        if exact:
            best, got = float(exact["value"]), float(row["value"])
            lost = (
                f"{100 * (1 - got / best):.2f} %"
                if share
                else f"{best - got:.2f} nats, {(best - got) / k:.4f} a pick"
            )
        cells = [what, f"{n:,}", f"{k:,}", how, row["parts"], row.get("witnesses", ""), row["value"], lost]
        cells += [
            f"{100 * (1 - BOUND):.1f} %" if share else "-",
            row["seconds"],
            exact["seconds"] if exact else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def growth(rows: Measured, what: str, how: str) -> tuple[dict[str, str], float | None, float | None] | None:
    """The largest case, and the exponents of n and k between it and the next smaller ones; None where there
    is none."""
    own = {(n, k): row for (w, h, n, k), row in rows.items() if (w, h) == (what, how)}
    if not own:
        return None
    n, k = max(own)

    def exponent(others: dict[int, dict[str, str]], here: int) -> float | None:
        smaller = [m for m in others if m < here]
        if not smaller:
            return None
        return math.log(float(own[n, k]["seconds"]) / float(others[max(smaller)]["seconds"])) / math.log(
            here / max(smaller)
        )

    by_n = {m: row for (m, j), row in own.items() if j == k}
    by_k = {j: row for (m, j), row in own.items() if m == n}
    return own[n, k], exponent(by_n, n), exponent(by_k, k)


def price(rows: Measured, options: argparse.Namespace) -> list[str]:
    from smartdpp.run.price import Training

    n, d, k = options.flan_rows, options.flan_d, options.flan_budget
    tokens, rate = n * options.prompt_tokens, options.gpus * options.gpu_flops * options.gpu_share
    lines = [
        "",
        "## What FLAN 2022 would cost",
        "",
        f"{n / 1e6:.1f} million rows (arXiv 2403.08370) of {TASKS:,} tasks, {d} numbers each. A budget of "
        f"{k:,}.",
        f"Selection on this machine ({os.cpu_count()} cores), had it the features in memory;",
        f"models on {options.gpus} GPUs ({options.gpu_source}).",
        "",
        "| what | cost | by | label |",
        "|---|---|---|---|",
    ]

    together = f" on {options.gpus} GPUs"

    def line(what: str, cost: str, by: str, label: str) -> None:
        lines.append(f"| {what} | {cost} | {by} | {label} |")

    line("features on disk", f"{n * d * 4 / 1e9:.0f} GB", "rows × d × 4 bytes", "computed")
    for what, how in (
        ("graph cut", "local"),
        ("log det", "local"),
        ("SMART", "local"),
        ("facility location", "two rounds, witnesses"),
    ):
        name = f"{what}, {how}"
        found = growth(rows, what, how)
        if found is None or found[1] is None:
            line(f"selection: {name}", "?", "needs cases of at least two n at one k", "not measured")
            continue
        row, in_n, in_k = found
        seconds = float(row["seconds"]) * (n / int(row["n"])) ** in_n * (d / D)
        by = (
            f"{float(row['seconds']):.3g} s at n = {int(row['n']):,}, k = {int(row['k']):,} (measured) × (n "
            f"ratio)^{in_n:.2f} (fitted)"
        )
        if in_k is None:
            k_ratio, by = 1.0, by + f", at k = {int(row['k']):,}"
        else:
            k_ratio, by = (k / int(row["k"])) ** in_k, by + f" × (k ratio)^{in_k:.2f} (fitted)"
        by += f" × {d / D:.2f} for d (assumed linear)"
        held = max(
            float(other["gib"])
            for (w, h, m, _), other in rows.items()
            if (w, h, m) == (what, how, int(row["n"]))
        )
        two = how in TWO_ROUNDS
        memory = held * (d / D) * (1 if two else n / int(row["n"]))
        by += "; memory as d, parts being no larger" if two else "; memory as n and d (assumed linear)"
        by += "; the second round, over what all parts chose, grows faster: at least this" if two else ""
        name += f", k = {int(row['k']):,}" if two else ""
        straight = float(row["seconds"]) * n / int(row["n"]) * (d / D) * k_ratio
        times = (
            f"{hours(straight)} as n, {hours(seconds * k_ratio)} as fitted"
            if in_n < 1
            else hours(seconds * k_ratio)
        )
        line(f"selection: {name}", f"{times}, {memory:.1f} GiB beside the features", by, "extrapolated")
        if what == "SMART":
            squared = float(row["seconds"]) * (n / int(row["n"])) ** 2 * (d / D) * k_ratio
            pool = float(row["largest"]) * n / int(row["n"]) / 4
            by = (
                f"the square of a task's rows; the largest template pools, about {pool:,.0f} rows, are "
                "larger than any measured here"
            )
            line("the same, as n²", hours(squared), by, "extrapolated")
    encoder, gradient, training = (
        factor * count for factor, count in ((2, options.encoder), (4, options.model), (8, options.model))
    )
    line(
        "embedding",
        hours(tokens * encoder / rate) + together,
        f"2 N FLOP a token, N = {options.encoder:.3g}; {options.prompt_tokens:g} tokens a row",
        "assumed",
    )
    line(
        "gradients of every row",
        hours(tokens * gradient / rate) + together,
        f"4 N FLOP a token (no weight gradients), N = {options.model:.3g}",
        "assumed",
    )
    spent = k * options.prompt_tokens
    whole = Training(k, spent, spent * training * options.gpus / rate / 3600)  # hours of one GPU
    line(
        "training on the budget, one epoch",
        str(whole),
        "8 N FLOP a token (full finetuning, recomputation)",
        "assumed",
    )
    line("training on all of it", hours(tokens * training / rate) + together, "the same", "assumed")
    for what, spent_here, found in (
        ("embedding by MiniLM", tokens, embedded(options.root, "smartdpp.embedding.sentence.MiniLM")),
        (
            "gradients of every row, SmolLM2-135M",
            tokens,
            embedded(options.root, "smartdpp.embedding.gradient.Gradient"),
        ),
        ("LoRA of SmolLM2-135M on the budget, one epoch", spent, trained(options.root)),
    ):
        name = f"{what}, on this machine"
        if found is None:
            line(name, "?", "no store under --root has measured it", "not measured")
            continue
        by = f"{found[0]:,.0f} tokens/s over {found[1]:,} tokens (measured, whatever else the machine did)"
        by += f"; {options.prompt_tokens:g} a row (assumed)"
        line(name, hours(spent_here / found[0]), by, "extrapolated")
    return lines


def embedded(roots: list[Path], target: str) -> tuple[float, int] | None:
    """Tokens a second, and tokens, of the largest embedding of this kind that these stores hold, made on a
    machine like this one."""
    return largest(roots, "embedding", lambda params: params.get("_target_") == target)


def trained(roots: list[Path]) -> tuple[float, int] | None:
    """The same of LoRA trainings in one process, by the seconds of the whole stage."""
    return largest(
        roots,
        "adapter",
        lambda params: (params["recipe"].get("method"), params["recipe"].get("processes", 1)) == ("lora", 1),
    )


def largest(
    roots: list[Path], stage: str, wanted: Callable[[dict[str, Any]], bool]
) -> tuple[float, int] | None:
    """Of the artifacts with the most tokens the fastest, so that start-up and what else the machine did weigh
    least."""
    from smartdpp.store.record import provenance

    metas = [
        json.loads(path.read_text())
        for root in roots
        for path in (root / "store" / stage).glob("*/meta.json")
    ]
    rates = [
        (meta["facts"]["tokens"], meta["facts"]["tokens"] / meta["facts"].get("seconds", meta["seconds"]))
        for meta in metas
        if wanted(meta["params"])
        and meta["machine"] == provenance()["machine"]
        and meta["facts"].get("tokens")
    ]
    return max(rates)[::-1] if rates else None


def hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def figure(rows: Measured, folder: Path) -> None:
    """Seconds and memory against n, at the smallest k, and against k, at the largest n."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colour = {"graph cut": "#4477AA", "log det": "#228833", "log det, vmf": "#CCBB44"}
    colour |= {"facility location": "#EE6677", "SMART": "#AA3377"}
    style = {
        "local": "o-",
        "exact": "o-",
        "shares": "s--",
        "ray": "^:",
        "two rounds": "s--",
        "two rounds, witnesses": "^:",
    }
    fig, axes = plt.subplots(2, 2, figsize=(12.5, 7.5), layout="constrained", sharey="row")
    kinds = sorted(
        {(what, how) for what, how, _, _ in rows},
        key=lambda kind: (list(colour).index(kind[0]), list(style).index(kind[1])),
    )
    smallest, largest = (min, max) if rows else (lambda _: 0, lambda _: 0)
    least_k, most_n = smallest(k for *_, k in rows), largest(n for _, _, n, _ in rows)
    for what, how in kinds:
        own = {(n, k): row for (w, h, n, k), row in rows.items() if (w, h) == (what, how)}
        by_n = sorted((n, row) for (n, k), row in own.items() if k == least_k)
        by_k = sorted((k, row) for (n, k), row in own.items() if n == most_n)
        for column, points in enumerate((by_n, by_k)):
            if column == 1 and len(points) < 2:  # no growth to see
                continue
            x = [at for at, _ in points]
            look = {"color": colour[what], "label": f"{what}, {how}", "markersize": 5, "linewidth": 1.2}
            axes[0, column].plot(x, [float(row["seconds"]) for _, row in points], style[how], **look)
            axes[1, column].plot(x, [max(float(row["gib"]), 1e-3) for _, row in points], style[how], **look)
    for column, at in enumerate((f"rows n (k = {least_k:,})", f"picks k (n = {most_n:,})")):
        for row, of in enumerate(("seconds", "GiB over the start (at least 0.001)")):
            axes[row, column].set(xscale="log", yscale="log", xlabel=at, ylabel="" if column else of)
            axes[row, column].grid(alpha=0.3)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    fig.savefig(folder / "scale.png", dpi=110)


if __name__ == "__main__":
    main()
