"""LoRA training of models like Llama on a processor, without padding and with a layer as one operation.

transformers pads the rows of a micro-batch to one length, and autograd keeps and walks some forty tensors
a layer. Here the N tokens of all rows stand one after another, attention is made row by row, and a layer has
its gradient written out: products add into what is there already, and of the weights' gradients the adapters'
alone are made. Of the last layer only the keys and values are made of every token, all else where a label
follows; the head makes its logits once and keeps their gradient. The numbers are those of the usual way but
for rounding.

For architectures whose layer is exactly this one (`FAMILIES`), in float32, without dropout or gradient
checkpointing; everything else goes the usual way.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from smartdpp.models.llama import (
    Block,
    Linear,
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
KEPT = 256  # tokens of a row whose attention is kept for the backward pass; of longer ones it is made again
TILE = 256  # positions whose logits are made at a time


def pack(model: Any) -> bool:
    """Has ``model``, the causal language model that TRL has given its head, work so wherever it may; whether
    it ever will."""
    if not suits(model):
        return False
    model.forward = partial(_forward, model, model.forward)
    return True


class Row(NamedTuple):
    """Where a row stands among the tokens, and the queries that are made of it."""

    tokens: slice
    queries: slice
    turns: tuple[Tensor, Tensor]  # cosine and sine of every token, [t, h]
    query_turns: tuple[Tensor, Tensor]  # the same of every query, times attention's scale
    mask: Tensor  # [queries of all heads that share a key, t]: 0, and -inf on what comes later


class Rows(NamedTuple):
    """What a layer needs to know of a micro-batch."""

    rows: list[Row]
    heads: int
    shared: int  # heads of queries to one of keys
    at: Tensor | None  # positions of the queries among the tokens; None: all of them


def _forward(
    model: Any,
    usual: Any,
    *args: Any,
    fused_lm_head: bool = False,
    input_ids: Any = None,
    attention_mask: Any = None,
    labels: Any = None,
    **kwargs: Any,
) -> Any:
    """What TRL's forward gives for a batch that asks for log-probabilities at its labels."""
    given = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
    batch = blocks = None
    if fused_lm_head and not args and _fits(model, **given):
        batch, blocks = given, blocks_of(model)
    if batch is None or blocks is None:
        asked = {name: value for name, value in given.items() if value is not None}
        return usual(*args, fused_lm_head=fused_lm_head, **asked, **kwargs)
    from transformers.utils import ModelOutput

    mask = attention_mask.bool()
    lengths = mask.sum(1)
    where = labels[:, 1:] != IGNORED
    starts = lengths.cumsum(0) - lengths
    row, place = where.nonzero(as_tuple=True)
    at = starts[row] + place
    x = model.model.embed_tokens(input_ids[mask])
    every, last = _rows(model, x, lengths.tolist(), at, where.sum(1).tolist())
    for i, block in enumerate(blocks):
        final = i == len(blocks) - 1
        adapters = [w for layer in block.linear for w in (layer.A, layer.B)]
        x = _operations().layer.apply(x, block, last if final else every, *adapters)
    head = _operations().head.apply(model.model.norm(x), model.lm_head.weight, labels[:, 1:][where])
    log_probs, entropy, first = (one[None] for one in head)
    return ModelOutput(
        log_probs=log_probs, entropy=entropy, is_top1=first, label_mask=where[where][None], aux_loss=None
    )


def _fits(model: Any, input_ids: Any, attention_mask: Any, labels: Any) -> bool:
    """Whether the batch is tokens on a processor, padded on the right, with a label, not too long; and the
    model frozen but for adapters."""
    import torch

    if input_ids is None or attention_mask is None or labels is None or input_ids.device.type != "cpu":
        return False
    t = input_ids.shape[1]
    window = getattr(model.config, "sliding_window", None) or LONGEST
    right = bool((attention_mask[:, :-1] >= attention_mask[:, 1:]).all())
    return (
        t <= min(window, LONGEST)
        and right
        and bool((labels[:, 1:] != IGNORED).any())
        and not (model.is_gradient_checkpointing and model.training)
        and not torch.is_autocast_enabled("cpu")
        and not any(w.requires_grad for w in (model.lm_head.weight, model.get_input_embeddings().weight))
    )


