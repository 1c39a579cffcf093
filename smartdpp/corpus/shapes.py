"""Records that say more than a prompt and a response: which of two answers is better, whether one is good,
trees of replies.

Each becomes a record with prompt and response, or with ``messages``, before its fields are read; what was
made of it is noted. Recognised are DPO's chosen and rejected (also UltraFeedback's and Anthropic's), KTO's
label, prompts that are turns (TRL's), OpenAssistant's trees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smartdpp.corpus import trees
from smartdpp.corpus.notes import OTHERWISE, note

Record = Mapping[str, Any]
CONVERSATIONS = ("conversations", "conversation")
CHATS = ("messages", *CONVERSATIONS)
# fields that say which shape it is
ANSWERED = ({"chosen", "rejected"}, trees.FLAT, {"replies", "text"}, {"message_tree_id", "prompt"})
LABELS = ("label", "kto_tag")
ANSWERS = ("completion", "response", "output")
CHOSEN = "pairs of answers: the chosen one is read"
GOOD, BAD = "answers with a label: those labelled true are read", "answers labelled false are left out"
HH = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")


def label_of(record: Record) -> bool | None:
    """Whether KTO's label says that the answer is good; None where it has none, or the field says something
    else."""
    if record.get("response") is not None or not any(
        record.get(name) is not None for name in ("completion", "kto_tag", *CHATS)
    ):
        return None
    return next((record[name] for name in LABELS if type(record.get(name)) is bool), None)


def was_pasted(record: Record, columns: Mapping[str, Any]) -> bool:
    """Whether a record was read before conversations were kept and labels looked at, as something else than
    it is today."""
    if label_of(record) is not None:
        return True
    response = columns.get("response", "response")
    chats = [columns["messages"]] if "messages" in columns else CHATS
    return not (isinstance(response, str) and record.get(response) is not None) and any(
        record.get(name) is not None for name in chats
    )


def plain(record: Record, place: str) -> Record | None:
    """The record with one answer; None where it has none to train on, which is noted."""
    if root := trees.root_of(record):
        return trees.conversation(record, root, place)
    if (label := label_of(record)) is not None:
        if not label:
            note(OTHERWISE, BAD, place)
            return None
        note(OTHERWISE, GOOD, place)
        record = {name: value for name, value in record.items() if name not in LABELS}
    if (
        record.get("rejected") is not None
        and record.get("chosen") is not None
        and record.get("response") is None
    ):
        note(OTHERWISE, CHOSEN, place)
        return _chosen(record)
    prompt = record.get("prompt")
    if isinstance(prompt, list) and _are_turns(prompt):
        name = next((name for name in ANSWERS if record.get(name) is not None), "response")
        return _joined(record, prompt, record.get(name), name)
    return record


def _chosen(record: Record) -> Record:
    chosen, prompt = record["chosen"], record.get("prompt")
    before = next((record[name] for name in CHATS if isinstance(record.get(name), list)), None)
    if isinstance(chosen, str) and prompt is None and before is None and HH.match(chosen):
        said = HH.split(chosen)[1:]
        turns = [{"from": who, "value": text} for who, text in zip(said[::2], said[1::2], strict=True)]
        return _joined(record, [], turns, "chosen")
    if isinstance(chosen, str) and before is None and not isinstance(prompt, list):
        return {name: value for name, value in record.items() if name != "chosen"} | {"response": chosen}
    if isinstance(chosen, list) and _are_turns(chosen) and _role(chosen[0]) not in ("assistant", "gpt"):
        return _joined(record, [], chosen, "chosen")  # the whole conversation
    if before is None:
        before = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    return _joined(record, before, chosen, "chosen")


def _joined(record: Record, before: list[Any], answer: Any, name: str) -> Record:
    """The record with these turns, which stand for its prompt, its own turns and the field of the answer."""
    turns = (
        answer
        if isinstance(answer, list)
        else [answer if isinstance(answer, dict) else {"role": "assistant", "content": answer}]
    )
    kept = {field: value for field, value in record.items() if field not in ("prompt", name, *CHATS)}
    return kept | {"messages": [*before, *turns]}


def _are_turns(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], dict) and _role(value[0]) is not None


def _role(turn: Record) -> Any:
    return turn.get("role", turn.get("from"))
