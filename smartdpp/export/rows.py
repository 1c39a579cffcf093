"""A mixture's rows in the forms that trainers read.

jsonl, parquet   the records as they came where the corpus kept them, else the mixture's own fields
alpaca           instruction, input, output; of a conversation system and history (LLaMA-Factory's)
sharegpt         conversations of {from, value}; system, and tools as JSON text, in columns of their own
messages         messages of {role, content}; tools as JSON text
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smartdpp.errors import InputError

Line = dict[str, Any]
FORMS = ("jsonl", "parquet", "alpaca", "sharegpt", "messages")
SHAREGPT = {"user": "human", "assistant": "gpt", "tool": "observation"}


def shaped(form: str, lines: Sequence[Line], records: Sequence[Mapping[str, Any]] | None) -> list[Line]:
    """The rows in this form, all with the same columns. InputError names a row that has no place in it."""
    if form in ("jsonl", "parquet"):
        own = [{key: value for key, value in line.items() if key not in ("rank", "gain")} for line in lines]
        return [dict(record) for record in records] if records is not None else own
    shape: Callable[[Line], Line] = {"alpaca": _alpaca, "sharegpt": _sharegpt, "messages": _messages}[form]
    rows = [shape(line) for line in lines]
    names = list(dict.fromkeys(name for row in rows for name in row))
    blank = {"history": [], "system": "", "input": ""}
    return [{name: row.get(name, blank.get(name)) for name in names} for row in rows]


def _turns(line: Line) -> list[dict[str, Any]]:
    return line.get("messages") or [
        {"role": "user", "content": line["prompt"]},
        {"role": "assistant", "content": line["response"]},
    ]


def _tools(line: Line) -> Line:
    return {"tools": json.dumps(line["tools"], ensure_ascii=False)} if line.get("tools") else {}


def _messages(line: Line) -> Line:
    return {"messages": [_plain(turn) for turn in _turns(line)], **_tools(line)}


def _plain(turn: Mapping[str, Any]) -> dict[str, Any]:
    """The turn, arguments of its calls as JSON text, as OpenAI has them: one column cannot hold objects of
    any shape."""
    calls = turn.get("tool_calls")
    if not calls:
        return dict(turn)
    made = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and not isinstance(function.get("arguments"), str):
            call = {
                **call,
                "function": {
                    **function,
                    "arguments": json.dumps(function.get("arguments"), ensure_ascii=False),
                },
            }
        made.append(call)
    return {**turn, "tool_calls": made}


def _sharegpt(line: Line) -> Line:
    """LLaMA-Factory asks for human (or observation) and gpt (or function_call) in turn."""
    turns, told = list(_turns(line)), {}
    if turns[0]["role"] == "system":
        told = {"system": turns.pop(0)["content"]}
    found = []
    for number, turn in enumerate(turns):
        calls = [call.get("function", call) for call in turn.get("tool_calls") or []]
        if calls and turn.get("content"):
            raise _no_place(line, "sharegpt", "a turn that says something and calls a tool")
        name = "function_call" if calls else SHAREGPT.get(turn["role"], "")
        if name not in (("human", "observation") if number % 2 == 0 else ("gpt", "function_call")):
            raise _no_place(line, "sharegpt", "turns that do not alternate between human and gpt")
        value = (
            json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
            if calls
            else turn["content"]
        )
        found.append({"from": name, "value": value})
    if len(found) % 2:
        raise _no_place(line, "sharegpt", "a last turn that nobody answers")
    return {"conversations": found, **told, **_tools(line)}


def _alpaca(line: Line) -> Line:
    turns, told = list(_turns(line)), {}
    if turns[0]["role"] == "system":
        told = {"system": turns.pop(0)["content"]}
    roles = [turn["role"] for turn in turns]
    if line.get("tools") or roles != ["user", "assistant"] * (len(roles) // 2) or not roles:
        raise _no_place(line, "alpaca", "tools, or turns that do not alternate between user and assistant")
    if any(turn["content"] is None for turn in turns):
        raise _no_place(line, "alpaca", "a turn without text")
    texts = [turn["content"] for turn in turns]
    history = [[texts[i], texts[i + 1]] for i in range(0, len(texts) - 2, 2)]
    row = {"instruction": texts[-2], "input": "", "output": texts[-1]}
    return row | told | ({"history": history} if history else {})


def _no_place(line: Line, form: str, what: str) -> InputError:
    return InputError(
        f"--as {form}: row {line['id']!r} has {what}, for which {form} has no place; use --as messages."
    )
