"""The gradient an example would train with, sketched: the space in which the DPP paper (arXiv 2402.02318)
measures diversity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.gradient import gradients, reduction
from smartdpp.gradient.layers import Layers
from smartdpp.gradient.reductions import Projection
from smartdpp.models.anatomy import known
from smartdpp.models.batches import encoded, refuse_blank
from smartdpp.runtime.device import compute_dtype, placed
from smartdpp.runtime.memory import PACKED, vectors

if TYPE_CHECKING:
    import pyarrow as pa

    from smartdpp.types import Model

EXACT_BYTES = 16 * 2**30  # the largest X.npy that full gradients may make


@dataclass(frozen=True)
class Gradient:
    """Rows S g_i / ‖S g_i‖, [n, dim] in ``store``'s type, g_i = ∇ (mean cross-entropy of response i) for the
    weights of ``layers``.

    S is ``sketch``, one Johnson-Lindenstrauss map made within the backward pass; ``lora``, the paper's two
    projections; or ``exact``, no map: the whole gradient, for checks on small models (``dim`` has no say
    there). See smartdpp.gradient.reductions for all three. The model is taken as it is, without warm-up.
    """

    model: Model
    layers: Layers = "attention"
    dim: int = 4096
    projection: Projection = "sketch"
    rank: int | None = None  # of the sketch's two projections of each layer; None: √dim / 2
    lora_rank: int = 512
    seed: int = 0
    store: Literal["float16", "float32"] = "float16"
    batch_tokens: int = 1024
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("dim", "lora_rank", "batch_tokens", "processes"):
            if getattr(self, name) < 1:
                raise InputError(f"embedding.{name} is {getattr(self, name)}: it must be at least 1")
        if self.rank is not None and self.rank < 1:
            raise InputError(f"embedding.rank is {self.rank}: it must be at least 1, or null for the default")
        if self.seed < 0:
            raise InputError(f"embedding.seed is {self.seed}: it must be at least 0")

    def check(self) -> list[str]:
        return self.model.check()

    def fingerprint(self) -> str:
        return ""

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        """Loads the model and draws the projections. InputError for rows without a response (named), or a
        model without such layers."""
        tokenizer, fmt = self.model.tokenizer(), self.model.format
        refuse_blank(tokenizer, fmt, rows)
        weights = placed(self.model.load(dtype=compute_dtype()))
        chosen = {
            "layers": self.layers,
            "dim": self.dim,
            "seed": self.seed,
            "rank": self.rank,
            "lora_rank": self.lora_rank,
        }
        reduce = reduction(weights, self.projection, **chosen)  # type: ignore[arg-type]
        size = len(rows) * reduce.size * np.dtype(self.store).itemsize
        if self.projection == "exact" and size > EXACT_BYTES:
            raise InputError(
                f"embedding.projection=exact would keep {reduce.size} numbers of each of {len(rows)} rows, "
                f"{size / 1e9:.0f} GB: "
                "use projection=sketch, a smaller model, or fewer rows"
            )

        def encode(shard: pa.Table) -> np.ndarray:
            ids = shard["id"].to_pylist()
            X = np.empty((len(shard), reduce.size), dtype=np.float32)
            for done in gradients(
                weights,
                reduce,
                encoded(tokenizer, fmt, shard),
                tokenizer.pad_token_id,
                self.batch_tokens,
                ids,
            ):
                X[done.rows] = done.vectors
            return of_norm_one(X, ids).astype(self.store)

        return encode

    def cut(self, rows: pa.Table) -> tuple[int, int]:
        return 0, 0

    def columns(self, n: int) -> int | None:
        return None if self.projection == "exact" else self.dim

    def memory(self, n: int, d: int, text: float, longest: int, wide: int) -> float | None:
        if (sizes := known(self.model)) is None:
            return None
        kept = sizes.layers * sizes.kept + sizes.kept + 3 * sizes.vocabulary
        weights, tokens = PACKED * sizes.parameters * wide, max(longest, self.batch_tokens)
        return vectors(n, d, text) + weights + tokens * kept * 4 + 256 * d * 8


def of_norm_one(X: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Gradients [m, d] over their L2 norms. InputError names those that are zero, by their rows' ids."""
    norm = np.linalg.norm(X, axis=1, keepdims=True)
    zero = [ids[i] for i in np.flatnonzero(norm == 0).tolist()]
    if zero:
        raise InputError(
            f"the gradient of {len(zero)} rows is zero, first {', '.join(zero[:5])}: the model is "
            "certain of their responses "
            "already; remove these rows or use another embedding"
        )
    return X / norm
