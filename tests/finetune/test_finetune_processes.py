"""A training in two processes, over gloo: the steps of one process, whatever divides what; also where the
weights are sharded."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file
from transformers import Trainer

from smartdpp.errors import InputError
from smartdpp.finetune import Finetune, worker
from smartdpp.models import Tiny
from smartdpp.runtime.processes import launch
from tests.recorded_training import STOP, recorded

pytestmark = pytest.mark.usefixtures("forked_launch")
# 17 rows, of which neither the batches of 8 nor the micro-batches of 3 (6 and 4) make a whole number: the
# last step has one row (five)
ROWS = pa.table(
    {
        "prompt": [f"What is {'very ' * (i % 4)}{i} plus {i}?" for i in range(17)],
        "response": ["the sum is " * (i % 3) + str(2 * i) for i in range(17)],
    }
)


def trained(
    recipe: Finetune, out: Path, patch: pytest.MonkeyPatch, killed_at: int | None = None
) -> tuple[list[float], list[list[list[int]]], dict[str, np.ndarray]]:
    """The loss and the rows (sorted token ids; where killed, those since) of every step, and the weights."""
    out.mkdir()
    here: dict[int, list[list[int]]] = defaultdict(list)
    if recipe.processes == 1:
        with patch.context() as step:
            step.setattr(Trainer, "training_step", recorded(here))
            recipe.train(Tiny(), ROWS, out, seed=0)
        seen: list[Any] = [here]
    else:
        patch.setattr(
            worker, "launch", lambda _, out, processes: launch("tests.recorded_training", out, processes)
        )
        if killed_at is not None:
            (out / STOP).write_text(str(killed_at))
            with pytest.raises(RuntimeError, match="exit status"):
                recipe.train(Tiny(), ROWS, out, seed=0)
            (out / STOP).unlink()
        recipe.train(Tiny(), ROWS, out, seed=0)
        seen = [json.loads((out / f"rows-{rank}.json").read_text()) for rank in range(recipe.processes)]
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    rows = [
        sorted(row for part in seen for row in part.get(str(step), part.get(step, [])))
        for step in range(len(losses))
    ]
    assert not list(out.glob("*.bin"))
    (file,) = out.glob("*.safetensors")
    return losses, rows, load_file(file)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 8, "micro_batch_size": 3, "group_by_length": True, "epochs": 2.0},
        {"batch_size": 6, "micro_batch_size": 4, "group_by_length": False, "loss": "example"},
    ],
    ids=["token loss, grouped by length, two epochs", "example loss, random order"],
)
def test_two_processes_take_the_steps_of_one(
    options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trained(Finetune(**options), tmp_path / "one", monkeypatch)
    two = trained(Finetune(processes=2, **options), tmp_path / "two", monkeypatch)
    assert (
        [len(rows) for rows in one[1]] == ([8, 8, 1] * 2)[: len(one[1])]
        if options["batch_size"] == 8
        else [6, 6, 5]
    )
    assert one[1] == two[1]
    assert one[0] == pytest.approx(two[0], rel=1e-5)
    assert one[2].keys() == two[2].keys()
    assert max(float(abs(one[2][name] - two[2][name]).max()) for name in one[2]) < 1e-4


def test_sharded_weights_take_the_same_steps_and_leave_the_same_files_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "method": "full",
        "batch_size": 8,
        "micro_batch_size": 3,
        "save_steps": 1,
        "gradient_checkpointing": True,
    }
    one = trained(Finetune(**options), tmp_path / "one", monkeypatch)
    two = trained(
        Finetune(processes=2, parallel="fsdp", **options), tmp_path / "two", monkeypatch, killed_at=1
    )
    assert one[1][1:] == two[1][1:]
    assert one[0] == pytest.approx(two[0], rel=1e-5)
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        p.name for p in (tmp_path / "two").iterdir() if "rows" not in p.name
    }
    assert (tmp_path / "one" / "config.json").read_text() == (tmp_path / "two" / "config.json").read_text()
    assert {name: value.dtype for name, value in one[2].items()} == {
        name: value.dtype for name, value in two[2].items()
    }
    assert max(float(abs(one[2][name] - two[2][name]).max()) for name in one[2]) < 1e-4


def test_sharding_is_refused_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    (refused,) = Finetune(method="full", processes=2, parallel="fsdp").check()
    assert "needs a CUDA device for each of its 2 processes and this machine has 1" in refused
    with pytest.raises(InputError, match="method=full and processes=N"):
        Finetune(processes=2, parallel="fsdp")
    with pytest.raises(InputError, match="method=full and processes=N"):
        Finetune(method="full", parallel="fsdp")
