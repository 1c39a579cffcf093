"""A stage: its name, its artifact, and all that is done and said of it. Which a run has, and in which order,
is in smartdpp.run.stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from smartdpp.config.schema import UNTIL
from smartdpp.runtime import threads
from smartdpp.runtime.device import in_one_precision
from smartdpp.runtime.memory import Need
from smartdpp.store.artifact import Artifact
from smartdpp.store.same import once

Facts = dict[str, Any]
"""What meta.json keeps of a finished stage; JSON."""


@dataclass(frozen=True)
class Same:
    """How work is known that was done before under another configuration, whose key is another."""

    content: Callable[[], str]  # stands for all that decides what the artifact holds
    what: str  # such work, in words


@dataclass(frozen=True)
class Stage:
    """One step of a run. Nothing is done before ``make``; ``plan`` and ``memory`` may look at what is
    finished."""

    name: str  # as the terminal shows it and artifacts.json lists it
    until: str  # the value of until= that asks for it
    artifact: Artifact
    build: Callable[[Path], Facts]  # leaves the files in a folder
    describe: Callable[[Facts], str]  # what it did, in one line, and whatever was dropped
    plan: Callable[[], str]  # what it would do, in one line
    # its stated peak; None: nobody states one, or not before the corpus is there
    memory: Callable[[], Need | None] = lambda: None
    same: Same | None = None
    asks: Callable[[], str] = lambda: ""  # what it would cost beside this machine's own work, in words

    def wanted(self, until: str) -> bool:
        """Whether a run that ends with ``until`` makes it."""
        return UNTIL.index(self.until) <= UNTIL.index(until)

    def make(self) -> bool:
        """Makes the artifact, where it is missing; returns whether it was there."""
        build = partial(threads.working, partial(in_one_precision, self.build))
        return once(self.artifact, self.same.content, build) if self.same else self.artifact.produce(build)
