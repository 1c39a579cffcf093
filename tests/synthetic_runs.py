"""Run folders as the pipeline leaves them, with made-up numbers, for tests of what reads them."""

import json
from pathlib import Path
from typing import Any

import yaml

TASKS = ("gcd", "coin_flip")  # held out


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
    **more: Any,
) -> Path:
    """A finished run of ``root`` with its artifacts, whose paths are written as a run started inside ``root`` writes them."""
    run, selected = root / "runs" / name, {"chain_sum": 30, "maze": 10, "dice": 0} if selected is None else selected
    n = sum(selected.values())
    lines = [f"{task},50,{count},{count / max(n, 1)}" for task, count in selected.items()]
    put(root / "store" / "mixture" / name / "tasks.csv", "\n".join(["task,pool,selected,share", *lines]) + "\n")
    measured = {"ldd": curve[-1], "ldd_n": len(curve), "kept": n, "size": n, "kept_share": 1.0, "duplicate_share": 0.0} if curve else {}
    put(root / "store" / "diversity" / name / "diversity.json", measured | ({"curve": list(curve)} if curve else {}))
    for folder, mean in ((name, loss), ("base", loss_base)):
        tasks = {task: {"n": 25, "loss": mean + sign * 0.5, "loss_se": 0.1} for task, sign in zip(TASKS, (1, -1), strict=True)}
        put(root / "store" / "scores" / folder / "scores.json", {"mean": {"n": 50, "loss": mean}, "tasks": tasks})
    stages = {"mixture": ("mixture", name), "diversity": ("diversity", name), "base scores": ("scores", "base"), "scores": ("scores", name)}
    put(run / "artifacts.json", {stage: f"store/{folder}/{key}" for stage, (folder, key) in stages.items()})
    put(
        run / ".hydra" / "config.yaml",
        yaml.safe_dump({"budget": budget, "seed": seed, "strategy": {"_target_": f"x.{strategy}"}, **(config or {})}),
    )
    row: dict[str, Any] = {"run": name, "strategy": strategy, "model": "tiny", "embedding": "minilm", **(names or {})}
    row |= {"budget": budget, "seed": seed, "select_seed": seed, "train_seed": seed}
    row |= {"n": n, "n_pool": 150, "tasks": sum(count > 0 for count in selected.values()), "tasks_in_pool": 3, "tokens": 60 * n}
    row |= {"loss_base": loss_base, "loss": loss, **{f"loss/{task}": loss for task in TASKS}}
    row |= {f"diversity_{key}": value for key, value in measured.items()}
    row |= {
        "made_in/mixture": 1.5,
        "made_in/adapter": 60.0,
        "score": loss,
        "commit": "0123456789abcdef",
        "uncommitted": None,
        "device": "cpu",
    }
    put(run / "result.json", row | more)
    return run
