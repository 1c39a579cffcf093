"""What a model that rates makes of each example: a causal model asked for a number from 1 to 5, or a reward
model.

The number is not generated: the probabilities of the five digits as the next token, as parts of their sum.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.errors import InputError
from smartdpp.models.anatomy import positions
from smartdpp.models.batches import IGNORED, Batch, run_batches
from smartdpp.models.tokens import Encoded, encode, encode_prompt, literal
from smartdpp.signals.likelihood import gathered

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)
SCORES = np.arange(1, 6)


def ratings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    fmt: str,
    rows: pa.Table,
    prompts: Sequence[str],
    max_tokens: int,
) -> np.ndarray:
    """float64[m, 3]: the mean over prompts of the expected score Σ s p_s; mean and deviation over prompts of
    SelectIT's token score (Liu et al. 2024, arXiv 2402.16705), k (p_k - mean of the other p), k = argmax p.
    """
    ids, tokens = rows["id"].to_pylist(), digits(tokenizer)
    limit, hard = positions(model)
    pairs = list(zip(rows["prompt"].to_pylist(), rows["response"].to_pylist(), strict=True))
    p = np.empty((len(prompts), len(rows), len(SCORES)))
    for number, asked in enumerate(prompts):
        texts = [question(asked, *pair) for pair in pairs]
        before = [encode_prompt(tokenizer, fmt, text) for text in texts]
        examples = [Encoded([*start, tokens[0]], len(start)) for start in before]
        n, name = max((len(one.ids), name) for one, name in zip(examples, ids, strict=True))
        if hard and limit and n > limit:
            raise InputError(
                f"row {name}: quality=rated asks about it in {n} tokens, and the model has positions for "
                f"{limit}: take shorter examples (pool.max_tokens) or quality.prompts"
            )
        for batch, found in run_batches(
            examples, max_tokens, tokenizer.pad_token_id, _next(model, tokens), ids
        ):
            p[number, batch.rows] = found
    most = p.max(axis=2)
    gap = (len(SCORES) * most - p.sum(axis=2)) / (len(SCORES) - 1)
    own = SCORES[p.argmax(axis=2)] * gap
    return np.stack([(p @ SCORES).mean(axis=0), own.mean(axis=0), own.std(axis=0)], axis=1)


def question(asked: str, prompt: str, response: str) -> str:
    """What the rating model reads; its next token is the score."""
    return f"{asked}\nInstruction: {prompt}\nResponse: {response}\nThe answer is:\n"


def digits(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of "1" to "5" after a line break. InputError where they are not one token each."""
    alone = literal(tokenizer, "\n")
    found = [literal(tokenizer, f"\n{score}") for score in SCORES]
    last = [ids[-1] for ids in found]
    if len(set(last)) < len(SCORES) or any(len(ids) > len(alone) + 1 for ids in found):
        raise InputError(
            "quality=rated: this model's tokenizer has no token for each of 1 to 5: take another model."
        )
    return last


def _next(model: PreTrainedModel, tokens: Sequence[int]):  # type: ignore[no-untyped-def]
    """What makes of a batch float64[b, 5]: the probabilities of ``tokens`` where each row's last one
    stands."""
    import torch

    @torch.inference_mode()
    def work(batch: Batch) -> np.ndarray:
        batch = batch.to(model.device)
        with gathered(model, batch.labels[:, 1:] != IGNORED):
            # no attention mask: padding stands to the right, where causal attention never looks
            logits = model(input_ids=batch.input_ids, use_cache=False).logits
        return logits[:, list(tokens)].double().softmax(-1).cpu().numpy()

    model.eval()
    return work


def rewards(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: pa.Table,
    fmt: str,
    pair: bool,
    max_tokens: int,
) -> np.ndarray:
    """float64[m, 1]: the one number that a sequence classification model gives of prompt and response."""
    import torch

    pairs = list(zip(rows["prompt"].to_pylist(), rows["response"].to_pylist(), strict=True))
    if pair:
        ids = [tokenizer(*both, split_special_tokens=True)["input_ids"] for both in pairs]
    else:
        ids = [encode(tokenizer, fmt, *both).ids for both in pairs]
    limit = getattr(model.config, "max_position_embeddings", None) or max(map(len, ids))
    if long := sum(len(some) > limit for some in ids):
        log.warning(
            "quality=reward: %d of %d rows are longer than the %d tokens it reads: cut", long, len(ids), limit
        )
    examples = [Encoded(some[:limit], 0) for some in ids]

    @torch.inference_mode()
    def work(batch: Batch) -> np.ndarray:
        batch = batch.to(model.device)
        return (
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
            .logits[:, :1]
            .double()
            .cpu()
            .numpy()
        )

    model.eval()
    found = np.empty((len(rows), 1))
    for batch, reward in run_batches(
        examples, max_tokens, tokenizer.pad_token_id, work, rows["id"].to_pylist()
    ):
        found[batch.rows] = reward
    return found
