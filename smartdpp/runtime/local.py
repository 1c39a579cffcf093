"""Everything in this process, one piece of work after the other: each uses all cores by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from smartdpp.types import Ask

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Local:
    rows_per_task: ClassVar[int | None] = None

    def check(self) -> list[str]:
        return []

    def map(
        self,
        work: Callable[..., T],
        arguments: Callable[[int], tuple[Any, ...]],
        sizes: Sequence[int],
        what: str,
    ) -> list[T]:
        return [work(*arguments(i)) for i in range(len(sizes))]

    def parts(self, n: int) -> int:
        return 1

    @contextmanager
    def shares(self, makes: Sequence[Callable[[], S]]) -> Iterator[Ask[S]]:
        yield here([make() for make in makes])


def here(shares: Sequence[S]) -> Ask[S]:
    """Shares that lie in this process."""

    def ask(question: Callable[[S], T], which: Sequence[int] | None = None) -> list[T]:
        return [question(shares[i]) for i in (range(len(shares)) if which is None else which)]

    return ask
