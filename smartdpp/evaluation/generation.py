"""Answers that a model writes to rows, kept in a file as they come: what was interrupted goes on with the
next batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.evaluation import engines
from smartdpp.evaluation.language_model import ends_of, quiet, spoken
from smartdpp.models.finetuned import Finetuned, load_finetuned
from smartdpp.models.tokens import encode_prompt
from smartdpp.runtime import threads
from smartdpp.runtime.device import compute_dtype, placed
from smartdpp.runtime.products import quick_products
from smartdpp.store.disk import write_text
from smartdpp.types import Model, Row

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FILE = "generations.jsonl"
MORE = 16  # batches that another engine is given at once


@dataclass(frozen=True)
class Sampling:
    """Temperature 0 takes the likeliest token. Above it every answer is drawn by a generator of its own, from
    ``seed`` and the row's id, so that it does not depend on the rows beside it."""

    max_new_tokens: int
    stop: str | None  # an answer also ends here
    temperature: float
    seed: int


@dataclass(frozen=True)
class Generation:
    """One line of the file."""

    task: str
    id: str
    answer: str
    tokens: int  # that were written, the end among them
    ended: str  # by the model itself: end; at the stop text: stop; it was cut: length


def generated(
    model: Model,
    adapter: Path | None,
    rows: list[Row],
    path: Path,
    how: Sampling,
    batch_size: int,
    engine: engines.Engine = "plain",
) -> list[Generation]:
    """An answer to each row, in order: of a conversation to all before its last trained turn. ``path`` holds
    whole batches, and in the end all in this order; the model is loaded only if some are missing. Greedy
    answers are the same from every ``engine`` up to rounding."""
    from tqdm import tqdm

    done = {(one.task, one.id): one for one in (read(path) if path.is_file() else [])}
    missing = [row for row in rows if (row["task"], row["id"]) not in done]
    if missing:
        tokenizer = model.tokenizer()
        prompts = [prompt_tokens(tokenizer, model.format, row) for row in missing]
        order = sorted(range(len(missing)), key=lambda i: -len(prompts[i]))  # less padding
        with quiet(), tqdm(total=len(rows), initial=len(done), unit="answer", desc="generating") as progress:
            write_batch = _writer(engine, model, adapter, tokenizer, how, batch_size)
            step = batch_size if engine == "plain" else MORE * batch_size
            for start in range(0, len(order), step):
                threads.settle()
                batch = order[start : start + step]
                written = write_batch([(missing[i], prompts[i]) for i in batch])
                done |= {(one.task, one.id): one for one in written}
                write(path, list(done.values()))
                progress.update(len(batch))
    found = [done[row["task"], row["id"]] for row in rows]
    write(path, found)
    return found


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, fmt: str, row: Row) -> list[int]:
    conversation = spoken(tokenizer, fmt, row)
    return conversation.opened if conversation else encode_prompt(tokenizer, fmt, row["prompt"])


def read(path: Path) -> list[Generation]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [Generation(**json.loads(line)) for line in lines]


