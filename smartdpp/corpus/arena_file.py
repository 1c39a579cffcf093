"""Pools of which it is known what is worth choosing, of a file's rows: see `smartdpp.corpus.worlds`.

A seed draws which of a task's rows are its documents and which are in the pool, so that worlds have rows in
common: an interval over seeds covers another draw of these rows, and no other rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smartdpp.corpus.jsonl import Jsonl
from smartdpp.corpus.worlds import World, plain
from smartdpp.errors import InputError, did_you_mean
from smartdpp.types import Row


@dataclass(frozen=True, kw_only=True)
class ArenaFile(World):
    """A world of rows of ``path``, which is read as `smartdpp.corpus.jsonl.Jsonl` does with these ``columns``
    and ``constants``; ``target`` and ``others`` are tasks of it.

    Of a task, rows whose prompts have the same words count once. InputError for a task that has fewer of them
    than the world asks for, and for conversations, whose responses cannot be exchanged.
    """

    path: str | list[str]
    columns: dict[str, str | list[str]] | None = None
    constants: dict[str, str] | None = None

    def check(self) -> list[str]:
        return self._file.check()

    def fingerprint(self) -> str:
        return self._file.fingerprint()

    def drawn(self, sizes: dict[str, int]) -> tuple[list[Row], list[Row]]:
        of_task = self._distinct({*self.target, *sizes})
        aside = {task: of_task[task][: self.documents] for task in self.target}
        documents = [row for task in self.target for row in aside[task]]
        asked = {plain(row["prompt"]) for row in documents}
        pool = []
        for task, size in sizes.items():
            rows = [row for row in of_task[task] if plain(row["prompt"]) not in asked]
            if len(rows) < size:
                beside = f" beside {self.documents} documents" if task in aside else ""
                raise InputError(
                    f"corpus: {size} rows of {task!r} are asked for{beside}, and corpus.path has "
                    f"{len(rows) + len(aside.get(task, []))} whose prompts differ; lower corpus.per_target, "
                    "per_other, documents or largest"
                )
            pool += rows[:size]
        return documents, pool

    def _distinct(self, tasks: set[str]) -> dict[str, list[Row]]:
        """By task, its rows of different prompts, in an order that the seed draws."""
        found: dict[str, dict[str, Row]] = {task: {} for task in sorted(tasks)}
        seen = set()
        for row in self._file.rows():
            seen.add(row["task"])
            if row["task"] not in tasks:
                continue
            if row.get("messages") is not None:
                raise InputError(
                    f"corpus.path: {row['id']} is a conversation, of which nothing can be exchanged; "
                    "corpus=arena_file takes rows with a prompt and a response"
                )
            found[row["task"]].setdefault(plain(row["prompt"]), row)
        for task in sorted(found.keys() - seen):
            names = sorted(seen, key=lambda name: (task not in name, name))
            hint = did_you_mean(task, names, f"of its {len(seen)} tasks are {', '.join(names[:5])}", most=3)
            raise InputError(
                f"corpus.target, corpus.others: no row of corpus.path has the task {task!r}; {hint}"
            )
        rngs = (np.random.default_rng([self.seed, 1, i]) for i in range(len(found)))
        return {
            task: [rows[i] for i in rng.permutation(len(rows)).tolist()]
            for rng, (task, by_prompt) in zip(rngs, found.items(), strict=True)
            for rows in [list(by_prompt.values())]
        }

    @property
    def _file(self) -> Jsonl:
        return Jsonl(self.path, self.columns, self.constants)
