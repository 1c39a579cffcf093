"""The signals stage: one pass of a model over the corpus, a shard at a time, so that a kill costs at most one shard.

``signals.parquet`` has the id and the pass's numbers; row i belongs to row i of the corpus. A shard's batches depend on its own rows
alone, so an interrupted pass ends with the same bytes as an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.types import Model

if TYPE_CHECKING:
    import pyarrow as pa

SHARD = 1024  # rows
Pass = Literal["response", "alone", "gradient"]
COLUMNS: dict[str, tuple[str, ...]] = {"response": ("nll", "el2n"), "alone": ("nll_alone",), "gradient": ("gradient_norm",)}
Part = tuple[np.ndarray, dict[str, np.ndarray], int]  # rows int64[b], their numbers float64[b] by column, tokens read


def measure(which: Pass, model: Model, batch_tokens: int, rows: pa.Table, out: Path, shard: int = SHARD) -> dict[str, Any]:
    """Writes ``signals.parquet`` into ``out``; InputError names rows whose numbers are not finite."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tqdm import tqdm

    starts = range(0, len(rows), shard)
    missing = [start for start in starts if not _file(out, start).is_file()]
    tokens = 0
    if missing:
        read = reader(which, model, batch_tokens)
        total = sum(planned_tokens(which, rows.slice(start, shard)) for start in missing)
        with tqdm(total=total, desc=f"{which} signals", unit="token", unit_scale=True) as bar:
            for start in missing:
                part = rows.slice(start, shard)
                numbers = {name: np.full(len(part), np.nan) for name in COLUMNS[which]}
                for at, values, n_tokens in read(part):
                    for name in numbers:
                        numbers[name][at] = values[name]
                    tokens += n_tokens
                    bar.update(n_tokens)
                _refuse_bad_numbers(which, numbers, part)
                _save(_file(out, start), pa.table({"id": part["id"], **numbers}))
    whole = pa.concat_tables([pq.read_table(_file(out, start)) for start in starts]).combine_chunks()
    pq.write_table(whole, out / "signals.parquet")
    for start in starts:
        _file(out, start).unlink()
    means = {f"mean_{name}": float(whole[name].to_numpy().mean()) for name in COLUMNS[which]}
    resumed = len(rows) - sum(min(shard, len(rows) - start) for start in missing)
    return {"n": len(rows), "tokens": tokens, "resumed_rows": resumed, **means}


def join(rows: pa.Table, folders: Mapping[str, Path]) -> pa.Table:
    """The corpus's table with the columns of finished passes, ``folders`` by their pass."""
    import pyarrow.parquet as pq

    for which, folder in folders.items():
        signals = pq.read_table(folder / "signals.parquet")
        for name in COLUMNS[which]:
            rows = rows.append_column(name, signals[name])
    return rows


def planned_tokens(which: Pass, rows: pa.Table) -> int:
    """About how many tokens a pass reads, by the corpus's own count; the frame around an empty prompt is not in it."""
    n = rows["n_tokens"].to_numpy().sum()
    return int(n - rows["n_prompt_tokens"].to_numpy().sum() if which == "alone" else n)


def reader(which: Pass, model: Model, batch_tokens: int) -> Callable[[pa.Table], Iterator[Part]]:
    """Loads the model once; the function it returns makes a pass over some rows, batch by batch."""
    from smartdpp.batches import encoded
    from smartdpp.device import compute_dtype, placed
    from smartdpp.signals.gradient_norm import gradient_norms
    from smartdpp.signals.likelihood import alone, likelihood

    weights, tokenizer = placed(model.load(dtype=compute_dtype())), model.tokenizer()
    pad = tokenizer.pad_token_id

    def response(rows: pa.Table) -> Iterator[Part]:
        examples = encoded(tokenizer, model.format, rows)
        for batch, nll, el2n in likelihood(weights, examples, pad, batch_tokens, rows["id"].to_pylist()):
            yield batch.rows, {"nll": nll, "el2n": el2n}, int(batch.attention_mask.sum())

    def response_alone(rows: pa.Table) -> Iterator[Part]:
        examples = alone(tokenizer, model.format, rows)
        for batch, nll, _ in likelihood(weights, examples, pad, batch_tokens, rows["id"].to_pylist()):
            yield batch.rows, {"nll_alone": nll}, int(batch.attention_mask.sum())

    def gradient(rows: pa.Table) -> Iterator[Part]:
        examples = encoded(tokenizer, model.format, rows)
        for at, norm, n_tokens in gradient_norms(weights, examples, pad, batch_tokens, rows["id"].to_pylist()):
            yield at, {"gradient_norm": norm}, n_tokens

    passes: dict[str, Callable[[pa.Table], Iterator[Part]]] = {"response": response, "alone": response_alone, "gradient": gradient}
    return passes[which]


def _file(out: Path, start: int) -> Path:
    return out / f"shard-{start:09d}.parquet"


def _save(path: Path, part: pa.Table) -> None:
    import pyarrow.parquet as pq

    temporary = path.with_suffix(".writing")
    pq.write_table(part, temporary)
    temporary.replace(path)


def _refuse_bad_numbers(which: str, numbers: Mapping[str, np.ndarray], rows: pa.Table) -> None:
    for name, values in numbers.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            first = ", ".join(rows["id"][int(i)].as_py() for i in bad[:5])
            raise InputError(
                f"{which} signals: {name} of {len(bad)} rows is not finite, first {first}: use another model or drop these rows"
            )
