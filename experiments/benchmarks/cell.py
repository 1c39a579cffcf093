"""What the seconds of a cell are spent on: now, at an earlier commit, and in a plain script by hand.

    python experiments/benchmarks/cell.py [--before COMMIT] [--budget 64] [--documents 8] [OVERRIDE ...]

A cell chooses at random (tf-idf vectors, so that nearly all of it is model work), trains SmolLM2-135M by LoRA
and scores it before and after. The plain script has the same rows and documents and uses TRL, PEFT and
lm-eval as their documentation says. Each is a process of its own, one after another, behind a cell of a tiny
model that is not counted (libraries are read from the disk); the table goes to
experiments/results/benchmarks/cell.md. ``--model tiny`` tries the script, with overrides for a small corpus;
what it writes goes nowhere. The earlier commit is checked out beside the repository's own folders for as long
as it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import model_of, plain

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "cell.md"
NAMES = {"smollm2": "smollm2_135m", "tiny": "tiny"}  # in conf/model
STAGES = ("corpus", "embedding", "mixture", "adapter", "base scores", "scores", "diversity")


def cell(code: Path, root: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """One run of the program as it is in the folder ``code``: its row, with the seconds of all of it."""
    command = [sys.executable, "run.py", "strategy=random", "embedding=tfidf", "embedding@probe=tfidf"]
    command += ["evaluation=heldout", "tracker=none", f"root={root}", *overrides]
    began = time.perf_counter()
    subprocess.run(
        command, cwd=code, env=os.environ | {"PYTHONPATH": str(code)}, check=True, stdout=subprocess.DEVNULL
    )
    whole = time.perf_counter() - began
    (result,) = (root / "runs").rglob("result.json")
    return {**json.loads(result.read_text()), "whole": whole}


def files(root: Path, name: str) -> list[dict[str, Any]]:
    """The records of the one file of that name among the artifacts."""
    found = sorted((root / "store").rglob(name))
    return [json.loads(line) for line in found[0].open(encoding="utf-8")]


def by_hand(work: Path) -> dict[str, float]:
    """Seconds of the plain script's stages, on what ``work`` holds."""
    import pyarrow as pa
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from peft import PeftModel

    given, seconds = json.loads((work / "given.json").read_text()), {}
    model = model_of(given["model"])
    tokenizer = model.tokenizer()

    def scored(weights: Any) -> None:
        lm = HFLM(pretrained=weights, tokenizer=tokenizer, batch_size=32)
        asked = []
        for one in given["documents"]:
            turns = [{"role": "user", "content": one["prompt"]}]
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            asked.append((text, one["response"]))
        lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in asked])
        until = {"until": ["\n\n"], "max_gen_toks": 32}
        lm.generate_until([Instance("generate_until", {}, (text, until), 0) for text, _ in asked])

    began = time.perf_counter()
    scored(model.load())
    seconds["base scores"] = time.perf_counter() - began
    began = time.perf_counter()
    plain(model, pa.Table.from_pylist(given["rows"]), work / "trained")
    seconds["adapter"] = time.perf_counter() - began
    began = time.perf_counter()
    scored(PeftModel.from_pretrained(model.load(), work / "trained").eval())
    seconds["scores"] = time.perf_counter() - began
    return seconds


