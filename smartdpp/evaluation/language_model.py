"""The model as lm-eval sees it, reading exactly the tokens that training wrote.

lm-eval asks a model separately for the likelihood of a response and for a generation, so every prompt is read
twice. Here one request, ``answer``, does both: a prompt's tokens are read once, then the response, every
choice and the generation continue from the same key-value cache. lm-eval's own requests (`loglikelihood`,
`generate_until`) work too, for its own tasks.

Of a conversation every trained turn is scored, each after the conversation as it was until then; what is
generated is the last of them.

All text is literal: ``<|im_end|>`` inside a prompt becomes the tokens of those ten characters. Special tokens
enter only where `smartdpp.models.tokens` puts them.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from smartdpp.evaluation.reading import Reader, Segment, continued, reader
from smartdpp.models.finetuned import load_finetuned
from smartdpp.models.tokens import IGNORED, encode, encode_prompt, end_of
from smartdpp.models.turns import Conversation, encode_row, is_trained, messages_of, render_prompt, tools_of
from smartdpp.runtime import threads
from smartdpp.runtime.device import compute_dtype, placed
from smartdpp.runtime.products import quick_products

if TYPE_CHECKING:
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

    from smartdpp.types import Model

WINDOW = 128  # response tokens scored at a time: bounds the logits to batch x WINDOW x vocabulary


class Answer(NamedTuple):
    """What a model made of one document. Log-likelihoods are in nats, summed over a continuation's tokens,
    end-of-text excluded."""

    logprobs: list[float]  # one per continuation
    n_tokens: list[int]  # one per continuation
    n_prompt: int
    generation: str | None
    n_bytes: int | None = None  # of a conversation's scored text
    target: str | None = None  # of a conversation, what the generation is compared with


class Continuation(NamedTuple):
    ids: list[int]
    labels: list[int]  # the ids that are scored, IGNORED where one is only read


class Asked(NamedTuple):
    """One document's work, or a part of it."""

    row: int
    prompt: list[int]
    continuations: list[Continuation]
    generation: dict[str, Any] | None


class Spoken(NamedTuple):
    """A conversation, as it is scored."""

    prompt: list[int]  # up to the first trained turn
    rest: Continuation
    opened: list[int]  # up to the last trained turn, opened for it
    target: str  # that turn


def load(model: Model, adapter: Path | None, batch_size: int) -> HFLM:
    """The base or finetuned model, on a GPU in bfloat16 if there is one, else in float32, where an adapter is
    added to the weights: in fewer bits that would round it away."""
    import torch

    weights = placed(load_finetuned(model, adapter, dtype=compute_dtype()))
    if compute_dtype() is torch.float32 and hasattr(weights, "merge_and_unload"):
        weights = weights.merge_and_unload()
    weights.requires_grad_(False)
    return language_model(weights, model.tokenizer(), model.format, batch_size)


def context(model: Model) -> int | None:
    """How many tokens the model reads at once, by the rule of lm-eval and without its weights; None where it
    cannot be told."""
    from lm_eval.models.utils import resolve_max_length
    from transformers import AutoConfig

    tokenizer = model.tokenizer()
    try:
        config = AutoConfig.from_pretrained(tokenizer.name_or_path)
    except (OSError, ValueError):  # not here, or of a kind that comes with code
        return None
    return resolve_max_length(config, tokenizer)