def _rows(model: Any, x: Tensor, lengths: list[int], at: Tensor, labelled: list[int]) -> tuple[Rows, Rows]:
    """For all layers but the last, and for the last: ``at`` are the tokens before a label, ``labelled`` how
    many each row has."""
    import torch

    attention = model.model.layers[0].self_attn
    shared = attention.num_key_value_groups
    positions = torch.cat([torch.arange(t, device=x.device) for t in lengths])
    turns = tuple(one[0] for one in model.model.rotary_emb(x, positions[None]))
    scaled = tuple(one * attention.scaling for one in turns)
    every, last = [], []
    bounds = pairwise([0, *torch.tensor(labelled).cumsum(0).tolist()])
    for t, end, (a, b) in zip(lengths, torch.tensor(lengths).cumsum(0).tolist(), bounds, strict=True):
        tokens, queries = slice(end - t, end), slice(a, b)
        own, place = (turns[0][tokens], turns[1][tokens]), at[queries]
        mask = torch.full((t, t), -torch.inf, device=x.device).triu_(1)
        every.append(Row(tokens, tokens, own, (scaled[0][tokens], scaled[1][tokens]), mask.repeat(shared, 1)))
        last.append(
            Row(
                tokens,
                queries,
                own,
                (scaled[0][place], scaled[1][place]),
                mask[place - tokens.start].repeat(shared, 1),
            )
        )
    heads = model.config.num_attention_heads
    return Rows(every, heads, shared, None), Rows(last, heads, shared, at)


def _through_norm(gradient: Tensor, x: Tensor, r: Tensor, weight: Tensor, into: Tensor) -> None:
    """Adds the gradient of RMSNorm's input to ``into``; ``gradient``, of its output, is used up."""
    gradient.mul_(weight)
    along = (gradient * x).sum(1, keepdim=True).mul_(r.pow(3)).div_(-x.shape[1])
    into.addcmul_(gradient, r).addcmul_(x, along)


