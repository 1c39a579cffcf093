"""A pilot's runs: ordinary ones, made by the pipeline one after another, found again by a second call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from smartdpp.run.alone import prepared
from smartdpp.run.pipeline import execute

RANDOM = "random"
WAYS: dict[str, tuple[str, ...]] = {
    RANDOM: ("strategy=random",),
    "towards the target": ("strategy=targeted", "strategy.function=round_robin"),
    "diverse": ("strategy=dpp",),
    "fitting answers": ("strategy=filtered", "strategy.share=0.5", "quality=pmi"),
}
"""What is tried: chance, and three ideas: nearness to the target, diversity, and answers that their prompts
explain, chosen evenly. The last has the model read the pool twice, the second time without the prompts."""
NAMES = {way.split()[0]: way for way in WAYS if way != RANDOM}
"""As they are asked for: by their first words."""
BOUND = "nearest rows"
BOUNDS: dict[str, tuple[str, ...]] = {BOUND: ("strategy=decile", "strategy.decile=1")}
"""Beside them, no way to choose: the rows nearest to the target, and nothing but those. It tells about what
nearness has to give there, and is not judged."""
QUERIED = ("strategy=targeted", "strategy=decile")


@dataclass(frozen=True)
class Asked:
    pool: str  # a path, quoted as Hydra reads it
    target: str  # the same
    budget: int
    documents: int  # of each of the target's tasks, scored
    query: int  # of each, known to the ways that choose towards it
    root: Path
    overrides: tuple[str, ...] = ()

    def of(self, way: str, seed: int) -> list[str]:
        return [
            "corpus=jsonl",
            f"corpus.path={self.pool}",
            "evaluation=indomain_file",
            f"evaluation.path={self.target}",
            f"evaluation.limit={self.documents}",
            "evaluation.generate=false",
            "tracker=none",
            "diversity=none",
            f"budget={self.budget}",
            f"seed={seed}",
            f"root={json.dumps(str(self.root), ensure_ascii=False)}",
            *(options := (WAYS | BOUNDS)[way]),
            *([f"strategy.query.per_task={self.query}"] if options[0] in QUERIED else []),
            *self.overrides,
        ]


def made(asked: Asked, way: str, seed: int) -> Path:
    """The run's folder, finished. InputError for what cannot start, before any work."""
    run = prepared(asked.of(way, seed))
    execute(run)
    return run.path