def language_model(
    weights: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fmt: str, batch_size: int
) -> HFLM:
    """Wraps loaded weights. The class is defined here because its base takes seconds to import."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from tqdm import tqdm

    ends = ends_of(weights, tokenizer, fmt)
    if tokenizer.eos_token_id != end_of(tokenizer, fmt):  # lm-eval's own generation ends where this says
        weights.generation_config.eos_token_id = sorted(ends)

    class LanguageModel(HFLM):
        progress: tqdm | None = None
        special_tokens = True  # those that the tokenizer puts around a text

        @torch.inference_mode()
        @quick_products()
        def answer(self, requests: list[Instance]) -> list[Answer]:
            """Requests carry (prompt, continuations, generation), the last None or {"max_new_tokens": int,
            "stop": str | None}."""
            parts = [
                part for i, request in enumerate(requests) for part in _asked(tokenizer, fmt, i, request)
            ]
            answers: dict[int, Answer] = {}
            for generates in (False, True):
                order = [part for part in parts if (part.generation is not None) is generates]
                # neighbours in length share a batch: less padding
                order.sort(key=lambda part: -len(part.prompt))
                for start in range(0, len(order), batch_size):
                    threads.settle()
                    batch = order[start : start + batch_size]
                    found = _batch(self.model, tokenizer, batch, batch[0].generation, ends)
                    for part, answer in zip(batch, found, strict=True):
                        scored = answers.get(part.row)  # a conversation's turns, before its last is generated
                        answers[part.row] = (
                            scored._replace(generation=answer.generation) if scored else answer
                        )
                    if self.progress is not None:
                        self.progress.update(sum(bool(part.continuations) for part in batch))
            return [_told(tokenizer, fmt, request, answers[i]) for i, request in enumerate(requests)]

        # lm-eval's own requests, for its own tasks: the same literal text and the same chat frame

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            if fmt == "chat":
                ids, n_prompt = encode(tokenizer, fmt, context, continuation.lstrip(" "))
                return ids[:n_prompt], ids[n_prompt:-1]
            return super()._encode_pair(context, continuation)

        def tok_encode(
            self,
            string: str,
            add_special_tokens: bool | None = None,
            left_truncate_len: int | None = None,
            **_: Any,
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
            self,
            strings: list[str],
            padding_side: str = "left",
            left_truncate_len: int | None = None,
            truncation: bool = False,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            ids = [encode_prompt(tokenizer, fmt, string)[-(left_truncate_len or 0) :] for string in strings]
            padded = tokenizer.pad({"input_ids": ids}, padding_side=padding_side, return_tensors="pt")
            return padded["input_ids"], padded["attention_mask"]

    with quiet():
        return LanguageModel(pretrained=weights, tokenizer=tokenizer, backend="causal", batch_size=batch_size)


def _asked(tokenizer: PreTrainedTokenizerBase, fmt: str, i: int, request: Instance) -> Iterator[Asked]:
    """A request's work: all at once, or of a conversation its scores and its generation, which go on from
    different tokens."""
    text, continuations, generation = request.args
    if (conversation := spoken(tokenizer, fmt, request.doc)) is None:
        prompt = encode_prompt(tokenizer, fmt, text)
        after = [encode(tokenizer, fmt, text, one).ids[len(prompt) : -1] for one in continuations]
        yield Asked(i, prompt, [Continuation(ids, ids) for ids in after], generation)
        return
    yield Asked(i, conversation.prompt, [conversation.rest], None)
    if generation is not None:
        yield Asked(i, conversation.opened, [], generation)


def _told(tokenizer: PreTrainedTokenizerBase, fmt: str, request: Instance, answer: Answer) -> Answer:
    """The answer, with what of a conversation its tokens alone tell."""
    if (conversation := spoken(tokenizer, fmt, request.doc)) is None:
        return answer
    ids, labels = conversation.rest
    scored = tokenizer.decode([token for token, label in zip(ids, labels, strict=True) if label != IGNORED])
    n_read = answer.n_prompt + len(ids) - answer.n_tokens[0]
    return answer._replace(n_prompt=n_read, n_bytes=len(scored.encode()), target=conversation.target)


def spoken(tokenizer: PreTrainedTokenizerBase, fmt: str, row: Any) -> Spoken | None:
    """A document that is a conversation; None for a single turn. The end of a turn is not scored, as a single
    response's is not."""
    messages = messages_of(row) if isinstance(row, dict) else None
    if messages is None:
        return None
    example = encode_row(tokenizer, fmt, row)
    assert isinstance(example, Conversation)
    ends = set(tokenizer.all_special_ids)
    spans = [
        (a, next((i for i in range(b, a, -1) if example.ids[i - 1] not in ends), a))
        for a, b in example.trained
    ]
    labels = Conversation(example.ids, spans).labels
    first = spans[0][0] if spans else len(labels)
    last = max((i for i, message in enumerate(messages) if is_trained(message)), default=0)
    opened = render_prompt(tokenizer, fmt, messages[:last], tools_of(row))
    target = _text(tokenizer, example.ids[slice(*spans[-1])]) if spans else ""
    end = spans[-1][1] if spans else first
    return Spoken(
        example.ids[:first], Continuation(example.ids[first:end], labels[first:end]), opened, target
    )


