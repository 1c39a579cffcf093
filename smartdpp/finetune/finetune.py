"""The recipe as a component of a run: training in this process, or in several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smartdpp.finetune.recipe import Hyperparameters
from smartdpp.finetune.trainer import train
from smartdpp.finetune.worker import launched
from smartdpp.types import Keep, Model, TrainingFacts

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Finetune(Hyperparameters):
    """Trains by LoRA, QLoRA or all weights, see smartdpp.finetune.trainer; its parameters are those of
    `Hyperparameters`."""

    def train(
        self,
        model: Model,
        rows: pa.Table,
        out: Path,
        seed: int,
        start: Path | None = None,
        keep: Keep = None,
    ) -> TrainingFacts:
        """Leaves safetensors and the tokenizer in ``out`` with ``log.jsonl`` (one line per optimiser step).
        Returns facts.

        ``start`` is a folder that an earlier training left: its weights are where this one begins, the
        optimiser begins anew. ``keep`` leaves checkpoints too, at the end of every epoch or after so many
        steps: see smartdpp.finetune.kept.
        """
        if self.processes == 1:
            return train(self, model, rows, out, seed, start, keep)
        return launched(self, model, rows, out, seed, start, keep)