def write(path: Path, generations: list[Generation]) -> None:
    write_text(path, "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in generations))


Asked = list[tuple[Row, list[int]]]
"""Rows and the tokens of what is asked."""


def _writer(
    engine: engines.Engine,
    model: Model,
    adapter: Path | None,
    tokenizer: PreTrainedTokenizerBase,
    how: Sampling,
    batch_size: int,
) -> Callable[[Asked], list[Generation]]:
    """Loads the model where the engine wants it."""
    if engine == "vllm":
        whole: Any = model if adapter is None else Finetuned(model, str(adapter))
        weights = whole.load(dtype=compute_dtype())
        ends = ends_of(weights, tokenizer, model.format)
        write = engines.vllm(weights, tokenizer, how.max_new_tokens, ends)

        def by_vllm(asked: Asked) -> list[Generation]:
            seeds = [(_number(row) + how.seed) % 2**31 for row, _ in asked]
            return _told(
                tokenizer, asked, write([ids for _, ids in asked], how.temperature, seeds), ends, how
            )

        return by_vllm
    weights = placed(load_finetuned(model, adapter, dtype=compute_dtype())).eval()
    ends = ends_of(weights, tokenizer, model.format)
    if engine == "plain":
        return lambda asked: _written(weights, tokenizer, asked, how, ends)
    inner = weights.get_base_model() if hasattr(weights, "get_base_model") else weights

    def by_continuous(asked: Asked) -> list[Generation]:
        prompts = [ids for _, ids in asked]
        found = engines.continuous(inner, prompts, how.max_new_tokens, ends, batch_size)
        return _told(tokenizer, asked, found, ends, how)

    return by_continuous


def _written(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: list[tuple[Row, list[int]]],
    how: Sampling,
    ends: set[int],
) -> list[Generation]:
    """A batch: its prompts are read once, then a token of every unfinished answer at a time."""
    import torch

    chooses = [_chooses(how, row) for row, _ in asked]
    new: list[list[int]] = [[] for _ in asked]
    ended = ["length"] * len(asked)
    alive = list(range(len(asked)))
    padded = tokenizer.pad(
        {"input_ids": [ids for _, ids in asked]}, padding_side="left", return_tensors="pt"
    ).to(model.device)
    read, mask, cache = padded["input_ids"], padded["attention_mask"], None
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode(), quick_products():
        for _ in range(how.max_new_tokens):
            out = model(
                input_ids=read,
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache, logits = out.past_key_values, out.logits[:, -1]
            chosen = _next(logits, [chooses[i] for i in alive])
            for i, token in zip(alive, chosen, strict=True):
                new[i].append(token)
                ended[i] = _ended(tokenizer, new[i], ends, how)
            going = [k for k, i in enumerate(alive) if ended[i] == "length"]
            if not going:
                break
            if len(going) < len(alive):  # finished rows leave the batch
                keep = torch.tensor(going, device=mask.device)
                alive, mask = [alive[k] for k in going], mask[keep]
                cache.batch_select_indices(keep)
            read = torch.tensor([[new[i][-1]] for i in alive], device=mask.device)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            position = mask.sum(-1, keepdim=True) - 1
    return [
        _answer(tokenizer, row, tokens, end, how)
        for (row, _), tokens, end in zip(asked, new, ended, strict=True)
    ]


def _told(
    tokenizer: PreTrainedTokenizerBase, asked: Asked, written: list[list[int]], ends: set[int], how: Sampling
) -> list[Generation]:
    """Whole answers, each up to where it ends."""
    found = []
    for (row, _), tokens in zip(asked, written, strict=True):
        ended, n = "length", 0
        while ended == "length" and n < len(tokens):
            n += 1
            ended = _ended(tokenizer, tokens[:n], ends, how)
        found.append(_answer(tokenizer, row, tokens[:n], ended, how))
    return found


def _ended(tokenizer: PreTrainedTokenizerBase, tokens: list[int], ends: set[int], how: Sampling) -> str:
    """Whether the last of these tokens ends the answer; ``length`` where only the limit does."""
    if tokens[-1] in ends:
        return "end"
    return "stop" if how.stop and how.stop in _text(tokenizer, tokens) else "length"


def _answer(
    tokenizer: PreTrainedTokenizerBase, row: Row, tokens: list[int], ended: str, how: Sampling
) -> Generation:
    text = _text(tokenizer, tokens)
    text = text.split(how.stop, 1)[0] if how.stop else text
    return Generation(row["task"], row["id"], text, len(tokens), ended)


Choose = Callable[[np.ndarray], int] | None
"""Draws a token from float64 logits; None takes the likeliest."""


def _next(logits: torch.Tensor, chooses: list[Choose]) -> list[int]:
    if chooses[0] is None:
        return logits.argmax(-1).tolist()
    numbers = logits.double().cpu().numpy()
    return [choose(row) for choose, row in zip(chooses, numbers, strict=True) if choose]


def _chooses(how: Sampling, row: Row) -> Choose:
    if how.temperature == 0:
        return None
    rng = np.random.default_rng([how.seed, _number(row)])

    def draw(logits: np.ndarray) -> int:
        weight = np.exp((logits - logits.max()) / how.temperature).cumsum()
        return min(int(np.searchsorted(weight, rng.random() * weight[-1], side="right")), len(weight) - 1)

    return draw


def _number(row: Row) -> int:
    """Of eight bytes, by the row's name."""
    return int.from_bytes(blake2b(f"{row['task']}\n{row['id']}".encode(), digest_size=8).digest())


def _text(tokenizer: Any, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True)).lstrip()
