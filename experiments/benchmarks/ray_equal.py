"""The same files from one process and from a cluster whose workers are killed: any corpus, embedded and
chosen from.

    python experiments/benchmarks/ray_equal.py CORPUS --work FOLDER
    python experiments/benchmarks/ray_equal.py CORPUS --work FOLDER --embedding tfidf --rows-per-task 64 a few
    hundred rows, in minutes

CORPUS is a file with task, prompt and response. `run.py ... until=mixture` is called for every strategy, here
under FOLDER/local and, with nothing but ``runtime=ray`` and an address added, on a Ray cluster of three nodes
on this machine under FOLDER/ray. In the middle of each call's work the first of the cluster's processes that
is busy for long enough is killed (SIGKILL). Then all files of both stores are compared byte by byte, but for
meta.json, which says when and by what they were made. Written: ray_equal.md.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
SELECTIONS = {  # what is chosen from shares, task by task, in two rounds, and by the asking process
    "graph cut over the pool": ["strategy=submodular", "function@strategy.function=graph_cut"],
    "log determinant over the pool": ["strategy=submodular", "function@strategy.function=logdet"],
    "dpp, linear kernel": ["strategy=dpp", "strategy.kernel=linear", "strategy.ridge=0.01"],
    "SMART": ["strategy=smart"],
    "SMART, log determinant within tasks": ["strategy=smart", "function@strategy.instances=logdet"],
    "facility location in two rounds": ["strategy=two_rounds", "strategy.parts=4"],
    "dpp, vmf kernel": ["strategy=dpp"],
}

# what the cluster's processes are called while they do it
WORK = ("_task", "_greedy_order", "_first_round", "_reached", "Kept.ask")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="where both roots are made; what is finished there is not made again",
    )
    parser.add_argument(
        "--embedding", default="minilm", help="an option of conf/embedding that needs no network"
    )
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--rows-per-task", type=int, default=2048)
    parser.add_argument("--only", default="", help="selections whose name contains this")
    parser.add_argument(
        "--after", type=float, default=0.5, help="seconds that a process has been busy when it is killed"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    work = options.work.absolute()
    heldout = work / "heldout.jsonl"
    heldout.write_text(
        json.dumps({"task": "none", "prompt": "What is asked?", "response": "Nothing that is scored here."})
        + "\n"
    )
    shared = [
        "corpus=jsonl",
        f"corpus.path={options.corpus.absolute()}",
        "evaluation=jsonl",
        f"evaluation.path={heldout}",
        f"embedding={options.embedding}",
        f"embedding@probe={options.embedding}",  # one embedding, made by a call of its own
        "model=tiny",
        "pool.max_tokens=1000000",
        "tracker=none",
        "until=mixture",
        f"budget={options.budget}",
    ]
    chosen = {name: overrides for name, overrides in SELECTIONS.items() if options.only in name}
    kept = work / "lines.json"  # of the calls that made something, the last time they did
    lines: dict[str, str] = json.loads(kept.read_text()) if kept.is_file() else {}
    seconds: dict[str, list[float]] = {}
    for name, overrides in chosen.items():
        seconds[name] = [call([*shared, *overrides, f"root={work / 'local'}"])]
    with cluster() as address:
        ray = ["runtime=ray", f"runtime.address={address}", f"runtime.rows_per_task={options.rows_per_task}"]
        call([*shared, *ray, f"root={work / 'ray'}", "until=corpus"])
        for stage, overrides in {
            "embedding": [*next(iter(chosen.values())), "until=embedding"],
            **chosen,
        }.items():
            with killer(options.after) as killed:
                took = call([*shared, *overrides, *ray, f"root={work / 'ray'}"])
            seconds.setdefault(stage, []).append(took)
            if (line := compared(stage, work, seconds[stage], killed)) is not None:
                lines[stage] = line
                kept.write_text(json.dumps(lines))
            print(lines.get(stage, f"{stage}: was made before"), flush=True)
    stores = [
        {path.relative_to(root) for path in root.rglob("*") if made(path)}
        for root in (work / "local/store", work / "ray/store")
    ]
    different = sorted(
        path
        for path in stores[0] | stores[1]
        if not same(work / "local/store" / path, work / "ray/store" / path)
    )
    verdict = "all are equal" if not different else "DIFFERENT: " + ", ".join(map(str, different))
    kills = sum("none was busy" not in line for line in lines.values())
    text = [
        "# One process and a cluster whose workers are killed",
        "",
        f"{rows(work / 'local'):,} rows, embedding {options.embedding}, budget {options.budget}; three Ray "
        "nodes on this machine. In",
        f"{kills} of {len(lines)} calls a busy process was killed, {options.after:g} s after it began. "
        "Seconds are the whole command's,",
        f"its start included, on {os.cpu_count()} cores that both share: they say nothing of speed. "
        "Measured by",
        "`python experiments/benchmarks/ray_equal.py`.",
        "",
        "| what | seconds here | seconds there | killed | bytes | where it was made |",
        "|---|---:|---:|---|---|---|",
        *lines.values(),
        "",
        f"{len(stores[0])} files in one store, {len(stores[1])} in the other: {verdict}.",
    ]
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "ray_equal.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))
    if different:
        raise SystemExit(1)


def call(overrides: list[str]) -> float:
    """Seconds of one command."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), *overrides], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(
            f"run.py {' '.join(overrides)} ended with "
            f"{done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return time.perf_counter() - began