def _scored(continuation: Continuation) -> int:
    return sum(label != IGNORED for label in continuation.labels)


def _batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: list[Asked],
    generation: dict | None,
    ends: set[int],
) -> list[Answer]:
    """Reads B prompts once, up to their last token, and continues from there: once per continuation, once to
    generate."""
    import torch

    prompts, continuations = [part.prompt for part in asked], [part.continuations for part in asked]
    room = 0 if generation is None else generation["max_new_tokens"]
    longest = [
        len(p) + max([room, *(len(c.ids) for c in many)])
        for p, many in zip(prompts, continuations, strict=True)
    ]
    if (reading := reader(model, longest)) is not None:
        return _read(reading, tokenizer, asked, generation, ends)
    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    ids, mask = padded["input_ids"], padded["attention_mask"]  # (B, P)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = None
    if ids.shape[1] > 1:
        before = model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=position[:, :-1],
            use_cache=True,
            logits_to_keep=1,
        )
        cache = before.past_key_values
    last = ids[:, -1:]

    most = max(len(many) for many in continuations)
    columns = [
        [many[k] if k < len(many) else Continuation([], []) for many in continuations] for k in range(most)
    ]
    logprobs = [_logprob(model, copy.deepcopy(cache), mask, last, column) for column in columns]
    written = (
        [None] * len(prompts)
        if generation is None
        else _greedy(model, tokenizer, cache, mask, last, ends, **generation)
    )
    per_row = torch.stack(logprobs, dim=1).tolist() if logprobs else [[] for _ in prompts]
    return [
        Answer(row[: len(many)], [_scored(continuation) for continuation in many], len(prompt), text)
        for row, many, prompt, text in zip(per_row, continuations, prompts, written, strict=True)
    ]


def _read(
    reading: Reader,
    tokenizer: PreTrainedTokenizerBase,
    asked: list[Asked],
    generation: dict | None,
    ends: set[int],
) -> list[Answer]:
    """The same without padding, for models whose layers are known."""
    prompts = [part.prompt for part in asked]
    reading.prompts(prompts)
    scores = iter(
        continued(reading, prompts, [(i, *one) for i, part in enumerate(asked) for one in part.continuations])
    )
    logprobs = [[next(scores) for _ in part.continuations] for part in asked]
    written = (
        [None] * len(asked)
        if generation is None
        else _written(reading, tokenizer, prompts, ends, **generation)
    )
    return [
        Answer(found, [_scored(one) for one in part.continuations], len(part.prompt), text)
        for found, part, text in zip(logprobs, asked, written, strict=True)
    ]


def _written(
    reading: Reader,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    ends: set[int],
    max_new_tokens: int,
    stop: str | None,
) -> list[str]:
    """As `_greedy` says."""
    import torch

    new: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))  # the row in each place
    for _ in range(max_new_tokens):
        segments = [
            Segment(place, len(prompts[row]) + len(new[row]) - 1, [[*prompts[row][-1:], *new[row]][-1]])
            for place, row in enumerate(alive)
        ]
        hidden = reading.read(segments, torch.arange(len(alive)), keep=True)
        assert hidden is not None
        for row, token in zip(
            alive, (hidden @ reading.model.lm_head.weight.t()).argmax(-1).tolist(), strict=True
        ):
            new[row].append(token)
        for place in reversed(range(len(alive))):
            if _finished(tokenizer, new[alive[place]], ends, stop):
                if place != len(alive) - 1:
                    reading.move(len(alive) - 1, place)
                    alive[place] = alive[-1]
                alive.pop()
        if not alive:
            break
    return _cut(tokenizer, new, stop)