def speed() -> float:
    """Operations a second of a float32 product of a layer's size, the best of ten."""
    import torch

    x, W = torch.randn(1024, 576), torch.randn(1536, 576)
    taken = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(20):
            x @ W.t()
        taken.append((time.perf_counter() - began) / 20)
    return 2 * 1024 * 576 * 1536 / min(taken)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", help="a commit to compare with")
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--documents", type=int, default=8, help="of each of eight tasks")
    parser.add_argument("--model", choices=list(NAMES), default="smollm2")
    parser.add_argument("overrides", nargs="*", help="of every cell, as for run.py")
    parser.add_argument("--hand", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args(arguments)
    if args.hand:
        (args.hand / "seconds.json").write_text(json.dumps(by_hand(args.hand)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sizes = [f"model={NAMES[args.model]}", f"budget={args.budget}", f"evaluation.limit={args.documents}"]
        sizes += args.overrides
        if args.model != "tiny":  # so that nobody waits for libraries to be read from the disk
            # a token a letter: rows are longer by the tiny model's tokenizer
            cell(ROOT, work / "first", [f"model={NAMES['tiny']}", "pool.max_tokens=2048", *sizes[1:]])
        found = {"now": cell(ROOT, work / "now", sizes)}
        print(f"now: {found['now']['whole']:.0f} s", flush=True)
        if args.before:
            git = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*git, "add", "--detach", "-q", str(work / "code"), args.before], check=True)
            try:
                found["before"] = cell(work / "code", work / "before", sizes)
            finally:
                subprocess.run([*git, "remove", "--force", str(work / "code")], check=True)
            print(f"before: {found['before']['whole']:.0f} s", flush=True)
        facts = told(work / "now", args.model)
        (work / "hand").mkdir()
        (work / "hand" / "given.json").write_text(json.dumps(facts["given"]))
        found["by hand"] = hand(work / "hand")
    text = table_of(found, facts, speed(), args.before)
    print(text)
    if args.model == "smollm2" and not args.overrides:
        OUT.write_text(text, encoding="utf-8")


def hand(work: Path) -> dict[str, Any]:
    """The plain script on what ``work`` holds, in a process of its own."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--hand", str(work)]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    whole = time.perf_counter() - began
    taken = json.loads((work / "seconds.json").read_text())
    return {**{f"seconds/{name}": value for name, value in taken.items()}, "whole": whole}


def told(root: Path, model: str) -> dict[str, Any]:
    """The rows and documents of a finished cell, how many tokens they have, and the model's weights."""
    import pyarrow.parquet as pq

    rows = [{key: row[key] for key in ("prompt", "response")} for row in files(root, "mixture.jsonl")]
    samples = files(root, "samples.jsonl")
    (heldout,) = (root / "store").rglob("heldout.parquet")
    texts = {row["id"]: row for row in pq.read_table(heldout).to_pylist()}
    documents = [{key: texts[s["id"]][key] for key in ("prompt", "response")} for s in samples]
    (training,) = [
        meta["facts"]
        for path in (root / "store").rglob("meta.json")
        if "response_tokens" in (meta := json.loads(path.read_text()))["facts"]
    ]
    sizes = model_of(model).anatomy()
    return {
        "given": {"model": model, "rows": rows, "documents": documents},
        "rows": len(rows),
        "head": sizes.vocabulary * sizes.hidden,
        "linear": sizes.parameters - sizes.vocabulary * sizes.hidden,
        "tokens": training["tokens"],
        "responses": training["response_tokens"],
        "read": sum(s["prompt_tokens"] + s["tokens"] for s in samples),
        "documents": len(samples),
    }


def table_of(found: dict[str, Any], facts: dict[str, Any], rate: float, before: str | None) -> str:
    names = list(found)
    lines = [
        "# A cell's seconds",
        "",
        f"{facts['rows']} rows ({facts['tokens']:,} tokens) trained, {facts['documents']} documents "
        f"({facts['read']:,} tokens) scored before and after, with generations of up to 32 tokens; one run "
        f"each. {platform.machine()}, {len(os.sched_getaffinity(0))} cores, {rate / 1e9:.0f} GFLOP/s."
        + (f" Before: commit {before}." if before else ""),
        "",
        "| seconds | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for stage in STAGES:
        cells = [found[name].get(f"seconds/{stage}") for name in names]
        lines.append(f"| {stage} | " + " | ".join("" if s is None else f"{s:.1f}" for s in cells) + " |")
    wholes = [found[name]["whole"] for name in names]
    parts = [sum(found[name].get(f"seconds/{stage}", 0.0) for stage in STAGES) for name in names]
    rest = [whole - part for whole, part in zip(wholes, parts, strict=True)]
    lines.append("| starting, and what is between | " + " | ".join(f"{s:.1f}" for s in rest) + " |")
    lines.append("| all | " + " | ".join(f"{s:.1f}" for s in wholes) + " |")
    trained = [facts["tokens"] / found[name]["seconds/adapter"] for name in names]
    lines.append("| tokens/s of training | " + " | ".join(f"{r:.0f}" for r in trained) + " |")
    floor = (4 * facts["linear"] * facts["tokens"] + 4 * facts["head"] * facts["responses"]) / rate
    shares = [floor / found[name]["seconds/adapter"] for name in names]
    lines.append("| floor of training's products, share | " + " | ".join(f"{s:.0%}" for s in shares) + " |")
    scored = [
        2 * facts["documents"] / sum(found[n][f"seconds/{s}"] for s in ("base scores", "scores"))
        for n in names
    ]
    lines.append("| documents/s of scoring | " + " | ".join(f"{r:.1f}" for r in scored) + " |")
    lines += [
        "",
        "All seconds hold loading, tokenizing, checkpoints and saving. A cell imports libraries in the first",
        "stage that needs them, the script before all.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
