"""Run folders as the pipeline leaves them, with made-up numbers, for tests of what reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

TASKS = ("gcd", "coin_flip")  # held out
DOCUMENTS = 25  # of each


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def finished_run(
    root: Path,
    name: str = "smart-minilm-b40-s0-00000000",
    *,
    strategy: str = "smart",
    budget: int | None = 40,
    seed: int = 0,
    loss: float = 2.0,
    loss_base: float = 4.0,
    curve: tuple[float, ...] = (0.1, 0.2, 0.3),
    selected: dict[str, int] | None = None,
    config: dict[str, Any] | None = None,
    names: dict[str, str] | None = None,
    prompts: str = "What is {} + {}?",
    **more: Any,
) -> Path:
    """A finished run of ``root`` with its artifacts, whose paths are written as a run started inside ``root``
    writes them."""
    run, selected = (
        root / "runs" / name,
        {"chain_sum": 30, "maze": 10, "dice": 0} if selected is None else selected,
    )
    n = sum(selected.values())
    store = root / "store"
    lines = [f"{_quoted(task)},50,{count},{count / max(n, 1)}" for task, count in selected.items()]
    put(store / "mixture" / name / "tasks.csv", "\n".join(["task,pool,selected,share", *lines]) + "\n")
    chosen = [task for task, count in selected.items() for _ in range(count)]
    rows = [
        {
            "rank": i,
            "gain": 1.0,
            "id": f"{task}/{i}",
            "task": task,
            "prompt": prompts.replace("{}", str(i)),
            "response": str(2 * i),
        }
        for i, task in enumerate(chosen)
    ]
    put(store / "mixture" / name / "mixture.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    np.save(store / "mixture" / name / "rows.npy", np.arange(n))
    _embedding(store / "embedding" / "all", max(n, 200))
    measured = (
        {
            "ldd": curve[-1],
            "ldd_n": len(curve),
            "kept": n,
            "size": n,
            "kept_share": 1.0,
            "duplicate_share": 0.0,
        }
        if curve
        else {}
    )
    put(store / "diversity" / name / "diversity.json", measured | ({"curve": list(curve)} if curve else {}))
    for folder, mean in ((name, loss), ("base", loss_base)):
        tasks = {
            task: {"n": DOCUMENTS, "loss": mean + sign * 0.5, "loss_se": 0.1}
            for task, sign in zip(TASKS, (1, -1), strict=True)
        }
        put(
            store / "scores" / folder / "scores.json",
            {"mean": {"n": len(TASKS) * DOCUMENTS, "loss": mean}, "tasks": tasks},
        )
        put(store / "scores" / folder / "samples.jsonl", _samples(mean, seed))
    stages = {
        "embedding": ("embedding", "all"),
        "mixture": ("mixture", name),
        "diversity": ("diversity", name),
    }
    stages |= {"base scores": ("scores", "base"), "scores": ("scores", name)}
    put(run / "artifacts.json", {stage: f"store/{folder}/{key}" for stage, (folder, key) in stages.items()})
    put(
        run / ".hydra" / "config.yaml",
        yaml.safe_dump(
            {"budget": budget, "seed": seed, "strategy": {"_target_": f"x.{strategy}"}, **(config or {})}
        ),
    )
    row: dict[str, Any] = {
        "run": name,
        "strategy": strategy,
        "model": "tiny",
        "embedding": "minilm",
        **(names or {}),
    }
    row |= {"budget": budget, "seed": seed, "select_seed": seed, "train_seed": seed}
    row |= {
        "n": n,
        "n_pool": 150,
        "tasks": sum(count > 0 for count in selected.values()),
        "tasks_in_pool": 3,
        "tokens": 60 * n,
    }
    row |= {"loss_base": loss_base, "loss": loss, **{f"loss/{task}": loss for task in TASKS}}
    row |= {f"diversity_{key}": value for key, value in measured.items()}
    row |= {
        "made_in/mixture": 1.5,
        "made_in/adapter": 60.0,
        "peak_gib/adapter": 2.5,
        "score": loss,
        "commit": "0123456789abcdef",
        "uncommitted": None,
        "device": "cpu",
    }
    put(run / "result.json", row | more)
    return run


def _quoted(task: str) -> str:
    return '"' + task.replace('"', '""') + '"'


def _samples(mean: float, seed: int) -> str:
    """Documents whose difficulty all runs share; each task's loss is ``mean`` ± 0.5."""
    hard = np.random.default_rng(1).normal(0, 0.5, size=(len(TASKS), DOCUMENTS))
    own = np.random.default_rng([2, seed, round(1000 * mean)]).normal(0, 0.05, size=hard.shape)
    lines = []
    for task, sign, hardness in zip(TASKS, (1, -1), hard + own, strict=True):
        nll = mean + sign * 0.5 + hardness - hardness.mean()
        lines += [
            {"task": task, "id": f"{task}/{i}", "nll": 3 * v, "tokens": 3, "bytes": 9, "target": "x"}
            for i, v in enumerate(nll)
        ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _embedding(folder: Path, rows: int) -> None:
    """Rows 2 and 5 are copies."""
    folder.mkdir(parents=True, exist_ok=True)
    X = np.random.default_rng(0).normal(size=(rows, 16)).astype(np.float32)
    X[5] = X[2]
    np.save(folder / "X.npy", X)


def crossed_study(root: Path, seeds: int = 3, prompts: str = "What is {} + {}?") -> None:
    """f1 by f2 by budgets by numbers of tasks, beside random and the full pool, every difference made up."""
    rng = np.random.default_rng(0)
    functions = ("facility_location", "graph_cut", "logdet")
    for seed in range(seeds):
        noise = rng.normal(0, 0.004)
        for budget in (60, 120, 240):
            gain = 0.06 * np.log2(budget / 30)
            for i, f1 in enumerate(functions):
                for j, f2 in enumerate(functions):
                    for num_tasks in (8, 16, 32, 64) if (i, j) == (1, 0) else (16,):
                        loss = (
                            2.0
                            - gain
                            + 0.02 * (i - 1) ** 2
                            + 0.015 * j
                            + 0.01 * abs(np.log2(num_tasks / 24))
                            + noise
                        )
                        finished_run(
                            root,
                            f"smart-{f1}-{f2}-m{num_tasks}-b{budget}-s{seed}",
                            budget=budget,
                            seed=seed,
                            loss=loss + rng.normal(0, 0.003),
                            curve=tuple(np.linspace(0.1, 0.25 + 0.03 * i + rng.normal(0, 0.01), 20)),
                            selected={"chain_sum": 30 + 10 * i, "maze": 20, "dice": 10 - 5 * j},
                            config={
                                "strategy": {
                                    "_target_": "smartdpp.strategies.smart.Smart",
                                    "num_tasks": num_tasks,
                                }
                            },
                            names={"function@strategy.tasks": f1, "function@strategy.instances": f2},
                            prompts=prompts,
                        )
            finished_run(
                root,
                f"random-b{budget}-s{seed}",
                strategy="random",
                budget=budget,
                seed=seed,
                loss=2.05 - gain + noise + rng.normal(0, 0.003),
                curve=tuple(np.linspace(0.1, 0.4, 20)),
                prompts=prompts,
            )
        finished_run(
            root, f"full-s{seed}", strategy="full", budget=None, seed=seed, loss=1.78 + noise, prompts=prompts
        )
