"""How a conversation becomes tokens, and which of them are trained: the model's own chat template, the loss
on the assistant's turns.

A conversation is a list of ``{role, content}``, role one of system, user, assistant, tool; a turn may have
``tool_calls``, ``name``, ``tool_call_id``, and an assistant's turn ``weight`` 0: it is read, but not trained.
Single turns are smartdpp.models.tokens' alone.

chat The template writes the whole, tools included: the tokens are those of ``apply_chat_template``. Which of
them are an assistant's
        turn, the template says by its ``{% generation %}`` blocks; where it has none, a turn is what stands
        between the conversation
        before it, opened for an answer, and the conversation up to its end. A template that writes the
        beginning of a conversation
        otherwise once it goes on (as one that takes out earlier thoughts) is refused: what stands there is
        not what the model answered.
plain ``Role: content`` and a blank line each, tools and tool calls as JSON; after an assistant's turn the
end-of-text token. One user
        turn and its answer are the text of a single turn: prompt, a space, response.

Text that came with data is literal here too: ``<|im_end|>`` in a turn ends nothing. Before the template sees
the data, the first character of every special token in it gives way to one of Unicode's private ones; what
the template itself writes is then found, and the rest is tokenized as text with the characters put back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from smartdpp.errors import InputError
from smartdpp.models.tokens import IGNORED, Encoded, adds_bos, encode, literal, specials

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]
Text = Literal["user", "prompt", "all"]
"""Of a row as text: what the user says (a single turn's prompt) | all before the last trained turn, with
roles where that is more than one user turn (a single turn's prompt) | the whole."""
Spans = list[tuple[int, int]]
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
PRIVATE = range(0xE000, 0xF900)
UNTOLD = "whose turns cannot be told apart in the model's chat template"


class Refused(InputError):
    """One conversation that cannot become tokens; others may. ``reason`` is the same for all that fail
    alike."""

    def __init__(self, reason: str, said: str, row: str | None = None) -> None:
        super().__init__(said if row is None else f"row {row!r}: {said}")
        self.reason, self.said = reason, said


class Conversation(NamedTuple):
    """Token ids of a whole conversation; ``trained`` are the [start, end) of its trained turns in them, in
    order."""

    ids: list[int]
    trained: Spans

    @property
    def n_trained(self) -> int:
        return sum(end - start for start, end in self.trained)

    @property
    def labels(self) -> list[int]:
        found = [IGNORED] * len(self.ids)
        for start, end in self.trained:
            found[start:end] = self.ids[start:end]
        return found


Example = Encoded | Conversation


def messages_of(row: Mapping[str, Any]) -> list[Message] | None:
    """A row's turns, which a table holds as JSON; None for a single turn."""
    return _parsed(row.get("messages"))


def tools_of(row: Mapping[str, Any]) -> list[Any] | None:
    return _parsed(row.get("tools"))


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its turns and tools as JSON, as a table holds them; None where it has none."""
    given = {name: row[name] for name in ("messages", "tools") if name in row}
    return {
        **row,
        **{name: _json(value) if isinstance(value, list) else value for name, value in given.items()},
    }


def alike(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for a table: all with the same fields, turns and tools as JSON."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [dict.fromkeys(names) | flat(row) for row in rows]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def is_trained(message: Message) -> bool:
    return message["role"] == "assistant" and message.get("weight", 1) != 0


def last_only(messages: Sequence[Message]) -> list[Message]:
    """The same turns, of which the last of the trained ones alone is trained."""
    last = max((i for i, message in enumerate(messages) if is_trained(message)), default=None)
    return [
        message | {"weight": 0} if is_trained(message) and i != last else message
        for i, message in enumerate(messages)
    ]


def prompt_and_response(messages: Sequence[Message]) -> tuple[str, str]:
    """What the user says and what is trained, as text: turns joined by a blank line."""
    users = [message["content"] for message in messages if message["role"] == "user"]
    trained = [said(message) for message in messages if is_trained(message)]
    return "\n\n".join(filter(None, users)), "\n\n".join(filter(None, trained))


def said(message: Message) -> str:
    """A turn as text: its content, and each of its tool calls as a line of JSON."""
    calls = [
        _json(call.get("function", call) if isinstance(call, dict) else call)
        for call in message.get("tool_calls") or []
    ]
    return "\n".join(filter(None, [message["content"], *calls]))


def texts_of(rows: pa.Table, text: Text) -> list[str]:
    """What an encoder of texts reads of each row: see Text."""
    if text == "user":
        return list(rows["prompt"].to_pylist())
    return [_text_of(row, text) for row in rows.to_pylist()]


def _text_of(row: Mapping[str, Any], text: Text) -> str:
    messages = messages_of(row)
    if messages is None:
        return (
            "\n\n".join(filter(None, [row["prompt"], row["response"]]))
            if text == "all"
            else str(row["prompt"])
        )
    last = max((i for i, message in enumerate(messages) if is_trained(message)), default=len(messages))
    return written_out(messages if text == "all" else messages[:last])


def written_out(messages: Sequence[Message]) -> str:
    """Turns as text for whoever reads texts: one user turn alone is its content, else ``Role: content`` with
    a blank line between."""
    if [message["role"] for message in messages] == ["user"]:
        return str(messages[0]["content"])
    return "\n\n".join(f"{message['role'].capitalize()}: {said(message)}" for message in messages)


def encode_row(tokenizer: PreTrainedTokenizerBase, fmt: str, row: Mapping[str, Any]) -> Example:
    """A row's tokens: of its conversation, else of prompt and response. Refused names a row whose
    conversation cannot be rendered."""
    messages = messages_of(row)
    if messages is None:
        return encode(tokenizer, fmt, row["prompt"], row["response"])
    try:
        return render(tokenizer, fmt, messages, tools_of(row))
    except Refused as error:
        raise Refused(error.reason, error.said, row["id"]) from None


def encode_row_alone(tokenizer: PreTrainedTokenizerBase, fmt: str, row: Mapping[str, Any]) -> Example:
    """The same trained tokens without what they answer: the prompt, or all that is not trained, empty in its
    frame; no tools.

    Where nothing at all would come before the first token, the end-of-text token does: something must, for
    that token to be predicted.
    """
    messages = messages_of(row)
    if messages is None:
        found = encode(tokenizer, fmt, "", row["response"])
        return found if found.n_prompt else Encoded([tokenizer.eos_token_id, *found.ids], 1)
    bare = [
        m if is_trained(m) else {k: v for k, v in m.items() if k != "tool_calls"} | {"content": ""}
        for m in messages
    ]
    example = encode_row(tokenizer, fmt, {**row, "messages": bare, "tools": None})
    assert isinstance(example, Conversation)
    if not example.trained or example.trained[0][0]:
        return example
    return Conversation([tokenizer.eos_token_id, *example.ids], [(a + 1, b + 1) for a, b in example.trained])


def render(
    tokenizer: PreTrainedTokenizerBase, fmt: str, messages: Sequence[Message], tools: Any = None
) -> Conversation:
    """The tokens of a conversation. Refused where the template will not have it, or where its turns cannot be
    told apart."""
    if fmt == "plain":
        return _plain(tokenizer, messages, tools)
    shown = _Shown(tokenizer, messages, tools)
    text, blocks = shown.render(len(messages), tracked=True)
    spans = _turns(shown, text) if blocks is None else _of_blocks(shown, blocks)
    ids, offsets = shown.tokens(text)
    return Conversation(ids, [found for a, b in spans if (found := _inside(offsets, a, b))])


def render_prompt(
    tokenizer: PreTrainedTokenizerBase, fmt: str, messages: Sequence[Message], tools: Any = None
) -> list[int]:
    """The tokens of these turns, opened for the assistant's next: what generation continues."""
    if fmt == "plain":
        return _plain(tokenizer, messages, tools, opened=True).ids
    shown = _Shown(tokenizer, messages, tools)
    return shown.tokens(shown.render(len(messages), opened=True)[0])[0]


class _Shown:
    """A conversation as the template sees it: without weights, and with special tokens in its texts broken by
    private characters."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Any) -> None:
        if tokenizer.chat_template is None:
            raise InputError(
                "model.format is 'chat', but this model's tokenizer has no chat template: use "
                "model.format=plain"
            )
        if not tokenizer.is_fast:
            raise InputError(
                "this model's tokenizer does not say where its tokens stand in a text: use model.format=plain"
            )
        plain = [
            {name: value for name, value in m.items() if name != "weight" and value is not None}
            for m in messages
        ]
        self.tokenizer, self.given = tokenizer, messages
        self.template = tokenizer.get_chat_template(tools=tools or None)
        self.restored = _private_characters(tokenizer, [plain, tools])
        private = {character: code for code, character in self.restored.items()}
        shown: list[Any] = (
            _broken([plain, tools], _beginnings(tokenizer), private) if private else [plain, tools]
        )
        self.messages, self.tools = shown

    def render(self, n: int, *, opened: bool = False, tracked: bool = False) -> tuple[str, Spans | None]:
        """The first n turns' text, ``opened`` for the assistant's next, and where the template's generation
        blocks stand, if it has any."""
        return self.written(self.messages[:n], opened, tracked)

    def written(self, messages: Sequence[Message], opened: bool, tracked: bool) -> tuple[str, Spans | None]:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        tracked = tracked and GENERATION.search(self.template) is not None
        try:
            texts, blocks = render_jinja_template(
                conversations=[messages],
                tools=self.tools or None,
                chat_template=self.template,
                add_generation_prompt=opened,
                return_assistant_tokens_mask=tracked,
                **self.tokenizer.special_tokens_map,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise Refused(
                "refused by the model's chat template",
                f"the model's chat template refuses the conversation: {error}",
            ) from None
        return texts[0], [(a, b) for a, b in blocks[0]] if tracked else None

    def owners(self, n: int) -> list[int]:
        """Of each of the text's ``n`` generation blocks, the assistant turn that it belongs to; [] where that
        cannot be told.

        Every turn is written with a mark at its end. A block is the turn's whose mark it holds; without one
        it is of the answer before it (Phi-3's end of text), or after what the user says of the one to come.
        """
        used = set(chain.from_iterable(_texts([self.messages, self.tools])))
        free = (chr(code) for code in PRIVATE if chr(code) not in used)
        marks = {mark: i for i, mark in zip(range(len(self.messages)), free, strict=False)}
        text, blocks = self.written(
            [
                {**turn, "content": turn.get("content", "") + mark}
                for turn, mark in zip(self.messages, marks, strict=False)
            ],
            False,
            True,
        )
        answers = [turn["role"] == "assistant" for turn in self.given]
        found: list[int] = []
        for a, b in blocks or ():
            inside = {marks[c] for c in text[a:b] if c in marks}
            before = next((marks[c] for c in reversed(text[:a]) if c in marks), None)
            if not inside and before is not None:
                to_come = answers[before + 1 :]
                if answers[before]:
                    inside = set() if to_come[:1] == [True] else {before}
                elif any(to_come):
                    inside = {answers.index(True, before)}
            if len(inside) != 1 or not answers[min(inside)]:
                return []
            found += inside
        return found if len(marks) == len(self.given) and len(found) == n else []

    def tokens(self, text: str) -> tuple[list[int], Spans]:
        """Ids, and the characters of ``text`` that each stands for."""
        if not self.restored:
            return _encoded(self.tokenizer, text, split=False)
        ids: list[int] = []
        offsets: Spans = []
        at = 0
        for i, part in enumerate(_special(self.tokenizer).split(text)):
            if i % 2:  # the template's own
                found, places = [self.tokenizer.convert_tokens_to_ids(part)], [(0, len(part))]
            else:
                found, places = _encoded(self.tokenizer, part.translate(self.restored), split=True)
            ids += found
            offsets += [(at + a, at + b) for a, b in places]
            at += len(part)
        return ids, offsets


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str, *, split: bool) -> tuple[list[int], Spans]:
    if not text:
        return [], []
    found = tokenizer(text, add_special_tokens=False, split_special_tokens=split, return_offsets_mapping=True)
    return found["input_ids"], found["offset_mapping"]


@lru_cache(maxsize=4)
def _special(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    return re.compile(f"({'|'.join(map(re.escape, specials(tokenizer)))})")


@lru_cache(maxsize=4)
def _beginnings(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Matches the first character of a special token, where the rest of it follows."""
    return re.compile(
        "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in specials(tokenizer))
    )


def _private_characters(tokenizer: PreTrainedTokenizerBase, data: Any) -> dict[int, str]:
    """By private character that the data does not hold: the first character of a special token in it. Empty
    if it holds none."""
    texts = list(_texts(data))
    first = sorted({match for text in texts for match in _beginnings(tokenizer).findall(text)})
    if not first:
        return {}
    used = set(chain.from_iterable(texts))
    free = (code for code in PRIVATE if chr(code) not in used)
    return {code: character for code, character in zip(free, first, strict=False)}


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            yield from (*_texts(key), *_texts(inside))
    elif isinstance(value, list):
        for inside in value:
            yield from _texts(inside)


def _broken(value: Any, beginnings: re.Pattern[str], private: dict[str, int]) -> Any:
    if isinstance(value, str):
        return beginnings.sub(lambda match: chr(private[match[0]]), value)
    if isinstance(value, Mapping):
        return {
            _broken(key, beginnings, private): _broken(inside, beginnings, private)
            for key, inside in value.items()
        }
    return [_broken(inside, beginnings, private) for inside in value] if isinstance(value, list) else value


def _of_blocks(shown: _Shown, blocks: Spans) -> Spans:
    """The generation blocks of the trained turns. Refused where it is not clear whose they are."""
    turns = [i for i, message in enumerate(shown.given) if message["role"] == "assistant"]
    trained = {i for i in turns if is_trained(shown.given[i])}
    if len(trained) == len(turns):
        return blocks
    owners = turns if len(blocks) == len(turns) else shown.owners(len(blocks))
    if not owners:
        raise Refused(
            UNTOLD,
            f"the model's chat template marks {len(blocks)} generation blocks for {len(turns)} assistant "
            "turns, so which of them are those with weight 0 (or, with pool.turns=last, before the last) "
            "cannot be told: leave the weights out, or use pool.turns=all",
        )
    return [block for block, i in zip(blocks, owners, strict=True) if i in trained]


def _turns(shown: _Shown, text: str) -> Spans:
    """Where the trained turns stand in the text of the whole, by the text of its beginnings."""
    spans = []
    for i, message in enumerate(shown.given):
        if is_trained(message):
            before, _ = shown.render(i, opened=True)
            upto = text if i + 1 == len(shown.given) else shown.render(i + 1)[0]
            # Phi-3 ends whatever is not opened for an answer with the end-of-text token
            if not text.startswith(upto):
                upto = upto.removesuffix(str(shown.tokenizer.eos_token))
            _refuse_other(i, f"opened for turn {i + 1}", before, text)
            _refuse_other(i, f"up to turn {i + 1}", upto, text)
            spans.append((len(before), _end(shown.tokenizer, upto)))
    return spans


def _refuse_other(i: int, what: str, beginning: str, text: str) -> None:
    if text.startswith(beginning):
        return
    n = next((i for i, (a, b) in enumerate(zip(beginning, text, strict=False)) if a != b), len(text))
    part = slice(max(0, n - 20), n + 20)
    raise Refused(
        UNTOLD,
        f"the model's chat template writes the conversation {what} (assistant) otherwise than at the "
        "beginning of the whole: it ends "
        f"…{beginning[part]!r} where the whole has …{text[part]!r}, so which tokens this turn is cannot be "
        "told. Use pool.turns=last, a "
        "chat template with {% generation %} blocks, or model.format=plain",
    )


def _end(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Where the text ends, without the blanks after a turn's end token: as a single turn, an answer ends with
    that token."""
    bare = text.rstrip()
    return len(bare) if bare.endswith(tuple(specials(tokenizer))) else len(text)


def _inside(offsets: Spans, start: int, end: int) -> tuple[int, int] | None:
    """[first, last) of the tokens that stand for characters of [start, end). A token without characters
    belongs to those before it."""
    found = [i for i, (a, b) in enumerate(offsets) if b > start and (a < end or a == b == end)]
    return (found[0], found[-1] + 1) if found else None


def _plain(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Any, *, opened: bool = False
) -> Conversation:
    roles = [message["role"] for message in messages] + ["assistant"] * opened
    single = roles == ["user", "assistant"] and not tools
    ids = [tokenizer.bos_token_id] if adds_bos(tokenizer) else []
    trained: Spans = []
    waiting = f"Tools: {_json(tools)}\n\n" if tools else ""  # text that is not a token yet
    for message in messages:
        if message["role"] != "assistant":
            waiting += said(message) if single else f"{message['role'].capitalize()}: {said(message)}\n\n"
            continue
        ids += literal(tokenizer, waiting if single else waiting + "Assistant:")
        start = len(ids)
        ids += [*literal(tokenizer, " " + said(message)), tokenizer.eos_token_id]
        trained += [(start, len(ids))] if is_trained(message) else []
        waiting = "\n\n"
    if opened:
        ids += literal(tokenizer, waiting if single else waiting + "Assistant:")
    return Conversation(ids, trained)
