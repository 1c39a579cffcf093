"""The same training in several processes: what they are handed, and what each of them runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from smartdpp.runtime.processes import as_config, launch, refusals
from smartdpp.store.disk import write_json
from smartdpp.types import Keep, Model, TrainingFacts

if TYPE_CHECKING:
    import pyarrow as pa
from smartdpp.finetune.recipe import Hyperparameters
from smartdpp.finetune.trainer import train


def launched(
    recipe: Hyperparameters,
    model: Model,
    rows: pa.Table,
    out: Path,
    seed: int,
    start: Path | None,
    keep: Keep = None,
) -> TrainingFacts:
    import pyarrow.parquet as pq

    pq.write_table(rows, out / "rows.parquet")
    write_json(
        out / "job.json",
        {
            "recipe": asdict(recipe),
            "model": as_config(model),
            "seed": seed,
            "start": start and str(start),
            "keep": keep,
        },
    )
    launch("smartdpp.finetune.worker", out, recipe.processes)
    facts: TrainingFacts = json.loads((out / "facts.json").read_text())
    for name in ("rows.parquet", "job.json", "facts.json"):
        (out / name).unlink()
    return facts


def _worker(out: Path) -> None:
    """What every process of `accelerate launch` runs."""
    import pyarrow.parquet as pq
    from hydra.utils import instantiate

    job = json.loads((out / "job.json").read_text())
    start = Path(job["start"]) if job["start"] else None
    with refusals(out):
        facts = train(
            Hyperparameters(**job["recipe"]),
            instantiate(job["model"]),
            pq.read_table(out / "rows.parquet"),
            out,
            job["seed"],
            start,
            job["keep"],
        )
    from accelerate import PartialState

    if PartialState().is_main_process:
        write_json(out / "facts.json", facts)


if __name__ == "__main__":
    _worker(Path(sys.argv[1]))
