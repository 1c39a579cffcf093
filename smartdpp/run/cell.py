"""One cell: its configuration, its components, and the artifacts that it names before they exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from smartdpp.config.identity import identity, slug
from smartdpp.config.schema import Parts
from smartdpp.evaluation.none import NoEvaluation
from smartdpp.finetune.recipe import Hyperparameters
from smartdpp.signals import stage as passes
from smartdpp.store import remote
from smartdpp.store.artifact import Artifact
from smartdpp.strategies.terms import Terms
from smartdpp.types import Recipe

# raised by hand when a stage's code changes what it writes
VERSION = {
    "corpus": 1,
    "warmup": 1,
    "embedding": 1,
    "signals": 2,
    "task_vectors": 2,
    "query": 1,
    "mixture": 1,
    "diversity": 2,
    "adapter": 2,
    "answers": 2,
    "scores": 3,
}


@dataclass(frozen=True)
class Round:
    """A round of choosing and training. There is one, unless the strategy asks for more; each goes on from
    the one before."""

    number: int  # from 1
    before: Round | None
    embedding: Artifact  # what it looks at
    mixture: Artifact  # with what the rounds before have chosen
    adapter: Artifact
    answers: Artifact | None = None  # of the rounds before, by the model that they left


@dataclass(frozen=True)
class Run:
    """One cell: its configuration, its components and where everything it makes will lie."""

    cfg: DictConfig
    parts: Parts
    names: dict[str, str]  # group -> chosen option

    @cached_property
    def what(self) -> dict[str, Any]:
        return identity(self.cfg, self.parts)

    @cached_property
    def slug(self) -> str:
        return slug(self.what, self.names)

    @cached_property
    def root(self) -> Path:
        """The folder of this machine that stands for ``root``."""
        return remote.folder(self.cfg.root)

    @property
    def path(self) -> Path:
        return self.root / "runs" / self.slug

    @property
    def done(self) -> bool:
        return remote.exists(self.path / "result.json")

    def artifact(self, stage: str, params: dict[str, Any], **inputs: Artifact) -> Artifact:
        """What ``stage`` (one in VERSION) leaves of these."""
        keys = {name: artifact.key for name, artifact in inputs.items()}
        return Artifact(self.root, stage, VERSION[stage], params, keys)

    @cached_property
    def corpus(self) -> Artifact:
        what, evaluation = self.what, self.parts.evaluation
        params = {
            "corpus": what["corpus"],
            "pool": what["pool"],
            "model": what["model"],
            "heldout": evaluation.split(),
            "files": what["files"],
        }
        return self.artifact("corpus", params)

    @cached_property
    def warmups(self) -> dict[str, Artifact]:
        """The training whose checkpoints an embedding reads, by the group ``embedding`` or ``probe``; none
        for one that reads none. The same where model, recipe and share are."""
        return {
            group: self.artifact(
                "warmup",
                {name: self.what[group][name] for name in ("model", "warmup")} | _mark(before.recipe, None),
                corpus=self.corpus,
            )
            for group in ("embedding", "probe")
            if (before := getattr(self.parts, group).warmup)
        }

    def _embedded(self, group: str, **trained: Artifact) -> Artifact:
        inputs = {"warmup": self.warmups[group]} if group in self.warmups else {}
        return self.artifact("embedding", self.what[group], corpus=self.corpus, **inputs, **trained)

    @property
    def embedding(self) -> Artifact:
        return self.rounds[0].embedding

    @cached_property
    def probe(self) -> Artifact:
        return self._embedded("probe")

    @cached_property
    def signals(self) -> dict[str, Artifact]:
        """The passes over the model that the quality reads, by name; shared with every other quality that
        reads them."""
        shared = {name: value for name, value in self.what["quality"].items() if name in passes.READ}
        return {
            name: self.artifact("signals", {"pass": name, **shared}, corpus=self.corpus)
            for name in self.parts.quality.passes
        }

    @cached_property
    def task_vectors(self) -> Artifact | None:
        """None where the tasks are seen by the means of their embedding."""
        if self.parts.task_vector.from_embedding:
            return None
        return self.artifact("task_vectors", self.what["task_vector"], corpus=self.corpus)

    @cached_property
    def query(self) -> Artifact | None:
        """None where the selection has no target."""
        if self.parts.strategy.query is None:
            return None
        params = {name: self.what[name] for name in ("embedding", "evaluation")} | {
            "query": self.what["strategy"]["query"]
        }
        inputs = {"warmup": self.warmups["embedding"]} if "embedding" in self.warmups else {}
        return self.artifact("query", params, corpus=self.corpus, **inputs)

    @cached_property
    def rounds(self) -> list[Round]:
        count, renew = self.parts.strategy.rounds, self.parts.strategy.renew
        chosen = {name: self.what[name] for name in ("strategy", "quality", "budget", "select_seed")}
        chosen |= {name: self.what[name] for name in Terms.__dataclass_fields__ if name in self.what}
        training = {name: self.what[name] for name in ("model", "recipe", "train_seed")}
        training |= _mark(self.parts.recipe, self._trained)
        shared = {"corpus": self.corpus, **self.signals}
        shared |= {
            name: found
            for name, found in (("task_vectors", self.task_vectors), ("query", self.query))
            if found
        }
        rounds: list[Round] = []
        for number in range(1, count + 1):
            before = rounds[-1] if rounds else None
            trained = {"adapter": before.adapter} if before and renew else {}
            embedding = self._embedded("embedding", **trained)
            answers = self._answers(before) if before and self.parts.strategy.answers else None
            mixture = self.artifact(
                "mixture",
                chosen | ({"round": number} if count > 1 else {}),
                embedding=embedding,
                **shared,
                **({"before": before.mixture} if before else {}),
                **({"answers": answers} if answers else {}),
            )
            adapter = self.artifact(
                "adapter", training, mixture=mixture, **({"start": before.adapter} if before else {})
            )
            rounds.append(Round(number, before, embedding, mixture, adapter, answers))
        return rounds

    def _answers(self, before: Round) -> Artifact:
        strategy: Any = self.parts.strategy
        rewarded = self.signals.get("reward")
        return self.artifact(
            "answers",
            {"max_new_tokens": strategy.max_new_tokens, "reward": rewarded and rewarded.params},
            adapter=before.adapter,
            mixture=before.mixture,
        )

    @property
    def _trained(self) -> int | None:
        """Rows of its only training, where the configuration alone says how many."""
        terms, budget = self.terms, self.what["budget"]  # which is None where the strategy looks at none
        told = self.parts.strategy.rounds == 1 and terms.budget_tokens is None and not terms.start_include
        return budget if told else None

    @property
    def mixture(self) -> Artifact:
        return self.rounds[-1].mixture

    @cached_property
    def diversity(self) -> Artifact:
        return self.artifact("diversity", self.what["diversity"], mixture=self.mixture, probe=self.probe)

    @property
    def adapter(self) -> Artifact:
        return self.rounds[-1].adapter

    @cached_property
    def base(self) -> Artifact:
        return self._scores()

    @cached_property
    def scores(self) -> Artifact:
        return self._scores(adapter=self.adapter) if self.trains else self.base

    def _scores(self, **adapter: Artifact) -> Artifact:
        return self.artifact(
            "scores",
            {name: self.what[name] for name in ("model", "evaluation")},
            corpus=self.corpus,
            **adapter,
        )

    @cached_property
    def terms(self) -> Terms:
        """What is asked of the mixture, of which some strategies look at nothing."""
        return self.parts.terms.of_strategy(self.parts.strategy)

    @property
    def budget(self) -> int:
        """In examples; under a budget in tokens the most there can be, and of a corpus that is not there, the
        tokens."""
        tokens = self.terms.budget_tokens
        if tokens is None or not self.corpus.finished:
            return tokens or self.cfg.budget or 0  # 0 where the strategy looks at none
        return self.terms.rows(tokens, self.costs)

    @cached_property
    def costs(self) -> np.ndarray:
        """int64[n], the tokens of each row of a pool that is there."""
        return run_rows(self, columns=["n_tokens"])["n_tokens"].to_numpy().astype(np.int64)

    @property
    def trains(self) -> bool:
        """False for `none`: its scores are the base model's."""
        return self.parts.strategy.size(1, 1) > 0

    @property
    def evaluates(self) -> bool:
        """False for `evaluation=none`, which has no scores."""
        return not isinstance(self.parts.evaluation, NoEvaluation)


def _mark(recipe: Recipe, rows: int | None) -> dict[str, str]:
    return recipe.mark(rows) if isinstance(recipe, Hyperparameters) else {}


def run_rows(
    run: Run, part: str = "data", columns: list[str] | None = None, without: Sequence[str] = ()
) -> Any:
    """The pool (``data``) or the held-out rows (``heldout``): pyarrow table, of these columns or all but
    some."""
    from smartdpp.corpus.build import read

    return read(run.corpus.file(f"{part}.parquet"), columns, without)
