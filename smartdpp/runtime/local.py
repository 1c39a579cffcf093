"""Everything in this process, one piece of work after the other: each uses all cores by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from smartdpp.greedy.partitions import Ask, Share

T = TypeVar("T")


@dataclass(frozen=True)
class Local:
    rows_per_task: ClassVar[int | None] = None

    def check(self) -> list[str]:
        return []

    def map(self, work: Callable[..., T], arguments: Callable[[int], tuple[Any, ...]], sizes: Sequence[int], what: str) -> list[T]:
        return [work(*arguments(i)) for i in range(len(sizes))]

    def parts(self, n: int) -> int:
        return 1

    @contextmanager
    def shares(self, makes: Sequence[Callable[[], Share]]) -> Iterator[Ask]:
        from smartdpp.greedy.partitions import here

        yield here([make() for make in makes])
