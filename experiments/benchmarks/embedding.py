"""How faithful the gradient sketch is, and what it costs: SmolLM2-135M, attention's weights, rows of a file.

    python experiments/benchmarks/embedding.py DATA.jsonl.gz fidelity
    python experiments/benchmarks/embedding.py DATA.jsonl.gz speed
    python experiments/benchmarks/embedding.py DATA.jsonl.gz turns

DATA has a prompt and a response a line; ``--rows`` of those up to ``--max-tokens`` long are drawn with a
fixed seed.

Fidelity: pairwise distances and inner products of normalised gradients, sketched over exact (the full
gradients of all rows, 26.5 million numbers each, enter one group of layers at a time), and how many of k =
rows / 4 greedy picks are the exact gradients' picks. The paper's recipe (LoRA-B gradients of rank 512, then a
sparse random projection) stands beside the sketch. Speed: each method in a process of its own, over the same
rows (the loop over the first quarter of them); all take turns ``--repeat`` times, and the fastest counts.
Turns: sketch and loop in one process, one after the other, so that a machine whose speed varies slows both;
the ratio of each turn counts. Loading the model and drawing projections is not timed. Written: embedding.csv
(every measurement), embedding.md (the tables), embedding.png.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
BATCH_TOKENS = 1024
DIM = 4096


def examples(options: argparse.Namespace) -> list:
    from smartdpp.models import SmolLM2
    from smartdpp.models.tokens import encode

    model = SmolLM2()
    tokenizer = model.tokenizer()
    with gzip.open(options.data, "rt", encoding="utf-8") as file:
        lines = file.readlines()
    random.Random(0).shuffle(lines)
    chosen: list = []
    for line in lines:
        row = json.loads(line)
        example = encode(tokenizer, model.format, row["prompt"], row["response"])
        if len(example.ids) <= options.max_tokens:
            chosen.append(example)
        if len(chosen) == options.rows:
            return chosen
    raise SystemExit(f"{options.data}: only {len(chosen)} rows of at most {options.max_tokens} tokens")


def load():
    from smartdpp.models import SmolLM2
    from smartdpp.runtime.device import compute_dtype, device

    return SmolLM2().load(dtype=compute_dtype()).to(device())


def vectors(model, reduction, rows: list) -> np.ndarray:
    """float32[n, p], not normalised."""
    from smartdpp.gradient import gradients

    X = np.empty((len(rows), reduction.size), dtype=np.float32)
    for done in gradients(model, reduction, rows, 0, BATCH_TOKENS):
        X[done.rows] = done.vectors
    return X


# Fidelity


def exact_products(model, rows: list, groups: int) -> np.ndarray:
    """float64[n, n], inner products of the full gradients, summed over groups of layers that fit into
    memory."""
    from smartdpp.gradient import linear_layers
    from smartdpp.gradient.reductions import Exact

    modules, products = linear_layers(model), np.zeros((len(rows), len(rows)))
    for names in np.array_split(list(modules), groups):
        X = vectors(model, Exact({name: modules[name] for name in names}), rows)
        products += X @ X.T
    return products


def fidelity(options: argparse.Namespace) -> list[dict]:
    from smartdpp.gradient import linear_layers, reduction
    from smartdpp.gradient.reductions import Sketch

    rows, model = examples(options), load()
    exact = normalised(exact_products(model, rows, options.groups))
    values, axes = np.linalg.eigh(exact)
    exact_rows = axes * np.sqrt(np.maximum(values, 0))  # vectors with exactly these inner products
    above = np.triu_indices(len(rows), 1)
    k = len(rows) // 4

    def measured(name: str, X: np.ndarray) -> dict:
        inner = normalised(X.astype(np.float64) @ X.T.astype(np.float64))
        ratio = np.sqrt((2 - 2 * inner[above]) / (2 - 2 * exact[above]))
        result = {
            "part": "fidelity",
            "method": name,
            "rows": len(rows),
            "dim": X.shape[1],
            "ratio_mean": ratio.mean(),
            "ratio_sd": ratio.std(),
            "inner_correlation": np.corrcoef(inner[above], exact[above])[0, 1],
            "inner_error_sd": (inner[above] - exact[above]).std(),
        }
        for function in ("DPP MAP", "facility location"):
            result[f"overlap {function}"] = len(picks(exact_rows, function, k) & picks(X, function, k))
        print(result, flush=True)
        return result

    results = [
        measured(
            f"sketch, rank {rank}, seed {seed}",
            vectors(model, Sketch(linear_layers(model), dim, seed, rank), rows),
        )
        for dim, rank, seed in SKETCHES
    ]
    results.append(measured("paper's recipe", vectors(model, reduction(model, "lora", dim=DIM), rows)))
    return results


# dim, rank, seed
SKETCHES = [(1024, 32, 0), (DIM, 32, 0), (DIM, 32, 1), (DIM, 64, 0), (DIM, 64, 1), (8192, 64, 0)]


def normalised(products: np.ndarray) -> np.ndarray:
    norm = np.sqrt(np.diag(products))
    return products / np.outer(norm, norm)


def picks(X: np.ndarray, function: str, k: int) -> set[int]:
    from smartdpp.functions import FacilityLocation, LogDet
    from smartdpp.greedy import maximize

    return set(
        maximize(
            LogDet(X, kernel="vmf", gamma=1.0) if function == "DPP MAP" else FacilityLocation(X), k
        ).index.tolist()
    )


# Speed. Each method prepares, and returns a pass over rows.
Pass = Callable[[list], None]


def loop() -> Pass:
    """One row at a time, the model's own loss, full gradients of attention's weights, then a sparse
    projection (the authors' way)."""
    import torch
    from scipy.sparse import csr_array
    from sklearn.random_projection import SparseRandomProjection

    from smartdpp.gradient import linear_layers

    model = load().requires_grad_(False)
    weights = [module.weight.requires_grad_(True) for module in linear_layers(model).values()]
    D = sum(weight.numel() for weight in weights)
    sparse = (
        SparseRandomProjection(DIM, random_state=0)
        .fit(csr_array((1, D), dtype=np.float32))
        .components_.astype(np.float32)
    )

    def run(rows: list) -> None:
        for ids, n_prompt in rows:
            labels = torch.tensor([[-100] * n_prompt + ids[n_prompt:]], device=model.device)
            loss = model(input_ids=torch.tensor([ids], device=model.device), labels=labels).loss
            gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])
            _ = sparse @ gradient.float().cpu().numpy()

    return run


