"""What an example would teach, at every checkpoint of a warm-up training: the space of LESS (Xia et al. 2024,
arXiv 2402.04333)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from smartdpp.embedding.gradient import EXACT_BYTES, of_norm_one
from smartdpp.embedding.warmup import Warmup
from smartdpp.errors import InputError
from smartdpp.gradient import gradients
from smartdpp.gradient.adam import Elementwise, Plain, RankOne
from smartdpp.gradient.reductions import Exact, Sketch
from smartdpp.models.anatomy import known
from smartdpp.models.batches import encoded, refuse_blank
from smartdpp.models.checkpoints import Checkpoint, adapter_layers, checkpoints, loaded, moments
from smartdpp.runtime.device import compute_dtype, placed
from smartdpp.runtime.memory import PACKED, vectors

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from smartdpp.types import Model

Preconditioner = Literal["none", "adam_rank_one", "adam_exact"]


@dataclass(frozen=True)
class Less:
    """Rows (√η_1 u_1, ..., √η_E u_E), [n, E dim] in ``store``'s type and of norm 1, so that inner products
    are Σ_e η_e u_e·u'_e.

    η_e is the mean learning rate between two checkpoints, and they sum to 1; u_e is the normalised sketch of
    an example's gradient for the adapter's weights as they were then, of the pool's rows with Adam's
    ``preconditioner`` (smartdpp.gradient.adam), of a query's without. ``projection`` exact keeps the whole
    gradient, for checks on small models.
    """

    model: Model
    warmup: Warmup
    preconditioner: Preconditioner = "adam_rank_one"
    dim: int = 4096
    projection: Literal["sketch", "exact"] = "sketch"
    rank: int | None = None  # of the sketch's two projections of each layer; None: √dim / 2
    seed: int = 0
    store: Literal["float16", "float32"] = "float16"
    batch_tokens: int = 1024
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("dim", "batch_tokens", "processes"):
            if getattr(self, name) < 1:
                raise InputError(f"embedding.{name} is {getattr(self, name)}: it must be at least 1")
        if self.rank is not None and self.rank < 1:
            raise InputError(f"embedding.rank is {self.rank}: it must be at least 1, or null for the default")
        if self.seed < 0:
            raise InputError(f"embedding.seed is {self.seed}: it must be at least 0")
        if (method := getattr(self.warmup.recipe, "method", "lora")) != "lora":
            raise InputError(
                f"embedding.warmup.recipe.method is {method}: embedding=less takes the gradients of an "
                "adapter's weights; use method=lora"
            )

    def check(self) -> list[str]:
        return [*self.model.check(), *self.warmup.check()]

    def fingerprint(self) -> str:
        return ""

    def after(self, folder: Path) -> Warmed:
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return Warmed(**own, folder=str(folder.absolute()))

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        raise InputError(
            "embedding=less reads the checkpoints of a training on a share of the pool, which only a run "
            "makes: use python run.py, or another embedding"
        )

    def for_query(self) -> Less:
        return replace(self, preconditioner="none")

    def cut(self, rows: pa.Table) -> tuple[int, int]:
        return 0, 0

    def columns(self, n: int) -> int | None:
        return None if self.projection == "exact" else self.warmup.kept(n) * self.dim

    def memory(self, n: int, d: int, text: float, longest: int, wide: int) -> float | None:
        if (sizes := known(self.model)) is None:
            return None
        kept = sizes.layers * sizes.kept + sizes.kept + 3 * sizes.vocabulary
        weights, tokens = PACKED * sizes.parameters * wide, max(longest, self.batch_tokens)
        # weights, and of the exact form m and v
        adapters = (12 if self.preconditioner == "adam_exact" else 4) * self._rank() * sizes.widths
        return (
            vectors(n, d, text)
            + weights
            + self.warmup.kept(n) * (adapters + self.dim * 8)
            + tokens * kept * 4
            + 256 * d * 8
        )

    def _rank(self) -> int:
        return int(getattr(self.warmup.recipe, "rank", 16))


@dataclass(frozen=True)
class Warmed(Less):
    """The same by the checkpoints that a warm-up left in ``folder``."""

    folder: str = ""

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        """Loads the model with its checkpoints, and draws the projections. InputError for rows without a
        response, named."""
        tokenizer, fmt = self.model.tokenizer(), self.model.format
        refuse_blank(tokenizer, fmt, rows)
        kept = checkpoints(Path(self.folder))
        at = loaded(self.model, kept, dtype=compute_dtype())
        placed(at(0))
        reductions = [self._reduction(at(i), one, i) for i, one in enumerate(kept)]
        size = reductions[0].size
        total = len(rows) * len(kept) * size * np.dtype(self.store).itemsize
        if self.projection == "exact" and total > EXACT_BYTES:
            raise InputError(
                f"embedding.projection=exact would keep {len(kept) * size} numbers of each of {len(rows)} "
                f"rows, {total / 1e9:.0f} GB: use projection=sketch, a smaller model, or fewer rows"
            )
        rates = np.array([one.learning_rate for one in kept])
        shares = np.sqrt(rates / rates.sum())

        def encode(shard: pa.Table) -> np.ndarray:
            ids, examples = shard["id"].to_pylist(), encoded(tokenizer, fmt, shard)
            parts = []
            for i, reduce in enumerate(reductions):
                X = np.empty((len(shard), size), dtype=np.float32)
                of_model = at(i), reduce, examples, tokenizer.pad_token_id, self.batch_tokens, ids
                for done in gradients(*of_model):
                    X[done.rows] = done.vectors + reduce.shift
                parts.append(shares[i] * of_norm_one(X, ids))
            return np.concatenate(parts, axis=1).astype(self.store)

        return encode

    def _reduction(self, model: PreTrainedModel, one: Checkpoint, i: int) -> Plain:
        modules = adapter_layers(model, i)
        inner = (
            Exact(modules) if self.projection == "exact" else Sketch(modules, self.dim, self.seed, self.rank)
        )
        match self.preconditioner:
            case "none":
                return Plain(inner)
            case "adam_rank_one":
                return RankOne(inner, moments(one))
            case "adam_exact":
                return Elementwise(inner, moments(one))