def ends_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fmt: str) -> set[int]:
    """The tokens that end an answer: the end of text, what a response is trained to end with, and what the
    model's own configuration names, if it does."""
    own: Any = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, end_of(tokenizer, fmt), *(own if isinstance(own, list) else [own])}
    return ends - {None}


def _finished(
    tokenizer: PreTrainedTokenizerBase, tokens: list[int], ends: set[int], stop: str | None
) -> bool:
    return tokens[-1] in ends or bool(stop and stop in _text(tokenizer, tokens))


def _cut(tokenizer: PreTrainedTokenizerBase, new: list[list[int]], stop: str | None) -> list[str]:
    texts = [_text(tokenizer, tokens) for tokens in new]
    return [text.split(stop, 1)[0] if stop else text for text in texts]


def _logprob(
    model: PreTrainedModel,
    cache: Cache | None,
    mask: torch.Tensor,
    last: torch.Tensor,
    continuations: list[Continuation],
) -> torch.Tensor:
    """log p of what is scored of each continuation, given all before it, float64 (B,).

    ``cache`` holds the prompts without their last token, and is used up.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    def padded(sequences: list[list[int]], filling: int) -> torch.Tensor:
        tensors = [torch.tensor(one, dtype=torch.long) for one in sequences]
        return pad_sequence(tensors, batch_first=True, padding_value=filling).to(mask.device)

    target = padded([c.labels for c in continuations], IGNORED)
    ids = padded([c.ids for c in continuations], 0)
    read = torch.cat([last, ids[:, :-1]], dim=1)[:, : ids.shape[1]]  # each position predicts the next token
    position = mask.sum(-1, keepdim=True) - 1 + torch.arange(read.shape[1], device=mask.device)
    # right padding is never attended to: causal
    full = torch.cat([mask, mask.new_ones(read.shape[0], max(read.shape[1] - 1, 0))], dim=1)
    total = torch.zeros(len(continuations), dtype=torch.float64, device=mask.device)
    for start in range(0, read.shape[1], WINDOW):
        part = slice(start, start + WINDOW)
        seen = mask.shape[1] + min(start + WINDOW, read.shape[1]) - 1
        out = model(
            input_ids=read[:, part],
            attention_mask=full[:, :seen],
            position_ids=position[:, part],
            past_key_values=cache,
            use_cache=True,
        )
        cache = out.past_key_values
        nll = cross_entropy(
            out.logits.float().flatten(0, 1),
            target[:, part].flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        total -= nll.double().view(len(continuations), -1).sum(1)
    return total.cpu()


def _greedy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    cache: Cache | None,
    mask: torch.Tensor,
    last: torch.Tensor,
    ends: set[int],
    max_new_tokens: int,
    stop: str | None,
) -> list[str]:
    """The likeliest token at each step, until one of ``ends``, ``max_new_tokens`` or the ``stop`` text after
    something else than blanks (a chat model given a bare prompt often begins with a blank line). The stop
    text is cut off. Finished rows leave the batch."""
    import torch

    new: list[list[int]] = [[] for _ in range(len(last))]
    alive = list(range(len(last)))
    for _ in range(max_new_tokens):
        position = mask.sum(-1, keepdim=True) - 1
        out = model(
            input_ids=last, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        )
        cache, last = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        for row, token in zip(alive, last[:, 0].tolist(), strict=True):
            new[row].append(token)
        going = [i for i, row in enumerate(alive) if not _finished(tokenizer, new[row], ends, stop)]
        if not going:
            break
        if len(going) < len(alive):
            alive = [alive[i] for i in going]
            keep = torch.tensor(going, device=mask.device)
            cache.batch_select_indices(keep)
            mask, last = mask[keep], last[keep]
    return _cut(tokenizer, new, stop)


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
