"""The signals stage: one pass of a model over the corpus, in shards, left as the columns of ``X.npy`` (see
smartdpp.runtime.shards)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from smartdpp.models.anatomy import Anatomy
from smartdpp.models.batches import texts
from smartdpp.runtime.memory import PACKED
from smartdpp.runtime.shards import SHARD, load, run
from smartdpp.signals.likelihood import CHUNK
from smartdpp.types import Model

if TYPE_CHECKING:
    import pyarrow as pa

Pass = Literal["response", "alone", "gradient", "rated", "reward"]
COLUMNS: dict[str, tuple[str, ...]] = {
    "response": ("nll", "el2n"),
    "alone": ("nll_alone",),
    "gradient": ("gradient_norm",),
    "rated": ("rating", "own_rating", "own_rating_sd"),
    "reward": ("reward",),
}
# what of a quality decides its passes: one that reads the same shares them
READ = ("model", "batch_tokens", "prompts")
WORK: dict[Pass, str] = {
    "response": "forward over",
    "alone": "forward over the responses alone of",
    "gradient": "forward and backward over",
    "rated": "forward over every question about",
    "reward": "forward of the reward model over",
}


def measure(
    which: Pass,
    model: Model,
    batch_tokens: int,
    rows: pa.Table,
    out: Path,
    shard: int = SHARD,
    processes: int = 1,
    prompts: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes ``X.npy``, float32[n, c], the pass's COLUMNS for every row; returns facts, each column's mean
    among them. ``prompts`` are the questions of the pass ``rated``."""
    import pyarrow as pa

    read = texts(rows).append_column("n_tokens", pa.array(planned_tokens(which, rows)))
    work = Signals(which, model, batch_tokens, list(prompts))
    facts = run(work, read, out, f"{which} signals", shard, processes)
    means = load(out).mean(axis=0, dtype=np.float64)
    return facts | {f"mean_{name}": float(mean) for name, mean in zip(COLUMNS[which], means, strict=True)}


def join(rows: pa.Table, folders: Mapping[str, Path]) -> pa.Table:
    """The corpus's table with the columns of finished passes (float64), ``folders`` by their pass."""
    import pyarrow as pa

    for which, folder in folders.items():
        for name, values in zip(COLUMNS[which], load(folder).T, strict=True):
            rows = rows.append_column(name, pa.array(values.astype(np.float64)))
    return rows


def planned_tokens(which: Pass, rows: pa.Table) -> np.ndarray:
    """int64[n]: the tokens a pass reads of each row, by the corpus's own count; the frame around an empty
    prompt is not in it."""
    n_tokens = rows["n_tokens"].to_numpy()
    return n_tokens - rows["n_prompt_tokens"].to_numpy() if which == "alone" else n_tokens


@dataclass(frozen=True)
class Signals:
    """[n, c]: what the pass ``which`` of the model says of each row, one column for each of its COLUMNS."""

    which: Pass
    model: Model
    batch_tokens: int
    prompts: list[str] = field(default_factory=list)

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        """Loads the model; InputError for rows without a response, named."""
        from smartdpp.models.batches import encoded, refuse_blank
        from smartdpp.runtime.device import compute_dtype, placed
        from smartdpp.signals.gradient_norm import gradient_norms
        from smartdpp.signals.likelihood import alone, likelihood
        from smartdpp.signals.rating import ratings, rewards

        tokenizer, fmt = self.model.tokenizer(), self.model.format
        refuse_blank(tokenizer, fmt, rows)
        weights, settings = (
            placed(self.model.load(dtype=compute_dtype())),
            (tokenizer.pad_token_id, self.batch_tokens),
        )

        if self.which == "rated":
            return lambda shard: ratings(weights, tokenizer, fmt, shard, self.prompts, self.batch_tokens)
        if self.which == "reward":
            pair = getattr(self.model, "pair", False)
            return lambda shard: rewards(weights, tokenizer, shard, fmt, pair, self.batch_tokens)

        def parts(shard: pa.Table) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
            ids = shard["id"].to_pylist()
            if self.which == "gradient":
                for at, norm in gradient_norms(weights, encoded(tokenizer, fmt, shard), *settings, ids):
                    yield at, [norm]
                return
            examples = (
                alone(tokenizer, fmt, shard) if self.which == "alone" else encoded(tokenizer, fmt, shard)
            )
            for batch, nll, el2n in likelihood(weights, examples, *settings, ids):
                yield batch.rows, [nll] if self.which == "alone" else [nll, el2n]

        def numbers(shard: pa.Table) -> np.ndarray:
            X = np.full((len(shard), len(COLUMNS[self.which])), np.nan)
            for at, columns in parts(shard):
                X[at] = np.stack(columns, axis=1)
            return X

        return numbers


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line."""
    means = ", ".join(
        f"mean {name.removeprefix('mean_')} {value:.4g}"
        for name, value in facts.items()
        if name.startswith("mean_")
    )
    return f"{facts['n']} rows, {facts['tokens']} tokens read; {means}"


def memory(which: Pass, sizes: Anatomy, tokens: int, wide: int) -> float:
    """Bytes of a pass over batches of so many tokens: weights, a layer's work or all of them, logits of the
    tokens and probabilities of some; ``wide`` bytes a number."""
    layers = sizes.layers if which == "gradient" else 1
    logits = tokens * wide + 3 * 4 * min(tokens, CHUNK)
    return PACKED * sizes.parameters * wide + tokens * sizes.kept * layers * wide + logits * sizes.vocabulary