def _pull(
    x: Tensor, u: Tensor | None, layers: list[Linear], gradients: list[Tensor], wanted: bool = True
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradient of x, if it is wanted, and of every layer's A and B."""
    import torch

    into = None
    if wanted:
        for layer, g in zip(layers, gradients, strict=True):
            into = g @ layer.W if into is None else into.addmm_(g, layer.W)
    found: list[Tensor | None] = []
    if u is None:
        return into, [None] * (2 * len(layers))
    vs, As = [], []
    for (_, _, A, B, s), g in zip(layers, gradients, strict=True):
        if A is not None and B is not None:
            vs.append((g @ B).mul_(s))
            As.append(A)
    v = torch.cat(vs, 1)
    if into is not None:
        into.addmm_(v, torch.cat(As))
    of_A, column = v.t() @ x, 0
    for (_, _, A, _, s), g in zip(layers, gradients, strict=True):
        part = slice(column, column + (0 if A is None else len(A)))
        found += [None, None] if A is None else [of_A[part], (u[:, part].t() @ g).mul_(s).t()]
        column = part.stop
    return into, found


def _attend(rows: Rows, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, list[Any]]:
    """Attention of the queries [n, heads h] to the tokens' keys and values [N, keys h]; what the backward
    pass needs."""
    import torch

    keys = rows.heads // rows.shared
    h = q.shape[1] // rows.heads
    out = torch.empty_like(q)
    kept: list[Any] = []
    for row in rows.rows:
        n, t = row.queries.stop - row.queries.start, row.tokens.stop - row.tokens.start
        if not n:
            kept.append(None)
            continue
        turned = turn(by_head(q[row.queries], h), row.query_turns, q.new_empty(rows.heads, n, h))
        Q = turned.view(keys, rows.shared * n, h)
        K = turn(by_head(k[row.tokens], h), row.turns, k.new_empty(keys, t, h))
        P = attention_of(Q, K, row.mask)
        by_head(out[row.queries], h).copy_(torch.bmm(P, by_head(v[row.tokens], h)).view(rows.heads, n, h))
        kept.append((Q, K, P if t <= KEPT else None))
    return out, kept


def _attended(rows: Rows, gradient: Tensor, kept: list[Any], v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    import torch

    of_q, of_k, of_v = torch.empty_like(gradient), torch.zeros_like(v), torch.zeros_like(v)
    h = gradient.shape[1] // rows.heads
    for row, one in zip(rows.rows, kept, strict=True):
        if one is None:
            continue
        Q, K, P = one
        P = attention_of(Q, K, row.mask) if P is None else P
        g = by_head(gradient[row.queries], h).reshape(Q.shape)
        by_head(of_v[row.tokens], h).copy_(torch.bmm(P.transpose(1, 2), g))
        S = torch.bmm(g, by_head(v[row.tokens], h).transpose(1, 2))
        S = torch._softmax_backward_data(S, P, -1, S.dtype)
        turn(torch.bmm(S, K).view(rows.heads, -1, h), row.query_turns, by_head(of_q[row.queries], h), -1)
        turn(torch.bmm(S.transpose(1, 2), Q), row.turns, by_head(of_k[row.tokens], h), -1)
    return of_q, of_k, of_v


class Operations(NamedTuple):
    layer: Any
    head: Any


@cache
def _operations() -> Operations:
    import torch
    from torch.nn.functional import silu

    class Layer(torch.autograd.Function):
        """x [N, d] -> [n, d], n queries: N, or those of the last layer. Gradients of x and of the adapters,
        in the order of `Block.linear`."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, block: Block, rows: Rows, *adapters: Tensor | None) -> Tensor:
            normed, r = normalise(x, block.norms[0])
            own, residual = (normed, x) if rows.at is None else (normed[rows.at], x[rows.at])
            (q,), of_q = project(own, [block.q])
            (k, v), of_kv = project(normed, [block.k, block.v])
            attended, kept = _attend(rows, q, k, v)
            (middle,), of_o = project(attended, [block.o], onto=residual)
            normed, r2 = normalise(middle, block.norms[1])
            (gate, up), of_mlp = project(normed, [block.gate, block.up])
            (y,), of_down = project(silu(gate).mul_(up), [block.down], onto=middle)
            ctx.given = block, rows
            ctx.kept = x, r, v, kept, attended, middle, r2, gate, up, (of_q, of_kv, of_o, of_mlp, of_down)
            return y

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:
            block, rows = ctx.given
            x, r, v, kept, attended, middle, r2, gate, up, projected = ctx.kept
            del ctx.kept  # with this layer's memory
            of_q, of_kv, of_o, of_mlp, of_down = projected
            active = silu(gate)
            inner, down = _pull(active * up, of_down, [block.down], [gradient])
            assert inner is not None
            of_up = active.mul_(inner)
            of_gate = torch.ops.aten.silu_backward(inner.mul_(up), gate)
            weight, _ = block.norms[1]
            normed = (middle * r2).mul_(weight)
            through, mlp = _pull(normed, of_mlp, [block.gate, block.up], [of_gate, of_up])
            flow = gradient.clone()
            assert through is not None
            _through_norm(through, middle, r2, weight, into=flow)
            through, o = _pull(attended, of_o, [block.o], [flow])
            assert through is not None
            gq, gk, gv = _attended(rows, through, kept, v)
            weight, _ = block.norms[0]
            normed = (x * r).mul_(weight)
            wanted = ctx.needs_input_grad[0]
            own = normed if rows.at is None else normed[rows.at]
            through_q, q = _pull(own, of_q, [block.q], [gq], wanted)
            through, kv = _pull(normed, of_kv, [block.k, block.v], [gk, gv], wanted)
            adapters = (*q, *kv, *o, *mlp, *down)
            if through is None or through_q is None:
                return None, None, None, *adapters
            if rows.at is None:
                through += through_q
            else:
                through.index_add_(0, rows.at, through_q)
                flow = torch.zeros_like(x).index_copy_(0, rows.at, flow)
            _through_norm(through, x, r, weight, into=flow)
            return flow, None, None, *adapters

    class Head(torch.autograd.Function):
        """Hidden states x [n, d], the head's weights [vocabulary, d] and labels [n] -> of each: its label's
        log-probability, the entropy in nats, and whether the label is the likeliest. The gradient of x alone,
        made at once: a label's upstream gradient is one number."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, W: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            log_probs, entropy, first, of_x = [], [], [], []
            for hidden, label in zip(x.split(TILE), labels.split(TILE), strict=True):
                logits = hidden @ W.t()
                first.append(logits.argmax(1) == label)
                total = logits.logsumexp(1)
                log_probs.append(logits.gather(1, label[:, None])[:, 0] - total)
                p = (logits - total[:, None]).exp_()
                entropy.append(total - torch.linalg.vecdot(p, logits))
                of_x.append(W[label].sub_(p @ W))
            ctx.of_x = torch.cat(of_x)
            found = torch.cat(log_probs), torch.cat(entropy), torch.cat(first)
            ctx.mark_non_differentiable(*found[1:])
            return found

        @staticmethod
        def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
            return ctx.of_x * gradient[:, None], None, None

    return Operations(Layer, Head)
