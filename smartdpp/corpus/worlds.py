"""Pools of which it is known what is worth choosing: for studies of selection in which the truth is at hand.

A few tasks are the target. Some of their rows, its documents, become tasks of their own, ``target/<task>``,
which evaluation=ability takes out of the pool by name. What stands between a selection and the target is
made on purpose: rows of other tasks (a needle in a haystack), responses that belong to other rows (noise),
tasks of very unequal size (skew), and rewordings of the same row (copies). Each row's ``score`` says whether
it is worth choosing, TRUE or FALSE; `smartdpp.strategies.oracle` alone reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.types import Row

DOCUMENTS = "target/"  # before a family's name: the task of its documents
TRUE, FALSE = 1.0, 0.01  # positive, as a quality has to be
APART = 1_000  # from a seed of the pool to that of its documents

# One row's wordings, itself first: what a collection gathers that crawled the same text again and again.
WORDINGS = (
    "{}", "Question: {}", "{}\nAnswer:", "Please answer. {}", "Task: {}", "Here is a question. {}",
    "{}\nGive only the answer.", "Solve this: {}", "{} Reply with the answer.", "Consider the following. {}",
    "Q: {}", "Exercise: {}", "{}\nWhat is the answer?", "Think and answer: {}", "Problem: {}",
    "Read carefully. {}", "{}\nThe answer is:", "I need help. {}", "Answer briefly: {}", "{}\nThank you.",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class World:
    """``documents`` of each task of ``target``, and a pool.

    The pool has ``per_target`` rows of each target task and ``per_other`` of each task of ``others``.
    With ``largest`` the target tasks' sizes follow Zipf's law in place of that, the first one, which the
    seed draws, having this share of all their rows and each at least ``least``. ``mismatched`` is the share
    of the pool's rows whose response is another row's: of the whole pool, or with ``mismatch=family`` of the
    same task, where it still looks right. ``copied`` is the share of rows that are there in all WORDINGS.
    """

    target: list[str]
    others: list[str] = field(default_factory=list)
    documents: int = 48
    per_target: int = 10
    per_other: int = 100
    largest: float | None = None
    least: int = 4
    mismatched: float = 0.0
    mismatch: Literal["pool", "family"] = "pool"
    copied: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.target or set(self.target) & set(self.others):
            raise InputError(
                "corpus.target names one or more tasks, none of which is in corpus.others; found "
                f"{list(self.target)} and {list(self.others)}"
            )
        for name, low in (("documents", 1), ("per_target", 1), ("per_other", 1), ("least", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise InputError(f"corpus.{name} is {getattr(self, name)}: choose {low} or more")
        for name in ("mismatched", "copied"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"corpus.{name} is {getattr(self, name)}: choose a share from 0 to 1")
        if self.largest is not None and not 1 / len(self.target) <= self.largest < 1:
            raise InputError(
                f"corpus.largest is {self.largest}: choose a share from {1 / len(self.target):.3g}, where "
                f"all {len(self.target)} tasks are of one size, to below 1; or null"
            )
        if self.seed >= APART:
            raise InputError(f"corpus.seed is {self.seed}: choose below {APART}")

    def drawn(self, sizes: dict[str, int]) -> tuple[list[Row], list[Row]]:
        """``documents`` rows of each task of ``target`` in its order, and ``sizes`` rows of each task for the
        pool, in the order of ``sizes``. No two rows of one task have a prompt of the same words (see
        `plain`), and no row of the pool has a document's."""
        raise NotImplementedError

    def rows(self) -> Iterator[Row]:
        rng = np.random.default_rng([self.seed, 0])
        documents, pool = self.drawn(self.sizes(rng))
        for row in documents:
            yield row | {"id": f"{DOCUMENTS}{row['id']}", "task": f"{DOCUMENTS}{row['task']}", "score": TRUE}
        target = set(self.target)
        pool = [row | {"score": TRUE if row["task"] in target else FALSE} for row in pool]
        yield from self._copied(self._mismatched(pool, rng), rng)

    def sizes(self, rng: np.random.Generator) -> dict[str, int]:
        """How many rows of the pool each task has, before copies."""
        others = dict.fromkeys(self.others, self.per_other)
        if self.largest is None:
            return dict.fromkeys(self.target, self.per_target) | others
        n = self.per_target * len(self.target)
        rest = 1 / np.arange(1, len(self.target))
        sizes = np.append(self.largest, (1 - self.largest) * rest / rest.sum())[: len(self.target)] * n
        sizes = np.maximum(np.round(sizes).astype(int), self.least)
        return dict(zip(rng.permutation(self.target).tolist(), sizes.tolist(), strict=True)) | others

    def _mismatched(self, rows: list[Row], rng: np.random.Generator) -> list[Row]:
        """``rows`` of which a share have changed responses among themselves: a cycle through those drawn, so
        that none keeps its own by chance but where two answers are equal."""
        drawn = rng.permutation(len(rows))[: round(self.mismatched * len(rows))]
        groups: dict[str, list[int]] = {}
        for i in drawn.tolist():
            groups.setdefault(rows[i]["task"] if self.mismatch == "family" else "", []).append(i)
        rows = list(rows)
        taken = {i: rows[i] for i in drawn.tolist()}
        for group in groups.values():
            for i, j in zip(group, group[1:] + group[:1], strict=True):
                if taken[i]["response"] != taken[j]["response"]:
                    rows[i] = taken[i] | {"response": taken[j]["response"], "answer": None, "choices": None}
                    rows[i]["score"] = FALSE
        return rows

    def _copied(self, rows: list[Row], rng: np.random.Generator) -> Iterator[Row]:
        """Each row, and behind those that are drawn their rewordings, which are no more worth choosing."""
        drawn = set(rng.permutation(len(rows))[: round(self.copied * len(rows))].tolist())
        for i, row in enumerate(rows):
            for number, wording in enumerate(WORDINGS if i in drawn else WORDINGS[:1]):
                own = {"id": f"{row['id']}-{number}", "score": FALSE} if number else {}
                yield row | {"prompt": wording.format(row["prompt"])} | own


def plain(text: str) -> str:
    """By which two prompts are equal: their words, and their case, which some families ask about."""
    return " ".join(text.split())
