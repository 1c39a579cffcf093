"""Prompts, their continuations and generations read by a model like Llama on a processor, without padding.

transformers pads the rows of a batch to one length, copies a prompt's keys and values for each continuation,
and at each generated token again: for every head that shares them, and to append one. Here they stand where
they are; what all prompts begin with is read once, continuations of all rows in one pass, each after its
prompt. The numbers are those of the usual way but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from smartdpp.models.llama import (
    Block,
    attention_of,
    blocks_of,
    by_head,
    normalise,
    project,
    suits,
    turn,
)
from smartdpp.models.tokens import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 2048  # tokens of a row: longer ones are left to attention that makes no t x t products
TILE = 256  # positions whose logits are made at a time


class Segment(NamedTuple):
    """Tokens that follow the first ``start`` of a row."""

    row: int
    start: int
    ids: list[int]


class Reader:
    """What rows have been read so far: keys and values of every layer, [rows, heads, room, h] each."""

    def __init__(self, model: Any, blocks: list[Block], rows: int, room: int) -> None:
        import torch

        self.model, self.blocks = model, blocks
        attention, config = model.model.layers[0].self_attn, model.config
        self.h, self.scale, self.shared = (
            attention.head_dim,
            attention.scaling,
            attention.num_key_value_groups,
        )
        self.keys, self.heads = config.num_key_value_heads, config.num_attention_heads
        shape = (rows, self.keys, room, self.h)
        # what is not read yet is multiplied by 0, so it must be a number
        self.K = [torch.zeros(shape) for _ in blocks]
        self.V = [torch.zeros(shape) for _ in blocks]

    def read(self, segments: Sequence[Segment], wanted: Tensor | None, *, keep: bool) -> Tensor | None:
        """The last hidden states of the ``wanted`` tokens, counted over all segments, [n, d]; None: of none.
        ``keep``: the rows go on from there."""
        import torch
        from torch.nn.functional import silu

        if not segments:
            return None
        positions = torch.cat([torch.arange(s.start, s.start + len(s.ids)) for s in segments])
        x = self.model.model.embed_tokens(torch.tensor([i for s in segments for i in s.ids]))
        cosine, sine = (one[0] for one in self.model.model.rotary_emb(x, positions[None]))
        masks = [_mask(len(s.ids), s.start, self.shared) for s in segments]
        single = keep and all(len(s.ids) == 1 for s in segments)
        if single:
            masks = [_seen([s.start + 1 for s in segments], self.keys)]
        for i, block in enumerate(self.blocks):
            final = i == len(self.blocks) - 1
            normal, _ = normalise(x, block.norms[0])
            (q, k, v), _ = project(normal, [block.q, block.k, block.v])
            K = turn(by_head(k, self.h), (cosine, sine), k.new_empty(self.keys, len(k), self.h))
            if not final or wanted is not None:
                Q = turn(by_head(q, self.h), (cosine, sine), q.new_empty(self.heads, len(q), self.h))
                attend = self._single if single else self._rows
                attended = attend(i, segments, Q.mul_(self.scale), K, by_head(v, self.h), masks, keep)
                if final:
                    attended, x = attended[wanted], x[wanted]
                (x,), _ = project(attended, [block.o], onto=x)
                normal, _ = normalise(x, block.norms[1])
                (gate, up), _ = project(normal, [block.gate, block.up])
                (x,), _ = project(silu(gate).mul_(up), [block.down], onto=x)
            else:
                self._store(i, segments, K, by_head(v, self.h))
        return None if wanted is None else self.model.model.norm(x)

    def _store(self, i: int, segments: Sequence[Segment], K: Tensor, V: Tensor) -> None:
        at = 0
        for row, start, ids in segments:
            for whole, new in ((self.K[i], K), (self.V[i], V)):
                whole[row, :, start : start + len(ids)] = new[:, at : at + len(ids)]
            at += len(ids)

    def _rows(
        self,
        i: int,
        segments: Sequence[Segment],
        Q: Tensor,
        K: Tensor,
        V: Tensor,
        masks: list[Tensor],
        keep: bool,
    ) -> Tensor:
        """Attention of every segment to its row's beginning and itself, [N, heads h]."""
        import torch

        out = Q.new_empty(Q.shape[1], self.heads * self.h)
        at = 0
        for (row, start, ids), mask in zip(segments, masks, strict=True):
            n, own = len(ids), slice(at, at + len(ids))
            keys, values = (
                torch.cat([whole[i][row, :, :start], new[:, own]], 1)
                for whole, new in ((self.K, K), (self.V, V))
            )
            P = attention_of(Q[:, own].reshape(self.keys, self.shared * n, self.h), keys, mask)
            by_head(out[own], self.h).copy_(torch.bmm(P, values).view(self.heads, n, self.h))
            at += n
        if keep:
            self._store(i, segments, K, V)
        return out

    def _single(
        self,
        i: int,
        segments: Sequence[Segment],
        Q: Tensor,
        K: Tensor,
        V: Tensor,
        masks: list[Tensor],
        keep: bool,
    ) -> Tensor:
        """The same of one token for each of the first rows, all in one product."""
        import torch

        n, t = len(segments), masks[0].shape[-1]
        rows, places = torch.arange(n), torch.tensor([s.start for s in segments])
        self.K[i][rows, :, places] = K.transpose(0, 1)
        self.V[i][rows, :, places] = V.transpose(0, 1)
        keys, values = (whole[i][:n].view(n * self.keys, -1, self.h)[:, :t] for whole in (self.K, self.V))
        query = Q.transpose(0, 1).reshape(n * self.keys, self.shared, self.h)
        P = torch.bmm(query, keys.transpose(1, 2)).add_(masks[0]).softmax(-1)
        return torch.bmm(P, values).view(n, -1)

    def prompts(self, prompts: list[list[int]]) -> None:
        """Reads them but for their last tokens; how all of them begin, as with a template's or a task's own
        words, is read once."""
        columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
        same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
        self.read([Segment(0, 0, prompts[0][:same])] if same else [], None, keep=True)
        for whole in (*self.K, *self.V):
            whole[1:, :, :same] = whole[:1, :, :same]
        rest = [Segment(i, same, prompt[same:-1]) for i, prompt in enumerate(prompts)]
        self.read([segment for segment in rest if segment.ids], None, keep=True)

    def move(self, source: int, target: int) -> None:
        """Row ``source`` takes the place of ``target``."""
        for whole in (*self.K, *self.V):
            whole[target] = whole[source]


