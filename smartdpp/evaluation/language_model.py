"""The model as lm-eval sees it, reading exactly the tokens that training wrote.

lm-eval asks a model separately for the likelihood of a response and for a generation, so every prompt is read twice. Here one request,
``answer``, does both: a prompt's tokens are read once, then the response, every choice and the generation continue from the same
key-value cache. lm-eval's own requests (`loglikelihood`, `generate_until`) work too, for its own tasks.

All text is literal: ``<|im_end|>`` inside a prompt becomes the tokens of those ten characters. Special tokens enter only where
`smartdpp.models.tokens` puts them.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from smartdpp.models.finetuned import load_finetuned
from smartdpp.models.tokens import encode, encode_prompt
from smartdpp.runtime import threads
from smartdpp.runtime.device import compute_dtype, placed

if TYPE_CHECKING:
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

    from smartdpp.types import Model

WINDOW = 128  # response tokens scored at a time: bounds the logits to batch x WINDOW x vocabulary


class Answer(NamedTuple):
    """What a model made of one document. Log-likelihoods are in nats, summed over a continuation's tokens, end-of-text excluded."""

    logprobs: list[float]  # one per continuation
    n_tokens: list[int]  # one per continuation
    n_prompt: int
    generation: str | None


def load(model: Model, adapter: Path | None, batch_size: int) -> HFLM:
    """The base or finetuned model, on a GPU in bfloat16 if there is one, else in float32."""
    weights = placed(load_finetuned(model, adapter, dtype=compute_dtype()))
    return language_model(weights, model.tokenizer(), model.format, batch_size)


def context(model: Model) -> int | None:
    """How many tokens the model reads at once, by the rule of lm-eval and without its weights; None where it cannot be told."""
    from lm_eval.models.utils import resolve_max_length
    from transformers import AutoConfig

    tokenizer = model.tokenizer()
    try:
        config = AutoConfig.from_pretrained(tokenizer.name_or_path)
    except (OSError, ValueError):  # not here, or of a kind that comes with code
        return None
    return resolve_max_length(config, tokenizer)


