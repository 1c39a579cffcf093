"""How a row becomes tokens: one place, used by the length filter, training and evaluation alike.

Text that came with data is literal. A prompt that contains ``<|im_start|>`` is encoded as those ten
characters, never as the special token, because data is always tokenized with ``split_special_tokens``;
special tokens enter only from the format below.

plain prompt + " " + response + EOS, as SMART trains (arXiv 2403.08370); here the end of the text is taught
too chat the tokenizer's chat template around one user turn, then the response and the token that the template
writes after an assistant's turn (EOS, where that is no special token)

Conversations of more turns: see smartdpp.models.turns.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from smartdpp.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMATS = ("plain", "chat")
IGNORED = -100  # the label that PyTorch's cross-entropy skips
MARK = "\u2e2e"  # stands for a turn's text, which itself never passes through the template


class Encoded(NamedTuple):
    ids: list[int]  # prompt, response, end
    n_prompt: int  # ids[:n_prompt] is the prompt; ids[n_prompt:-1] the response

    @property
    def n_trained(self) -> int:
        return len(self.ids) - self.n_prompt

    @property
    def labels(self) -> list[int]:
        """The tokens that the loss is taken on, IGNORED elsewhere."""
        return [IGNORED] * self.n_prompt + self.ids[self.n_prompt :]


def encode(tokenizer: PreTrainedTokenizerBase, fmt: str, prompt: str, response: str) -> Encoded:
    """Token ids of a training example. The loss belongs to ``ids[n_prompt:]``."""
    before = encode_prompt(tokenizer, fmt, prompt)
    after = literal(tokenizer, response if fmt == "chat" else " " + response)
    return Encoded([*before, *after, end_of(tokenizer, fmt)], len(before))


def encode_prompt(tokenizer: PreTrainedTokenizerBase, fmt: str, prompt: str) -> list[int]:
    """Token ids up to where the response begins: what generation continues."""
    if fmt == "chat":
        opening, closing = _chat_frame(tokenizer)
        return opening + literal(tokenizer, prompt) + closing
    if fmt == "plain":
        bos = [tokenizer.bos_token_id] if adds_bos(tokenizer) else []
        return bos + literal(tokenizer, prompt)
    raise InputError(f"model.format is {fmt!r}: choose one of {', '.join(FORMATS)}")


def literal(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def end_of(tokenizer: PreTrainedTokenizerBase, fmt: str) -> int:
    """The token that ends a response."""
    return _turn_end(tokenizer) if fmt == "chat" else tokenizer.eos_token_id


def own_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that ends an assistant's turn in the chat template, empty where it is the end of text."""
    end = _turn_end(tokenizer)
    return "" if end == tokenizer.eos_token_id else str(tokenizer.convert_ids_to_tokens(end))


@lru_cache(maxsize=4)
def _turn_end(tokenizer: PreTrainedTokenizerBase) -> int:
    """The end of text where the template has no special token after an assistant's turn, or will not say."""
    turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": MARK}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # templates raise what they like
        return tokenizer.eos_token_id
    _, _, after = text.rpartition(MARK)
    found = (token for token in specials(tokenizer) if MARK in text and after.lstrip().startswith(token))
    return tokenizer.convert_tokens_to_ids(next(found, tokenizer.eos_token))


@lru_cache(maxsize=4)
def specials(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """All special tokens, longer ones first."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted(added | set(tokenizer.all_special_tokens), key=lambda token: (-len(token), token))


@lru_cache(maxsize=4)
def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    # asked of the tokenizer itself: Llama's begins every text with BOS, SmolLM2's does not
    return tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


@lru_cache(maxsize=4)
def _chat_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the chat template puts before and after a user turn's text; special tokens are allowed here."""
    if tokenizer.chat_template is None:
        raise InputError(
            "model.format is 'chat', but this model's tokenizer has no chat template: use model.format=plain"
        )
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": MARK}], tokenize=False, add_generation_prompt=True
    )
    opening, _, closing = text.partition(MARK)
    return tuple(
        tokenizer(part, add_special_tokens=False, split_special_tokens=False)["input_ids"]
        for part in (opening, closing)
    )