def reader(model: Any, lengths: list[int]) -> Reader | None:
    """For rows of so many tokens in all; None where the model, or their length, asks for the usual way."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    longest = max(lengths)
    if not hasattr(base, "lm_head") or not hasattr(base.config, "hidden_act") or not suits(base):
        return None
    if longest > min(getattr(base.config, "sliding_window", None) or LONGEST, LONGEST):
        return None
    blocks = blocks_of(base)
    return None if blocks is None else Reader(base, blocks, len(lengths), longest)


def log_probabilities(model: Any, hidden: Tensor, labels: Tensor) -> Tensor:
    """log p of every label at its hidden state, float64 [n]."""
    import torch

    found = []
    for part, label in zip(hidden.split(TILE), labels.split(TILE), strict=True):
        logits = part @ model.lm_head.weight.t()
        found.append(logits.gather(1, label[:, None])[:, 0].double() - logits.logsumexp(1).double())
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def continued(
    reading: Reader, prompts: list[list[int]], asked: list[tuple[int, list[int], list[int]]]
) -> list[float]:
    """log p of the labels of every (row, ids, labels), after the row's prompt, whose last token has not been
    read."""
    import torch

    totals = torch.zeros(len(asked), dtype=torch.float64)
    segments = [
        Segment(row, len(prompts[row]) - 1, [prompts[row][-1], *ids[:-1]]) for row, ids, _ in asked if ids
    ]
    labels = torch.tensor([label for _, _, labels in asked for label in labels], dtype=torch.long)
    of = torch.tensor([j for j, (_, _, labels) in enumerate(asked) for _ in labels], dtype=torch.long)
    wanted = (labels != IGNORED).nonzero()[:, 0]
    if not len(wanted):
        return totals.tolist()
    hidden = reading.read(segments, wanted, keep=False)
    assert hidden is not None
    totals.index_add_(0, of[wanted], log_probabilities(reading.model, hidden, labels[wanted]))
    return [float(total) for total in totals]


def _mask(n: int, start: int, shared: int) -> Tensor:
    import torch

    return torch.full((n, start + n), -torch.inf).triu_(1 + start).repeat(shared, 1)


def _seen(lengths: list[int], keys: int) -> Tensor:
    """[rows keys, 1, longest]: -inf behind each row's end."""
    import torch

    t = torch.arange(max(lengths))
    mask = torch.zeros(len(lengths), len(t)).masked_fill_(t >= torch.tensor(lengths)[:, None], -torch.inf)
    return mask.repeat_interleave(keys, 0)[:, None]
