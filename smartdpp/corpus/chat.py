"""Conversations in one form, whatever they are called: turns of system, user, assistant and tool, with calls,
definitions and weights.

Read are OpenAI's ``{role, content}`` and ShareGPT's ``{from, value}``. A conversation of exactly one user
turn and one answer is a prompt and a response; any other keeps its turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from smartdpp.corpus.notes import OTHERWISE, UNREAD, note

USER, ASSISTANT, SYSTEM, TOOL = "user", "assistant", "system", "tool"
ROLES = {
    **dict.fromkeys((USER, "human", "prompter"), USER),
    **dict.fromkeys((ASSISTANT, "gpt", "bot", "model", "chatgpt", "function_call", "tool_call"), ASSISTANT),
    **dict.fromkeys((SYSTEM, "developer"), SYSTEM),
    **dict.fromkeys((TOOL, "observation", "function", "ipython", "tool_response", "function_response"), TOOL),
}
CALLS = ("function_call", "tool_call")  # roles whose text is a call of a function, as JSON
PLAIN: dict[Any, str] = {given: role for given, role in ROLES.items() if given not in CALLS}
TEXT = ("text", "input_text", "output_text")
MEDIA = (
    "image",
    "image_url",
    "input_image",
    "audio",
    "audio_url",
    "input_audio",
    "video",
    "video_url",
    "file",
)
WEIGHTS = ("weight", "loss_weight")
TURN = ("role", "content", "from", "value", "tool_calls", "function_call", "name", "tool_call_id", *WEIGHTS)
# fields of a record that hold what its turns refer to
BESIDE = ("images", "image", "audios", "audio", "videos", "video")
UNANSWERED = "what follows the last answer of a conversation is left out, as nothing answers it"
HOLDS_MEDIA = "with images, audio or files beside text"

Refuse = Callable[[str, str], Exception]
"""From the reason, the same for all rows that fail alike, and what is said, to what is raised."""


class Conversation(NamedTuple):
    """``messages`` and ``tools`` are None where prompt and response say all."""

    prompt: str  # the user turns
    response: str  # the assistant turns that are trained on
    messages: list[dict[str, Any]] | None
    tools: list[dict[str, Any]] | None


def read(messages: Any, tools: Any, system: Any, place: str, refuse: Refuse) -> Conversation:
    """``messages``: turns, a JSON text of them, or their columns. ``tools``: definitions of functions, or a
    JSON text of them. ``system``: the text of a system turn that comes first. ``refuse``'s error where it
    cannot be trained on. What follows its last answer is left out, and noted."""
    turns = [
        _turn(turn, number, place, refuse) for number, turn in enumerate(_listed(messages, refuse), start=1)
    ]
    if isinstance(system, str) and system and not any(turn["role"] == SYSTEM for turn in turns):
        turns.insert(0, {"role": SYSTEM, "content": system})
    roles = [turn["role"] for turn in turns]
    if ASSISTANT not in roles:
        raise refuse(
            "without an assistant turn", "messages hold no assistant turn, so the row has no response."
        )
    if USER not in roles:
        raise refuse("without a user turn", "messages hold no user turn, so the row has no prompt.")
    if roles[-1] != ASSISTANT:
        note(OTHERWISE, UNANSWERED, place)
        while roles[-1] != ASSISTANT:
            roles.pop(), turns.pop()
        if USER not in roles:
            raise refuse(
                "without a user turn", "no user turn of its messages is answered, so it has no prompt."
            )
    trained = [turn for turn in turns if turn["role"] == ASSISTANT and turn.get("weight") != 0]
    if not trained:
        one = roles.count(ASSISTANT) == 1
        said = (
            f"its {'last assistant turn has' if one else 'assistant turns have'} weight 0, which says that "
            "nothing of it is trained on."
        )
        raise refuse("whose answer has weight 0", said)
    if len(trained) == roles.count(ASSISTANT):
        for turn in trained:
            turn.pop("weight", None)  # all of them count, as they do where nothing is said
    definitions = _definitions(tools, refuse)
    if roles == [USER, ASSISTANT] and not definitions and "tool_calls" not in turns[1]:
        return Conversation(turns[0]["content"], turns[1]["content"], None, None)
    prompt = "\n\n".join(turn["content"] for turn in turns if turn["role"] == USER and turn["content"])
    try:
        response = "\n\n".join(filter(None, map(_said, trained)))
    except (TypeError, ValueError) as error:  # a time or bytes of a table
        raise refuse("with turns that are no JSON", f"its calls are no JSON ({error}).") from None
    return Conversation(prompt, response, turns, definitions)


def _said(turn: Mapping[str, Any]) -> str:
    """What a turn is trained to answer, as text: its content, and each of its calls as a line of JSON."""
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in turn.get("tool_calls", [])]
    return "\n".join(filter(None, [turn["content"], *calls]))


def _listed(messages: Any, refuse: Refuse) -> list[Mapping[str, Any]]:
    messages = _parsed(messages)
    if (
        isinstance(messages, dict)
        and messages
        and all(isinstance(values, list) for values in messages.values())
    ):
        # columns, as datasets had it
        messages = [dict(zip(messages, turn, strict=False)) for turn in zip(*messages.values(), strict=False)]
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise refuse(
            "whose messages are no turns",
            "messages must be a list of {role, content} with both of them text.",
        )
    return messages


def _parsed(value: Any) -> Any:
    """What a JSON text says; anything else as it is."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _turn(turn: Mapping[str, Any], number: int, place: str, refuse: Refuse) -> dict[str, Any]:
    """{role, content} with what else there is of tool_calls, name, tool_call_id and weight."""
    # as most are: nothing to look for
    who, said = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if len(turn) == 2 and isinstance(who, str) and isinstance(said, str) and (plain := PLAIN.get(who)):
        return {"role": plain, "content": said}
    given = turn["role"] if turn.get("role") is not None else turn.get("from")
    if not isinstance(given, str):
        raise refuse(
            "whose messages are no turns",
            "messages must be a list of {role, content} with both of them text.",
        )
    if given.lower() not in ROLES:
        known = "system, user, assistant and tool (or human, gpt, function_call, observation)"
        raise refuse("with an unknown role", f"turn {number} has the role {given[:40]!r}; roles are {known}.")
    role, where = ROLES[given.lower()], f"turn {number} ({given})"
    content = turn["content"] if "content" in turn else turn.get("value")
    calls = _parsed(turn.get("tool_calls")) or turn.get("function_call") or []
    if isinstance(content, list) and content:
        content, more = _parts(content, where, place, refuse)
        calls = calls or more
    elif given.lower() in CALLS and isinstance(content, str):
        content, calls = "", _parsed(content)
    if content is None and calls:
        content = ""
    if content is None:
        said = f"{where} has no content; messages must be a list of {{role, content}} with both of them text."
        raise refuse("with a turn without content", said)
    if not isinstance(content, str):
        raise refuse(
            "whose messages are no turns",
            f"{where} must have text as its content, found {type(content).__name__}.",
        )
    found: dict[str, Any] = {"role": role, "content": content}
    if role == ASSISTANT and calls:
        found["tool_calls"] = [
            _call(call, where, refuse) for call in (calls if isinstance(calls, list) else [calls])
        ]
    found |= {name: str(turn[name]) for name in ("name", "tool_call_id") if turn.get(name) not in (None, "")}
    weight = next((turn[name] for name in WEIGHTS if type(turn.get(name)) in (int, float, bool)), None)
    if role == ASSISTANT and weight in (0, 1):
        found["weight"] = int(weight)  # type: ignore[arg-type]
    elif role == ASSISTANT and weight is not None:
        note(UNREAD, "weight of turns", place)  # neither whole nor nothing
    for name in turn:
        if name not in TURN and turn[name] not in (None, "", [], {}):
            note(UNREAD, f"{name} of turns", place)
    return found


