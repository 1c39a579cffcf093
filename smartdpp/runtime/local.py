"""Everything in this process, one piece of work after the other: each uses all cores by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Local:
    rows_per_task: ClassVar[int | None] = None

    def check(self) -> list[str]:
        return []

    def map(self, work: Callable[..., T], arguments: Callable[[int], tuple[Any, ...]], sizes: Sequence[int], what: str) -> list[T]:
        return [work(*arguments(i)) for i in range(len(sizes))]
