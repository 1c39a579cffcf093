"""What a second of LoRA training reads: ours, ours as TRL and PEFT compute it, and a plain script of both.

    python experiments/benchmarks/training.py [--rows 96] [--rounds 3] [--model tiny]

Every measurement is a process of its own, the three in turns; rows are those of the default corpus. `as TRL
and PEFT` is our trainer (same order of rows, same batches) with logits of every position and PEFT's own
forward, so that its losses can be held against ours. The table goes to
experiments/results/benchmarks/training.md, of the tiny model, which tries the script, nowhere.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "training.md"
VARIANTS = {
    "ours": "smartdpp",
    "usual": "smartdpp, as TRL and PEFT compute it",
    "plain": "a plain script of TRL and PEFT",
}


def model_of(name: str) -> Any:
    from smartdpp.models import SmolLM2, Tiny

    return Tiny() if name == "tiny" else SmolLM2()


def rows(n: int, name: str = "smollm2") -> Any:
    """n rows of at most 512 tokens, spread over the default corpus, or sums for the tiny model: a table."""
    import pyarrow as pa

    from smartdpp.corpus.procedural import ReasoningGym

    if name == "tiny":
        return pa.Table.from_pylist(
            [{"prompt": f"Add {i} to {i * i}.", "response": str(i + i * i)} for i in range(n)]
        )
    tokenizer = model_of(name).tokenizer()
    found = []
    for row in itertools.islice(ReasoningGym().rows(), 0, None, 23):
        if len(tokenizer(row["prompt"] + row["response"])["input_ids"]) <= 480:
            found.append({"prompt": row["prompt"], "response": row["response"]})
        if len(found) == n:
            break
    return pa.Table.from_pylist(found)


@contextmanager
def steps_timed() -> Any:
    import torch
    from transformers import Trainer

    seconds: list[float] = []
    step = Trainer.training_step

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        loss = step(self, *args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        return loss

    Trainer.training_step = timed
    yield seconds
    Trainer.training_step = step


def measure(variant: str, n: int, name: str) -> dict[str, Any]:
    """Trains once; seconds of the steps and of all of it, peak memory, and each step's loss."""
    from smartdpp.store.record import peak_memory

    table, model = rows(n, name), model_of(name)
    with steps_timed() as seconds, peak_memory() as peak, tempfile.TemporaryDirectory() as folder:
        start, began = peak(), time.perf_counter()
        facts = {"plain": plain, "usual": usual, "ours": ours}[variant](model, table, Path(folder))
        whole = time.perf_counter() - began
        gib = (peak() - start) / 2**30
    return {"steps": sum(seconds), "whole": whole, "gib": gib, **facts}


def alone(variant: str, n: int, name: str) -> dict[str, Any]:
    """The same in a process of its own, of this checkout's code."""
    command = [sys.executable, __file__, "--one", variant, "--rows", str(n), "--model", name]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def ours(model: Any, table: Any, out: Path) -> dict[str, Any]:
    from smartdpp.finetune import Finetune

    facts = Finetune().train(model, table, out, seed=0)
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").open()]
    return {"tokens": facts["tokens"], "losses": losses}


def usual(model: Any, table: Any, out: Path) -> dict[str, Any]:
    """Ours, with what is done faster done as the libraries do it."""
    from smartdpp.finetune import trainer

    made = trainer._trainer

    def slow(recipe: Any) -> Any:
        kind = made(recipe)

        @contextmanager
        def whole(self: Any, inputs: Any) -> Any:
            yield inputs

        kind.labelled = whole
        return kind

    trainer._trainer, trainer.fuse, trainer.pack = slow, lambda model: 0, lambda model: 0
    return ours(model, table, out)


def plain(model: Any, table: Any, out: Path) -> dict[str, Any]:
    """What somebody would write who has these rows and the two libraries' documentation."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    chats = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["response"]}],
        }
        for row in table.to_pylist()
    ]
    config = SFTConfig(
        output_dir=str(out),
        num_train_epochs=1,
        per_device_train_batch_size=8,
        learning_rate=5e-4,
        warmup_steps=0.03,
        lr_scheduler_type="cosine",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        max_length=None,
        gradient_checkpointing=False,
    )
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    tokenizer = model.tokenizer()
    trained = SFTTrainer(
        model.load(),
        args=config,
        train_dataset=Dataset.from_list(chats),
        processing_class=tokenizer,
        peft_config=lora,
    )
    tokens = sum(map(len, trained.train_dataset["input_ids"]))
    trained.train()
    trained.save_model()
    return {
        "tokens": tokens,
        "losses": [entry["loss"] for entry in trained.state.log_history if "loss" in entry],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=["smollm2", "tiny"], default="smollm2")
    parser.add_argument("--one", choices=list(VARIANTS), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.one:
        print("\n" + json.dumps(measure(args.one, args.rows, args.model)))
        return
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for round_ in range(args.rounds):
        for variant in VARIANTS:
            found[variant].append(alone(variant, args.rows, args.model))
            print(f"round {round_ + 1}, {variant}: {found[variant][-1]['steps']:.1f} s", flush=True)
    off = max(
        abs(a - b) for a, b in zip(found["ours"][0]["losses"], found["usual"][0]["losses"], strict=True)
    )
    text = table_of(found, off, args.rows)
    print(text)
    if args.model == "smollm2":
        OUT.write_text(text, encoding="utf-8")


def table_of(found: dict[str, list[dict[str, Any]]], off: float, n: int) -> str:
    import torch

    def rate(variant: str, what: str) -> list[float]:
        return [one["tokens"] / one[what] for one in found[variant]]

    lines = [
        "# Training on processors",
        "",
        f"LoRA (rank 16, all linear layers) on SmolLM2-135M, {n} rows of the default corpus, "
        f"{found['ours'][0]['tokens']:,} tokens, {len(found['ours'])} rounds in turns; medians, ratios "
        "within a round. "
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}.",
        "",
        "| | tokens/s in the steps | tokens/s in all | peak above the start (GiB) | ours is faster (steps) |",
        "|---|---:|---:|---:|---:|",
    ]
    for variant, name in VARIANTS.items():
        ratios = [a / b for a, b in zip(rate("ours", "steps"), rate(variant, "steps"), strict=True)]
        lines.append(
            f"| {name} | {statistics.median(rate(variant, 'steps')):.0f} "
            f"| {statistics.median(rate(variant, 'whole')):.0f} "
            f"| {max(one['gib'] for one in found[variant]):.1f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    lines += [
        "",
        f"Losses of a step differ by at most {off:.1e} between the first two, which see the same batches. "
        "The plain "
        "script takes its rows in another order. In all: with loading the model, tokenizing, checkpoints "
        "and saving.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