def _parts(parts: list[Any], where: str, place: str, refuse: Refuse) -> tuple[str, list[Any]]:
    """The text of typed parts, and the calls among them."""
    texts, calls, others = list[str](), list[Any](), set[str]()
    for part in parts:
        kind = part.get("type") or "text" if isinstance(part, dict) else "text"
        held = (
            (part.get("text") or part.get("value") or part.get("content")) if isinstance(part, dict) else part
        )
        if kind in TEXT and (isinstance(held, str) or held is None):
            texts.append(held or "")
        elif kind == "tool_call":
            calls.append(_parsed(held))
        elif kind in ("reasoning", "thinking"):
            note(UNREAD, f"{kind} of turns", place)
        else:
            others.add(str(kind)[:40])
    if others:
        reason = HOLDS_MEDIA if others & set(MEDIA) else "with a turn that holds more than text"
        raise refuse(reason, f"{where} holds {', '.join(sorted(others))} beside text, which cannot be read.")
    return "".join(texts), calls


def _call(call: Any, where: str, refuse: Refuse) -> dict[str, Any]:
    """``{type, function: {name, arguments}}``, with the id if there is one; arguments as an object, as
    templates write them."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        said = f"{where} calls a function that is no {{name, arguments}} in JSON: {str(call)[:40]!r}."
        raise refuse("with a call that cannot be read", said)
    arguments = _parsed(function.get("arguments", function.get("parameters")))
    called = {
        "name": function["name"],
        "arguments": {} if arguments is None or arguments == "" else arguments,
    }
    given = call.get("id")
    return ({"id": str(given)} if given is not None else {}) | {"type": "function", "function": called}


def _definitions(tools: Any, refuse: Refuse) -> list[dict[str, Any]] | None:
    """A list of ``{type, function: {name, ...}}``, in which those without a type are wrapped; None where
    there is none."""
    listed = _parsed(tools)
    listed = [listed] if isinstance(listed, dict) else listed
    if listed is None or (isinstance(listed, list | str) and not listed):
        return None
    if not isinstance(listed, list) or not all(
        isinstance(tool := _parsed(one), dict) and tool for one in listed
    ):
        raise refuse(
            "whose tools cannot be read",
            f"tools must be a list of definitions of functions, found {str(tools)[:40]!r}.",
        )
    return [
        tool if "function" in tool or "type" in tool else {"type": "function", "function": tool}
        for tool in map(_parsed, listed)
    ]
