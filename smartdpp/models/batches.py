"""Rows as padded batches of similar length: what every pass of the model over the corpus is fed with.

Rows are sorted by length and grouped under a budget of tokens, padding included, so little is padded and
memory stays level. A batch that does not fit into the device's memory is halved, as are all that follow, and
the pass goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from smartdpp.errors import InputError
from smartdpp.models.tokens import IGNORED
from smartdpp.models.turns import Example, encode_row
from smartdpp.runtime.products import quick_products

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
T = TypeVar("T")
# what of a row becomes tokens; the last two where a corpus has conversations
TEXT = ("id", "prompt", "response", "messages", "tools")


@dataclass(frozen=True)
class Batch:
    """b examples, padded on the right to t tokens."""

    rows: np.ndarray  # int64[b], positions in the given list
    input_ids: torch.LongTensor  # [b, t]
    attention_mask: torch.LongTensor  # [b, t], 1 on tokens, 0 on padding
    # [b, t], the token itself on what is trained (the response and its end token), IGNORED elsewhere
    labels: torch.LongTensor

    def to(self, device: str | torch.device) -> Batch:
        return Batch(
            self.rows, self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device)
        )


def encoded(tokenizer: PreTrainedTokenizerBase, fmt: str, rows: pa.Table) -> list[Example]:
    """Token ids of every row. InputError naming the rows whose response has no token: they have no loss to
    speak of."""
    examples = [encode_row(tokenizer, fmt, row) for row in texts(rows).to_pylist()]
    empty = [i for i, example in enumerate(examples) if example.n_trained < 2]  # the end token alone
    if empty:
        first = ", ".join(rows["id"][i].as_py() for i in empty[:5])
        raise InputError(
            f"{len(empty)} rows have no response tokens, first {first}: remove them or give them a response"
        )
    return examples


def texts(rows: pa.Table) -> pa.Table:
    """The columns of a table that become tokens."""
    return rows.select([name for name in TEXT if name in rows.column_names])


def refuse_blank(tokenizer: PreTrainedTokenizerBase, fmt: str, rows: pa.Table) -> None:
    """InputError naming the rows without response tokens, before any work: only a blank response can be
    without, so only these are read."""
    import pyarrow.compute as pc

    encoded(tokenizer, fmt, rows.filter(pc.equal(pc.utf8_trim_whitespace(rows["response"]), "")))


def token_batches(examples: Sequence[Example], max_tokens: int, pad_id: int) -> Iterator[Batch]:
    """Every example once, shortest first (ties in the given order), b·t <= max_tokens; a longer example is a
    batch alone."""
    for rows in _groups(examples, max_tokens):
        yield _padded(examples, rows, pad_id)


def run_batches(
    examples: Sequence[Example],
    max_tokens: int,
    pad_id: int,
    work: Callable[[Batch], T],
    ids: Sequence[str] | None = None,
) -> Iterator[tuple[Batch, T]]:
    """Each batch with what ``work`` made of it. Out of memory halves this batch and the later ones, and says
    so.

    InputError when a single example does not fit; it is named by ``ids``, or by its position where there are
    none.
    """
    import torch
    from tqdm import tqdm

    groups = list(_groups(examples, max_tokens))
    while groups:
        batch = _padded(examples, groups[0], pad_id)
        try:
            with quick_products():
                done = work(batch)
        except torch.OutOfMemoryError:
            done = None
        if done is not None:
            yield batch, done
            groups = groups[1:]
            continue
        # here, outside the except clause, nothing holds the failed pass's tensors any more
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        b, t = batch.input_ids.shape
        if b == 1:
            name = ids[groups[0][0]] if ids is not None else f"at position {groups[0][0]}"
            raise InputError(
                f"row {name}: its {t} tokens alone do not fit into the device's memory; lower "
                "pool.max_tokens, or take a smaller model"
            )
        message = f"out of memory with {b} rows of {t} tokens: going on with half of them at a time"
        log.warning(message)
        tqdm.write(message)
        groups = [half for group in groups for half in np.array_split(group, 2) if len(half)]


def _groups(examples: Sequence[Example], max_tokens: int) -> Iterator[np.ndarray]:
    lengths = np.array([len(example.ids) for example in examples], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        # the next row is the longest so far: it sets the padded width
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > max_tokens:
            yield order[start:end]
            start = end


def _padded(examples: Sequence[Example], rows: np.ndarray, pad_id: int) -> Batch:
    import torch

    shape = (len(rows), max(len(examples[i].ids) for i in rows))
    input_ids = torch.full(shape, pad_id)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for line, i in enumerate(rows):
        ids = examples[i].ids
        input_ids[line, : len(ids)] = torch.tensor(ids)
        attention_mask[line, : len(ids)] = 1
        labels[line, : len(ids)] = torch.tensor(examples[i].labels)
    return Batch(rows, input_ids, attention_mask, labels)