@contextmanager
def cluster() -> Iterator[str]:
    """Three nodes with one CPU each, which import this checkout."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    from ray.cluster_utils import Cluster

    memory = 300 * 2**20
    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False},
    )
    for _ in range(2):
        nodes.add_node(num_cpus=1, object_store_memory=memory)
    try:
        yield nodes.address
    finally:
        nodes.shutdown()


@contextmanager
def killer(after: float) -> Iterator[list[str]]:
    """Kills the first process of the cluster that is at work on a task, once it has been for so long; says
    which it was."""
    import psutil

    stop, killed = threading.Event(), []

    def busy() -> Iterator[tuple[psutil.Process, str]]:
        for process in psutil.Process().children(recursive=True):
            try:
                title = process.cmdline()[:1]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if title and title[0].startswith(tuple(f"ray::{work}" for work in WORK)):
                yield process, title[0]

    def watch() -> None:
        since: dict[int, float] = {}
        while not killed and not stop.wait(0.02):
            for process, title in busy():
                began = since.setdefault(process.pid, time.perf_counter())
                if time.perf_counter() - began >= after:
                    process.kill()
                    killed.append(title)
                    break

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield killed
    finally:
        stop.set()
        watcher.join()


def compared(stage: str, work: Path, seconds: list[float], killed: list[str]) -> str | None:
    """A line of the table: of the artifact that the last call on the cluster made. None if it was there
    before."""
    run = max((work / "ray" / "runs").glob("*/artifacts.json"), key=lambda path: path.stat().st_mtime).parent
    artifact = Path(
        json.loads((run / "artifacts.json").read_text())["embedding" if stage == "embedding" else "mixture"]
    )
    if time.time() - (artifact / "meta.json").stat().st_mtime > seconds[-1]:
        return None
    equal = all(
        same(path, work / "local" / path.relative_to(work / "ray"))
        for path in artifact.rglob("*")
        if made(path)
    )
    said = [
        line
        for line in (run / "run.log").read_text().splitlines()
        if "chosen from" in line or "chosen by the process" in line
    ]
    where = "pieces on the cluster" if stage == "embedding" or not said else said[-1].split("chosen ", 1)[1]
    here, there = (
        (f"{seconds[0]:.1f}", f"{seconds[1]:.1f}") if len(seconds) == 2 else ("", f"{seconds[0]:.1f}")
    )
    return (
        f"| {stage} | {here} | {there} | {', '.join(killed) or 'none was busy'} | "
        f"{'equal' if equal else 'DIFFERENT'} | {where} |"
    )


def made(path: Path) -> bool:
    return path.is_file() and path.name != "meta.json" and not path.name.startswith(".")


def same(a: Path, b: Path) -> bool:
    return a.is_file() and b.is_file() and filecmp.cmp(a, b, shallow=False)


def rows(root: Path) -> int:
    meta = next((root / "store" / "corpus").glob("*/meta.json"))
    return int(json.loads(meta.read_text())["facts"]["n_pool"])


if __name__ == "__main__":
    main()
