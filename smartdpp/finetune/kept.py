"""Checkpoints that a training keeps, for what reads a model as it learns: see smartdpp.models.checkpoints.

Each is written before the checkpoint that the same step leaves for going on after a kill, so that whoever
goes on from that one finds all those before it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smartdpp.finetune.recipe import Hyperparameters
from smartdpp.finetune.steps import peak_share
from smartdpp.models.checkpoints import FACTS, MOMENTS, folder
from smartdpp.store import disk


def keeping(recipe: Hyperparameters, trainer: Any, kept: Sequence[int], out: Path) -> Any:
    """A callback of the trainer that leaves in ``out``, after each of these steps, the weights, the mean
    learning rate since the one before, and Adam's moments of an adapter's weights."""
    from transformers import TrainerCallback

    class Keeping(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in kept and state.is_world_process_zero:
                rate = _mean_rate(recipe, kept, state.global_step, state.max_steps)
                facts = {"step": state.global_step, "steps": state.max_steps, "learning_rate": rate}
                _leave(recipe, trainer, facts, folder(out, state.global_step))

    return Keeping()


def _mean_rate(recipe: Hyperparameters, kept: Sequence[int], step: int, steps: int) -> float:
    first = max((each for each in kept if each < step), default=0)
    shares = [peak_share(recipe.scheduler, recipe.warmup, steps, t) for t in range(first, step)]
    return recipe.learning_rate * sum(shares) / len(shares)


def _leave(recipe: Hyperparameters, trainer: Any, facts: dict[str, Any], to: Path) -> None:
    from safetensors.torch import save_file

    draft = to.with_name(f".{to.name}")
    for old in (draft, to):
        shutil.rmtree(old, ignore_errors=True)
    trainer.model.save_pretrained(draft, safe_serialization=True)
    if recipe.method != "full":
        state = trainer.optimizer.state
        weights = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        moments = {
            f"{name}/{letter}": state[p][key].detach().float().cpu().contiguous()
            for name, p in weights.items()
            for letter, key in (("m", "exp_avg"), ("v", "exp_avg_sq"))
        }
        save_file(moments, draft / MOMENTS)
    (draft / FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")
    disk.close_folder(draft, hashes=False)
    disk.rename(draft, to)


def lost(out: Path, kept: Sequence[int]) -> str | None:
    """Which of the checkpoints of these steps is no longer what was written, in words."""
    for step in kept:
        if damage := disk.damage(folder(out, step)):
            return f"{folder(out, step).name} beside it: {damage}"
    return None


def close(kept: Sequence[int], out: Path) -> None:
    """The training is over: what its checkpoints hold is recorded with all else that it left."""
    for step in kept:
        (folder(out, step) / disk.META).unlink()