def plain(weights: str) -> Pass:
    from smartdpp.gradient import linear_layers
    from smartdpp.models.batches import token_batches

    model = load().requires_grad_(weights == "all")
    if weights == "attention":
        for module in linear_layers(model).values():
            module.weight.requires_grad_(True)
    if weights == "none":
        model.enable_input_require_grads()

    def run(rows: list) -> None:
        for batch in token_batches(rows, BATCH_TOKENS, 0):
            batch = batch.to(model.device)
            model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels
            ).loss.backward()
            model.zero_grad()

    return run


def sketch() -> Pass:
    from smartdpp.gradient import reduction

    model = load()
    how = reduction(model, dim=DIM)

    def run(rows: list) -> None:
        vectors(model, how, rows)

    return run


METHODS: dict[str, tuple[str, Callable[[], Pass]]] = {
    "sketch": ("smartdpp, sketch to 4096", sketch),
    "loop": ("one row at a time: full gradients, sparse projection to 4096", loop),
    "attention": ("plain forward and backward, gradients of attention's weights", lambda: plain("attention")),
    "all": ("plain forward and backward, gradients of all weights", lambda: plain("all")),
    "none": ("plain forward and backward, no weight gradients", lambda: plain("none")),
}


def measure(name: str, options: argparse.Namespace) -> dict:
    """In a process of its own."""
    import torch

    rows = examples(options)
    rows = rows[: options.speed_rows // 4] if name == "loop" else rows[: options.speed_rows]
    run = METHODS[name][1]()
    run(rows[:8])
    start = time.perf_counter()
    run(rows)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    tokens = sum(len(row.ids) for row in rows)
    result = {
        "part": "speed",
        "method": METHODS[name][0],
        "rows": len(rows),
        "tokens": tokens,
        "seconds": seconds,
    }
    result |= {
        "tokens_per_second": tokens / seconds,
        "rows_per_second": len(rows) / seconds,
        "load": os.getloadavg()[0],
    }
    result["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if torch.cuda.is_available():
        result["peak_gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return result


def speed(options: argparse.Namespace) -> list[dict]:
    passes: dict[str, list[dict]] = {name: [] for name in METHODS}
    for name in [*METHODS] * options.repeat:  # in turns, so that a machine that slows down slows all of them
        command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        passes[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(passes[name][-1], flush=True)
    results = [min(passes[name], key=lambda one: one["seconds"]) for name in METHODS]
    ours = results[0]["tokens_per_second"]
    for result in results:
        result["cost_of_sketch"] = result["tokens_per_second"] / ours
    return results


def turns(options: argparse.Namespace) -> list[dict]:
    """Sketch against loop, ``--turns`` times in one process; the loop over a sixth of the rows."""
    rows = examples(options)[: options.speed_rows // 2]
    few = rows[: len(rows) // 6]
    ours, theirs = sketch(), loop()
    results = []
    for turn in range(-1, options.turns):  # the first one warms up
        rate = {}
        for run, some in ((ours, rows), (theirs, few)):
            start = time.perf_counter()
            run(some)
            rate[run] = sum(len(row.ids) for row in some) / (time.perf_counter() - start)
        if turn >= 0:
            results.append({"part": "turns", "method": f"turn {turn + 1}", "rows": len(rows)})
            results[-1] |= {
                "tokens_per_second": rate[ours],
                "loop_tokens_per_second": rate[theirs],
                "ratio": rate[ours] / rate[theirs],
            }
            print(results[-1], flush=True)
    return results


# Results


def write(rows: list[dict], options: argparse.Namespace) -> None:
    """Replaces this call's part in embedding.csv, and makes table and figure of all of it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "embedding.csv"
    rows = [
        {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]
    if path.exists():
        with path.open(newline="") as file:
            rows += [row for row in csv.DictReader(file) if row["part"] != options.part]
    columns = list(dict.fromkeys(key for row in sorted(rows, key=lambda row: row["part"]) for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["part"]))
    fidelity_rows = [row for row in rows if row["part"] == "fidelity"]
    speed_rows = [row for row in rows if row["part"] == "speed"]
    turn_rows = [row for row in rows if row["part"] == "turns"]
    k = int(fidelity_rows[0]["rows"]) // 4 if fidelity_rows else 0
    import torch

    from smartdpp.runtime.device import compute_dtype, device_name

    lines = [
        "# Gradient embedding: fidelity and speed",
        "",
        "SmolLM2-135M-Instruct, the 120 attention weights (26.5 million numbers), rows of at most "
        f"{options.max_tokens} tokens. "
        f"{os.cpu_count()} cores, {device_name()}, {compute_dtype()}, torch {torch.__version__}. "
        "Measured by `python experiments/benchmarks/embedding.py`.",
        "",
        "## Against exact gradients",
        "",
        f"Ratio: distance of two normalised sketches over the exact one, all pairs. Overlap: of {k} greedy "
        "picks, how many are those made "
        f"from the exact gradients (by chance {k / 4:.1f}).",
        "",
        "| method | dim | ratio mean | ratio sd | inner products: correlation | sd of error | overlap, DPP "
        "| overlap, facility l. |",
        "|---" * 8 + "|",
    ]
    for row in fidelity_rows:
        cells = [
            row["method"],
            row["dim"],
            *(f"{float(row[name]):.4f}" for name in FIDELITY),
            row["overlap DPP MAP"],
        ]
        lines.append("| " + " | ".join(map(str, [*cells, row["overlap facility location"]])) + " |")
    lines += [
        "",
        "## Speed",
        "",
        f"Batches of at most {BATCH_TOKENS} tokens, padding included, except one row at a time. `plain` "
        "makes logits for all tokens, as "
        "the model does by itself; the sketch makes them where a label needs them.",
        "",
        "| method | rows | tokens | tokens/s | rows/s | time per token, sketch = 1 | peak GiB | load |",
        "|---" * 8 + "|",
    ]
    for row in speed_rows:
        ratio = 1 / float(row["cost_of_sketch"])
        cells = [
            row["method"],
            row["rows"],
            row["tokens"],
            f"{float(row['tokens_per_second']):.0f}",
            f"{float(row['rows_per_second']):.2f}",
        ]
        lines.append(
            "| "
            + " | ".join(
                map(
                    str,
                    [*cells, f"{ratio:.2f}", f"{float(row['peak_gib']):.1f}", f"{float(row['load']):.1f}"],
                )
            )
            + " |"
        )
    if turn_rows:
        ratio = np.array([float(row["ratio"]) for row in turn_rows])
        rate = [
            np.median([float(row[name]) for row in turn_rows])
            for name in ("tokens_per_second", "loop_tokens_per_second")
        ]
        lines += [
            "",
            f"In turns in one process, {len(ratio)} times: the sketch {np.median(ratio):.2f} times as many "
            "tokens a second as the loop "
            f"(median; {ratio.min():.2f} to {ratio.max():.2f}), {rate[0]:.0f} against {rate[1]:.0f} "
            "tokens/s (medians), "
            f"{turn_rows[0]['rows']} rows.",
        ]
    (RESULTS / "embedding.md").write_text("\n".join(lines) + "\n")
    figure(fidelity_rows, speed_rows)


FIDELITY = ("ratio_mean", "ratio_sd", "inner_correlation", "inner_error_sd")


def figure(fidelity_rows: list[dict], speed_rows: list[dict]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", width_ratios=[1, 1.3])
    for kind, colour in (("sketch", "#4477AA"), ("paper", "#EE6677")):
        points = [
            (int(row["dim"]), float(row["ratio_sd"]))
            for row in fidelity_rows
            if row["method"].startswith(kind)
        ]
        if points:
            label = next(
                row["method"].split(", seed")[0] for row in fidelity_rows if row["method"].startswith(kind)
            )
            left.plot(*zip(*points, strict=True), "o", color=colour, label=label)
    dims = np.geomspace(1024, 8192, 50)
    left.plot(dims, 1 / np.sqrt(2 * dims), "--", color="grey", label="a full Gaussian projection, 1/√(2 dim)")
    left.axhline(0.034, color="#EE6677", lw=0.8, ls=":", label="the authors' own check (160M model)")
    left.set(
        xscale="log", xticks=[1024, 4096, 8192], xticklabels=["1024", "4096", "8192"], xlabel="dim", ylim=0
    )
    left.set(ylabel="sd of the distance ratio", title="Fidelity")
    left.minorticks_off()
    left.legend(frameon=False, fontsize=7)
    names = [row["method"].replace(": ", ":\n").replace(", ", ",\n") for row in speed_rows]
    right.barh(names, [float(row["tokens_per_second"]) for row in speed_rows], color="#4477AA")
    right.invert_yaxis()
    right.set(xlabel="tokens per second", title="Speed")
    right.tick_params(axis="y", labelsize=7)
    fig.savefig(RESULTS / "embedding.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="jsonl.gz with prompt and response")
    parser.add_argument("part", choices=["fidelity", "speed", "turns"])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument(
        "--groups",
        type=int,
        default=3,
        help="of layers, for the exact gradients: more take less memory and more time",
    )
    parser.add_argument("--speed-rows", type=int, default=144, help="the loop takes a quarter of them")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options)))
        return
    write({"fidelity": fidelity, "speed": speed, "turns": turns}[options.part](options), options)


if __name__ == "__main__":
    main()
