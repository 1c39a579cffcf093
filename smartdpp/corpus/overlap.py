"""Which prompts of the pool share text with held-out prompts: n-gram overlap that lists the shared text
itself.

Prompts are compared as lower-case alphanumeric words, in windows of n words (a prompt shorter than that is
one window, so it matches only an equally short prompt with the same words). Corpora made from templates share
wording that gives nothing away, so counts alone mislead: windows that occur in more than half of a held-out
task's documents are its *boilerplate*, and a shared stretch with fewer than n/2 words outside them is
reported as boilerplate, not as a leak. Languages written without spaces give long words, and so few windows.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from smartdpp.types import Row

Window = tuple[str, ...]

HALF, TWENTIETH = 2, 20  # of a held-out task's documents; of all rows of a task that stays in the pool


class Match(NamedTuple):
    """A stretch of a pool prompt all of whose windows occur in one held-out document, or in the boilerplate
    of one held-out task."""

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


def plain(text: str) -> str:
    """Equal for texts that differ in case and blanks alone."""
    return " ".join(text.lower().split())


class HeldoutIndex:
    """Windows of the held-out documents. Memory grows with the held-out text (about 0.3 kB a word), not with
    the pool.

    Where the documents are a few rows of larger tasks, ``whole`` has all rows of those: what more than a
    twentieth of a task's rows say is its boilerplate then, as a task may be worded in several ways, each too
    rare to be seen in most of a few documents.
    """

    def __init__(self, documents: Iterable[Row], n: int, whole: Iterable[Row] | None = None) -> None:
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

        size, counts, share = (
            (*self._counts(), HALF) if whole is None else (*self._counts_in(whole), TWENTIETH)
        )
        for window, by_task in counts:  # what two rows share is a repetition, not a template
            common = [task for task, count in by_task.items() if count >= 3 and share * count > size[task]]
            if common:
                self._boilerplate[window] = common
                self._documents[window] = [d for d in self._documents[window] if self.tasks[d] not in common]

    def _counts(self) -> tuple[Counter[str], Iterator[tuple[Window, Counter[str]]]]:
        """Documents of each task, and of each task with a window."""
        many = ((window, found) for window, found in self._documents.items() if len(found) >= 3)
        return Counter(self.tasks), (
            (window, Counter(self.tasks[d] for d in found)) for window, found in many
        )

    def _counts_in(self, rows: Iterable[Row]) -> tuple[Counter[str], Iterator[tuple[Window, Counter[str]]]]:
        """The same of all ``rows``, for the windows of a task's own documents."""
        size: Counter[str] = Counter()
        counts = {
            window: Counter(dict.fromkeys((self.tasks[d] for d in found), 0))
            for window, found in self._documents.items()
        }
        for row in rows:
            size[row["task"]] += 1
            for window in set(windows(words(row["prompt"]), self.n)):
                if row["task"] in counts.get(window, ()):
                    counts[window][row["task"]] += 1
        return size, iter(counts.items())

    def __len__(self) -> int:
        return len(self.ids)

    def matches(self, prompt: str) -> list[Match]:
        """At most one match per held-out document, in the documents' order, then at most one per held-out
        task's boilerplate."""
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
        """Of the stretches that runs of consecutive windows cover, the one with most words outside ``common``
        (the first of equals)."""
        stretches = []
        begin = previous = starts[0]
        for start in [*starts[1:], length + self.n]:
            if start != previous + 1:
                stretches.append((begin, min(previous + self.n, length)))
                begin = start
            previous = start
        return max(stretches, key=lambda stretch: sum(word not in common for word in range(*stretch)))


class NearCopies:
    """Which rows read as one of a few ``aside`` that were taken out of their own tasks: the same prompt, or a
    leak by `HeldoutIndex`.

    ``whole``: all rows of the corpus, which tell what is only how a task is worded.
    """

    def __init__(self, aside: Sequence[Row], n: int, whole: Iterable[Row]) -> None:
        self.equal = {plain(row["prompt"]): row for row in aside}
        self.index = HeldoutIndex(aside, n, whole)

    def match(self, prompt: str) -> Match | None:
        if row := self.equal.get(plain(prompt)):
            return Match(row["id"], row["task"], plain(prompt), False)
        return next((match for match in self.index.matches(prompt) if not match.boilerplate), None)
