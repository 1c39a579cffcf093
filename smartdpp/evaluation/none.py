"""No evaluation: every task may be trained on, and a run ends with the trained model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from smartdpp.types import Model, Row

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class NoEvaluation:
    """Holds nothing out and scores nothing; the pipeline leaves its stages out."""

    from_corpus: ClassVar[bool] = False

    def check(self) -> list[str]:
        return []

    def check_documents(self, heldout: pa.Table | None, model: Model | None) -> list[str]:
        return []

    def fingerprint(self) -> str:
        return ""

    def split(self) -> dict[str, Any]:
        return {"tasks": []}

    def heldout(self, tasks: list[str]) -> list[str]:
        return []

    def aside(self, rows: Iterator[Row]) -> dict[str, list[str]]:
        return {}

    def unscored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        return {}

    def documents(self) -> Iterator[Row]:
        return iter(())

    def evaluate(self, model: Model, adapter: Path | None, heldout: pa.Table, out: Path) -> None:
        raise AssertionError("there is nothing to evaluate")
