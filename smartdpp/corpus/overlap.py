"""Which prompts of the pool share text with held-out prompts: n-gram overlap that lists the shared text itself.

Prompts are compared as lower-case alphanumeric words, in windows of n words (a prompt shorter than that is one window, so it matches only
an equally short prompt with the same words). Corpora made from templates share wording that gives nothing away, so counts alone mislead:
windows that occur in more than half of a held-out task's documents are its *boilerplate*, and a shared stretch with fewer than n/2 words
outside them is reported as boilerplate, not as a leak. Languages written without spaces give long words, and so few windows.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from smartdpp.types import Row

Window = tuple[str, ...]


class Match(NamedTuple):
    """A stretch of a pool prompt all of whose windows occur in one held-out document, or in the boilerplate of one held-out task."""

    heldout_id: str | None  # None: the task's boilerplate
    heldout_task: str
    text: str  # the stretch's words, normalised
    boilerplate: bool


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def windows(tokens: list[str], n: int) -> list[Window]:
    """Every run of n words; all the words if there are fewer."""
    if len(tokens) < n:
        return [tuple(tokens)] if tokens else []
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


class HeldoutIndex:
    """Windows of the held-out documents. Memory grows with the held-out text (about 0.3 kB a word), not with the pool."""

    def __init__(self, documents: Iterable[Row], n: int) -> None:
        self.n = n
        self.ids: list[str] = []
        self.tasks: list[str] = []
        self._documents: dict[Window, list[int]] = defaultdict(list)
        self._boilerplate: dict[Window, list[str]] = defaultdict(list)
        for document in documents:
            for window in dict.fromkeys(windows(words(document["prompt"]), n)):
                self._documents[window].append(len(self.ids))
            self.ids.append(document["id"])
            self.tasks.append(document["task"])

        size = Counter(self.tasks)
        for window, found in self._documents.items():
            if len(found) < 3:  # what two documents share is a repetition, not a template
                continue
            common = [task for task, count in Counter(self.tasks[d] for d in found).items() if count >= 3 and 2 * count > size[task]]
            if common:
                self._boilerplate[window] = common
                self._documents[window] = [d for d in found if self.tasks[d] not in common]

    def __len__(self) -> int:
        return len(self.ids)

    def matches(self, prompt: str) -> list[Match]:
        """At most one match per held-out document, in the documents' order, then at most one per held-out task's boilerplate."""
        tokens = words(prompt)
        shared = windows(tokens, self.n)
        if self._documents.keys().isdisjoint(shared):
            return []
        in_document: dict[int, list[int]] = defaultdict(list)
        in_boilerplate: dict[str, list[int]] = defaultdict(list)
        for start, window in enumerate(shared):
            for d in self._documents.get(window, ()):
                in_document[d].append(start)
            for task in self._boilerplate.get(window, ()):
                in_boilerplate[task].append(start)

        leaks = []
        for d in sorted(in_document):
            task = self.tasks[d]
            common = {word for start in in_boilerplate.get(task, ()) for word in range(start, start + self.n)}
            begin, end = self._longest(in_document[d], common, len(tokens))
            own = sum(word not in common for word in range(begin, end))
            if 2 * own >= min(self.n, end - begin):
                leaks.append(Match(self.ids[d], task, " ".join(tokens[begin:end]), False))
        templates = []
        for task, starts in sorted(in_boilerplate.items()):
            begin, end = self._longest(starts, set(), len(tokens))
            templates.append(Match(None, task, " ".join(tokens[begin:end]), True))
        return leaks + templates

    def _longest(self, starts: list[int], common: set[int], length: int) -> tuple[int, int]:
        """Of the stretches that runs of consecutive windows cover, the one with most words outside ``common`` (the first of equals)."""
        stretches = []
        begin = previous = starts[0]
        for start in [*starts[1:], length + self.n]:
            if start != previous + 1:
                stretches.append((begin, min(previous + self.n, length)))
                begin = start
            previous = start
        return max(stretches, key=lambda stretch: sum(word not in common for word in range(*stretch)))
