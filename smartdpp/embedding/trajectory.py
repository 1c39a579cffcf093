"""How a model's loss of an example falls while it trains: the space of S2L (Yang et al. 2024, arXiv
2403.07384)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.embedding.warmup import Warmup
from smartdpp.errors import InputError
from smartdpp.models.anatomy import known
from smartdpp.models.batches import encoded, refuse_blank
from smartdpp.models.checkpoints import checkpoints, loaded
from smartdpp.runtime.device import compute_dtype, placed
from smartdpp.runtime.memory import vectors
from smartdpp.signals.likelihood import likelihood
from smartdpp.signals.stage import memory as of_pass

if TYPE_CHECKING:
    import pyarrow as pa

    from smartdpp.types import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trajectory:
    """Rows (ℓ_1, ..., ℓ_E), float32[n, E]: the mean nats per response token at every checkpoint of a warm-up
    training. A loss that is no number counts as 0, as in S2L, and is told and counted."""

    model: Model
    warmup: Warmup
    batch_tokens: int = 4096
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "processes"):
            if getattr(self, name) < 1:
                raise InputError(f"embedding.{name} is {getattr(self, name)}: it must be at least 1")

    def check(self) -> list[str]:
        return [*self.model.check(), *self.warmup.check()]

    def fingerprint(self) -> str:
        return ""

    def after(self, folder: Path) -> Warmed:
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return Warmed(**own, folder=str(folder.absolute()))

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        raise InputError(
            "embedding=trajectory reads the checkpoints of a training on a share of the pool, which only a "
            "run makes: use python run.py, or another embedding"
        )

    def for_query(self) -> Trajectory:
        return self

    def cut(self, rows: pa.Table) -> tuple[int, int]:
        return 0, 0

    def columns(self, n: int) -> int | None:
        return self.warmup.kept(n)

    def memory(self, n: int, d: int, text: float, longest: int, wide: int) -> float | None:
        if (sizes := known(self.model)) is None:
            return None
        return vectors(n, d, text) + of_pass("response", sizes, max(longest, self.batch_tokens), wide)


@dataclass(frozen=True)
class Warmed(Trajectory):
    """The same by the checkpoints that a warm-up left in ``folder``."""

    folder: str = ""

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        """Loads the model with its checkpoints. InputError for rows without a response, named."""
        tokenizer, fmt = self.model.tokenizer(), self.model.format
        refuse_blank(tokenizer, fmt, rows)
        kept = checkpoints(Path(self.folder))
        at = loaded(self.model, kept, dtype=compute_dtype())

        def encode(shard: pa.Table) -> np.ndarray:
            ids, examples = shard["id"].to_pylist(), encoded(tokenizer, fmt, shard)
            X = np.empty((len(shard), len(kept)), dtype=np.float32)
            for i in range(len(kept)):
                of_model = placed(at(i)), examples, tokenizer.pad_token_id, self.batch_tokens, ids
                for batch, nll, _ in likelihood(*of_model):
                    X[batch.rows, i] = nll
            lost = ~np.isfinite(X)
            if lost.any():
                first = ids[int(lost.any(axis=1).argmax())]
                log.warning(
                    "trajectory: %d losses of %d rows are no numbers and count as 0, first of row %s",
                    lost.sum(),
                    lost.any(axis=1).sum(),
                    first,
                )
            return np.where(lost, np.float32(0), X)

        return encode
