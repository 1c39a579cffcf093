"""Pools of which it is known what is worth choosing, made of reasoning-gym's families.

See `smartdpp.corpus.worlds` for what is made of them. A few families are the target; their documents come
from another seed of the generator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from smartdpp.corpus.procedural import SETTINGS, ReasoningGym
from smartdpp.corpus.worlds import APART, World, plain
from smartdpp.types import Row

# Free answers that depend on their prompts and that a small model can learn to give: of the 49 families those
# whose documents SmolLM2-135M finds likelier than a predictor does that reads no prompt, one-word answers
# left out.
TARGET = (
    "countdown", "letter_jumble", "needle_haystack", "number_format", "palindrome_generation",
    "sentence_reordering", "word_sequence_reversal", "word_sorting",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arena(World):
    """A world of generated rows, so any seed's are new. ``settings`` are as in `ReasoningGym`. A family that
    has fewer rows than are asked for gives all it has."""

    target: list[str] = field(default_factory=lambda: list(TARGET))
    settings: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: dict(values) for name, values in SETTINGS.items()}
    )

    def check(self) -> list[str]:
        return self._made([*self.target, *self.others], 1, self.seed).check()

    def fingerprint(self) -> str:
        return self._made(self.target, 1, self.seed).fingerprint()

    def drawn(self, sizes: dict[str, int]) -> tuple[list[Row], list[Row]]:
        documents = list(self._made(self.target, self.documents, self.seed + APART).rows())
        asked = {plain(row["prompt"]) for row in documents}
        return documents, [row for name, size in sizes.items() for row in self._fresh(name, size, asked)]

    def _fresh(self, family: str, size: int, asked: set[str]) -> list[Row]:
        found: dict[str, Row] = {}
        for row in self._made([family], 4 * size + 20, self.seed).rows():
            if (prompt := plain(row["prompt"])) not in asked:
                found.setdefault(prompt, row)
            if len(found) == size:
                break
        return list(found.values())

    def _made(self, families: list[str], n: int, seed: int) -> ReasoningGym:
        return ReasoningGym(list(families), n, seed, dict(self.settings))
