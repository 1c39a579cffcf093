"""A launched training that writes down the rows of every step: `python -m tests.recorded_training FOLDER`, in
each of the processes."""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from transformers import Trainer

from smartdpp.finetune import trainer, worker

STEP = Trainer.training_step
STOP = "stop"  # a file in the folder: the step at which the training ends as if it were killed


def recorded(rows: dict[int, list[list[int]]], stop: int | None = None) -> Any:
    """``Trainer.training_step`` that adds the rows it sees, without their padding and without rows that have
    no labels, by step."""

    def step(self: Any, model: Any, inputs: Any, *rest: Any) -> Any:
        if self.state.global_step == stop:
            os._exit(1)
        for ids, mask, labels in zip(
            inputs["input_ids"], inputs["attention_mask"], inputs["labels"], strict=True
        ):
            if (labels != trainer.IGNORED).any():
                rows[self.state.global_step].append(ids[mask.bool()].tolist())
        return STEP(self, model, inputs, *rest)

    return step


def shard_on_processors() -> None:
    """accelerate shards over accelerators alone, so it is told that processors are some: the way a model is
    spread is the same."""
    from accelerate import DistributedType
    from accelerate.state import AcceleratorState, PartialState

    start = AcceleratorState.__init__

    def sharded(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        start(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.fsdp_plugin = fsdp_plugin
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = sharded


if __name__ == "__main__":
    out, rows = Path(sys.argv[1]), defaultdict(list)
    Trainer.training_step = recorded(rows, int((out / STOP).read_text()) if (out / STOP).is_file() else None)
    if json.loads((out / "job.json").read_text())["recipe"]["parallel"] == "fsdp":
        shard_on_processors()
    worker._worker(out)
    (out / f"rows-{os.environ['RANK']}.json").write_text(json.dumps(rows))
