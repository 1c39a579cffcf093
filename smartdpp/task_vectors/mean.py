"""A task as the mean of its examples' embedding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Mean:
    """The mean of the embedding over the task's examples, as in SMART; there is nothing to compute
    beforehand."""

    from_embedding: ClassVar[bool] = True

    def check(self) -> list[str]:
        return []

    def measure(self, rows: pa.Table, out: Path) -> dict[str, Any]:
        raise NotImplementedError("a task's mean is made of the embedding, by no stage")
