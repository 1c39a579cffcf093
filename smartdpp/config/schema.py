"""The configuration's schema: its groups, its top level, and the components that it makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from smartdpp.corpus.build import Limits
from smartdpp.errors import InputError
from smartdpp.strategies.terms import Terms
from smartdpp.types import (
    Corpus,
    Embedding,
    Evaluation,
    Measure,
    Model,
    Quality,
    Recipe,
    Runtime,
    Strategy,
    TaskVector,
    Tracker,
)

UNTIL = ("plan", "corpus", "embedding", "mixture", "adapter", "scores", "end")


GROUPS = (
    "corpus",
    "embedding",
    "probe",
    "quality",
    "task_vector",
    "strategy",
    "model",
    "recipe",
    "evaluation",
    "diversity",
    "tracker",
)


COMPONENTS = (*GROUPS, "runtime")  # all that are made from the configuration


# parameters that may say where files lie; ~ is a home there
PATHS = ("path", "include_path", "data_dir", "model", "adapter", "root")


REPORT = ("title", "baseline", "given", "noise", "question", "quote", "paper")  # smartdpp.study.cells.Wanted


HOW = ("runtime", "tracker", "until", "root", "size", "sizes", "price", "report")  # how it is run


@dataclass
class Config:
    """Top level of the configuration. The groups' contents are checked against their ``_target_``'s
    signature."""

    corpus: dict[str, Any] = MISSING
    embedding: dict[str, Any] = MISSING
    probe: dict[str, Any] = MISSING
    quality: dict[str, Any] = MISSING
    task_vector: dict[str, Any] = MISSING
    strategy: dict[str, Any] = MISSING
    model: dict[str, Any] = MISSING
    recipe: dict[str, Any] = MISSING
    evaluation: dict[str, Any] = MISSING
    diversity: dict[str, Any] = MISSING
    tracker: dict[str, Any] = MISSING
    runtime: dict[str, Any] = MISSING
    budget: int | None = MISSING
    budget_tokens: int | None = None
    tokens_by: str = "gain"
    weights: Any = None
    max_share: float | None = None
    repeat: Any = 1
    start: Any = None
    start_include: bool = False
    seed: int = MISSING
    select_seed: int = MISSING
    train_seed: int = MISSING
    pool: dict[str, Any] = field(default_factory=dict)
    until: str = "end"
    root: str = "."
    size: str | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    price: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """The instantiated components of one configuration."""

    corpus: Corpus
    embedding: Embedding
    quality: Quality
    task_vector: TaskVector
    strategy: Strategy
    model: Model
    recipe: Recipe
    evaluation: Evaluation
    diversity: Measure
    tracker: Tracker
    runtime: Runtime
    probe: Embedding  # what diversity is measured in: the same whatever the strategy looks at
    limits: Limits
    terms: Terms


@dataclass(frozen=True)
class Price:
    """What a plan reckons with. None: not stated, so the plan does not say."""

    tokens_per_example: float | None = None  # prompt and response, where the corpus has not been read yet
    tokens_per_second: float | None = None  # read in training by one device

    def __post_init__(self) -> None:
        for name, value in (
            ("tokens_per_example", self.tokens_per_example),
            ("tokens_per_second", self.tokens_per_second),
        ):
            if value is not None and not value > 0:
                raise InputError(
                    f"price.{name} is {value}: it must be above 0, or null where it is not known."
                )
