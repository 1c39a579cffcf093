"""One forward pass: how likely the response was, and how far the prediction stood from it.

Logits are made only where a token of the response is predicted: the hidden states are gathered before the
output layer, and the vocabulary-wide float32 numbers are held for CHUNK tokens at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.models.batches import IGNORED, Batch, run_batches, texts
from smartdpp.models.turns import Example, encode_row_alone

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHUNK = 1024  # tokens whose probabilities over the vocabulary are in memory together


def likelihood(
    model: PreTrainedModel,
    examples: Sequence[Example],
    pad_id: int,
    max_tokens: int,
    ids: Sequence[str] | None = None,
) -> Iterator[tuple[Batch, np.ndarray, np.ndarray]]:
    """(batch of b rows, nll float64[b], el2n float64[b]) for every batch; both are means over the response's
    tokens and its end token.

    nll = -1/|y| Σ_t log p(y_t), el2n = 1/|y| Σ_t ‖p_t - onehot(y_t)‖₂ (Paul et al. 2021). Softmax in float32,
    means in float64.
    """
    import torch

    @torch.inference_mode()
    def work(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        batch = batch.to(model.device)
        target = batch.labels[:, 1:]
        predicts = target != IGNORED
        with gathered(model, predicts):
            # no attention mask: padding stands to the right, where causal attention never looks
            logits = model(input_ids=batch.input_ids, use_cache=False).logits
        nll, el2n = _per_token(logits, target[predicts])
        example = predicts.nonzero()[:, 0].cpu().numpy()
        n = np.bincount(example)
        # summed on the processor: a GPU adds in no fixed order
        return np.bincount(example, weights=nll) / n, np.bincount(example, weights=el2n) / n

    model.eval()
    for batch, (nll, el2n) in run_batches(examples, max_tokens, pad_id, work, ids):
        yield batch, nll, el2n


def alone(tokenizer: PreTrainedTokenizerBase, fmt: str, rows: pa.Table) -> list[Example]:
    """The responses with an empty prompt: the chat frame around nothing, or in plain format the
    beginning-of-text token. Of a conversation the trained turns, what is not trained being empty.

    Where a tokenizer begins no text with one, the end-of-text token stands in its place: something must come
    before the first token for that token to be predicted, and what is scored stays the same tokens as with
    the prompt.
    """
    return [encode_row_alone(tokenizer, fmt, row) for row in texts(rows).to_pylist()]


def _per_token(logits: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    import torch

    nll, el2n = [], []
    for part, y in zip(logits.split(CHUNK), target.split(CHUNK), strict=True):
        logp = part.float().log_softmax(-1)
        at = torch.arange(len(y), device=y.device)
        likely = logp[at, y]
        p = logp.exp_()
        p[at, y] = 0
        # 1 - p(y): where the model is certain, 1 and log 1 would be all that float32 keeps of p(y)
        others = p.sum(-1)
        nll.append(torch.where(others < 0.5, -torch.log1p(-others), -likely))
        p[at, y] = -others
        el2n.append(p.norm(dim=-1))
    return torch.cat(nll).double().cpu().numpy(), torch.cat(el2n).double().cpu().numpy()


@contextmanager
def gathered(model: PreTrainedModel, where: Tensor) -> Iterator[None]:
    """Meanwhile the output layer sees [n, hidden]: the states at ``where``, bool[b, t - 1], its true
    positions in row-major order."""

    def gather(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return inputs[0][:, :-1][where]

    hook = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        yield
    finally:
        hook.remove()