def language_model(weights: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fmt: str, batch_size: int) -> HFLM:
    """Wraps loaded weights. The class is defined here because its base takes seconds to import."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from tqdm import tqdm

    class LanguageModel(HFLM):
        progress: tqdm | None = None
        special_tokens = True  # those that the tokenizer puts around a text

        @torch.inference_mode()
        def answer(self, requests: list[Instance]) -> list[Answer]:
            """Requests carry (prompt, continuations, generation), the last None or {"max_new_tokens": int, "stop": str | None}."""
            prompts = [encode_prompt(tokenizer, fmt, request.args[0]) for request in requests]
            answers: dict[int, Answer] = {}
            order = sorted(range(len(requests)), key=lambda i: -len(prompts[i]))  # neighbours in length share a batch: less padding
            for start in range(0, len(order), batch_size):
                threads.settle()
                rows = order[start : start + batch_size]
                continuations = [
                    [encode(tokenizer, fmt, requests[i].args[0], text).ids[len(prompts[i]) : -1] for text in requests[i].args[1]]
                    for i in rows
                ]
                batch = _batch(self.model, tokenizer, [prompts[i] for i in rows], continuations, requests[rows[0]].args[2])
                answers.update(zip(rows, batch, strict=True))
                if self.progress is not None:
                    self.progress.update(len(rows))
            return [answers[i] for i in range(len(requests))]

        # lm-eval's own requests, for its own tasks: the same literal text and the same chat frame

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            if fmt == "chat":
                ids, n_prompt = encode(tokenizer, fmt, context, continuation.lstrip(" "))
                return ids[:n_prompt], ids[n_prompt:-1]
            return super()._encode_pair(context, continuation)

        def tok_encode(
            self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: Any
        ) -> list[int]:
            special = self.special_tokens if add_special_tokens is None else add_special_tokens
            ids = tokenizer(string, add_special_tokens=special, split_special_tokens=True)["input_ids"]
            return ids[-left_truncate_len:] if left_truncate_len else ids

        def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
            self.special_tokens = False  # lm-eval's window begins with one of its own
            try:
                return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
            finally:
                self.special_tokens = True

        def tok_batch_encode(
            self, strings: list[str], padding_side: str = "left", left_truncate_len: int | None = None, truncation: bool = False
        ) -> tuple[torch.Tensor, torch.Tensor]:
            ids = [encode_prompt(tokenizer, fmt, string)[-(left_truncate_len or 0) :] for string in strings]
            padded = tokenizer.pad({"input_ids": ids}, padding_side=padding_side, return_tensors="pt")
            return padded["input_ids"], padded["attention_mask"]

    with quiet():
        return LanguageModel(pretrained=weights, tokenizer=tokenizer, backend="causal", batch_size=batch_size)


def _batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    continuations: list[list[list[int]]],
    generation: dict | None,
) -> list[Answer]:
    """Reads B prompts once, up to their last token, and continues from there: once per continuation, once to generate."""
    import torch

    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    ids, mask = padded["input_ids"], padded["attention_mask"]  # (B, P)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = None
    if ids.shape[1] > 1:
        before = model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], position_ids=position[:, :-1], use_cache=True, logits_to_keep=1)
        cache = before.past_key_values
    last = ids[:, -1:]

    most = max(len(many) for many in continuations)
    columns = [[many[k] if k < len(many) else [] for many in continuations] for k in range(most)]
    logprobs = [_logprob(model, copy.deepcopy(cache), mask, last, column) for column in columns]
    written = [None] * len(prompts) if generation is None else _greedy(model, tokenizer, cache, mask, last, **generation)
    per_row = torch.stack(logprobs, dim=1).tolist()
    return [
        Answer(row[: len(many)], [len(continuation) for continuation in many], len(prompt), text)
        for row, many, prompt, text in zip(per_row, continuations, prompts, written, strict=True)
    ]


def _logprob(
    model: PreTrainedModel, cache: Cache | None, mask: torch.Tensor, last: torch.Tensor, continuations: list[list[int]]
) -> torch.Tensor:
    """log p(continuation | prompt), float64 (B,). ``cache`` holds the prompts without their last token, and is used up."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    target = pad_sequence([torch.tensor(c, dtype=torch.long) for c in continuations], batch_first=True, padding_value=-100).to(mask.device)
    read = torch.cat([last, target[:, :-1].clamp(min=0)], dim=1)[:, : target.shape[1]]  # each position predicts the next token
    position = mask.sum(-1, keepdim=True) - 1 + torch.arange(read.shape[1], device=mask.device)
    full = torch.cat([mask, mask.new_ones(read.shape[0], max(read.shape[1] - 1, 0))], dim=1)  # right padding is never attended to: causal
    total = torch.zeros(len(continuations), dtype=torch.float64, device=mask.device)
    for start in range(0, read.shape[1], WINDOW):
        part = slice(start, start + WINDOW)
        seen = mask.shape[1] + min(start + WINDOW, read.shape[1]) - 1
        out = model(
            input_ids=read[:, part], attention_mask=full[:, :seen], position_ids=position[:, part], past_key_values=cache, use_cache=True
        )
        cache = out.past_key_values
        nll = cross_entropy(out.logits.float().flatten(0, 1), target[:, part].flatten(), ignore_index=-100, reduction="none")
        total -= nll.double().view(len(continuations), -1).sum(1)
    return total.cpu()


def _greedy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    cache: Cache | None,
    mask: torch.Tensor,
    last: torch.Tensor,
    max_new_tokens: int,
    stop: str | None,
) -> list[str]:
    """The likeliest token at each step, until end-of-text, ``max_new_tokens`` or the ``stop`` text after something else than blanks (a chat
    model given a bare prompt often begins with a blank line). The stop text is cut off. Finished rows leave the batch."""
    import torch

    ends = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
    new: list[list[int]] = [[] for _ in range(len(last))]
    alive = list(range(len(last)))
    for _ in range(max_new_tokens):
        position = mask.sum(-1, keepdim=True) - 1
        out = model(input_ids=last, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True)
        cache, last = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        for row, token in zip(alive, last[:, 0].tolist(), strict=True):
            new[row].append(token)
        going = [i for i, row in enumerate(alive) if new[row][-1] not in ends and not (stop and stop in _text(tokenizer, new[row]))]
        if not going:
            break
        if len(going) < len(alive):
            alive = [alive[i] for i in going]
            keep = torch.tensor(going, device=mask.device)
            cache.batch_select_indices(keep)
            mask, last = mask[keep], last[keep]
    texts = [_text(tokenizer, tokens) for tokens in new]
    return [text.split(stop, 1)[0] if stop else text for text in texts]


def _text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True)).lstrip()


@contextmanager
def quiet() -> Iterator[None]:
    """Libraries' notes and warnings about being used as a library; errors still show."""
    from transformers.utils import logging as hf

    logger = logging.getLogger("lm_eval")
    before = logger.level, hf.get_verbosity(), hf.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    hf.set_verbosity_error()
    hf.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(before[0])
        hf.set_verbosity(before[1])
        if before[2]:
            hf.enable_progress_bar()
