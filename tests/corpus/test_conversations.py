"""Conversations in the corpus artifact: stored as they are, counted as they are rendered, and single turns as
ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from smartdpp.corpus.build import Limits, build, describe, read
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.errors import InputError
from smartdpp.models import Tiny
from smartdpp.models.turns import encode_row

TOOLS = [{"type": "function", "function": {"name": "weather"}}]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "How are you?"},
    {"role": "assistant", "content": "Well."},
]
CALL = [
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]},
]


@dataclass
class Rows:
    given: list[dict[str, Any]]

    def rows(self) -> Iterator[dict[str, Any]]:
        for i, row in enumerate(self.given):
            yield {"id": f"r{i}", "task": "t", "prompt": "p", "response": "r"} | row


class Nothing:
    def heldout(self, tasks: list[str]) -> list[str]:
        return []

    def aside(self, rows: Iterator[dict[str, Any]]) -> dict[str, list[str]]:
        return {}

    def documents(self) -> Iterator[dict[str, Any]]:
        return iter(())


def made(
    out: Path, rows: list[dict[str, Any]], fmt: str = "chat", **limits: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    limits = {"max_tokens": 1000} | limits
    facts = build(Rows(rows), Nothing(), Tiny().tokenizer(), fmt, Limits(**limits), out)  # type: ignore[arg-type]
    return facts, read(out / "data.parquet").to_pylist()


@pytest.mark.parametrize("fmt", ["chat", "plain"])
def test_turns_are_stored_and_their_tokens_are_those_of_training(tmp_path: Path, fmt: str) -> None:
    facts, (talk, call, single) = made(
        tmp_path, [{"messages": TALK}, {"messages": CALL, "tools": TOOLS}, {}], fmt
    )
    assert json.loads(talk["messages"]) == TALK
    assert (talk["prompt"], talk["response"], talk["tools"]) == (
        "Hi\n\nHow are you?",
        "Hello.\n\nWell.",
        None,
    )
    assert (call["prompt"], json.loads(call["tools"])) == ("Rain?", TOOLS)
    assert (single["prompt"], single["response"], single["messages"], single["tools"]) == (
        "p",
        "r",
        None,
        None,
    )
    for row in (talk, call, single):
        example = encode_row(Tiny().tokenizer(), fmt, row)
        assert row["n_tokens"] == len(example.ids)
        assert row["n_tokens"] - row["n_prompt_tokens"] == example.n_trained
    assert facts["conversations"] == 2
    assert "2 of all eligible rows are conversations" in describe(facts)


def test_a_corpus_of_single_turns_has_no_columns_for_turns(tmp_path: Path) -> None:
    facts, _ = made(tmp_path, [{}])
    assert pq.read_schema(tmp_path / "data.parquet").names[-2:] == ["n_prompt_tokens", "n_tokens"]
    assert "conversations" not in describe(facts)


def test_the_last_turn_alone_is_trained_by_choice(tmp_path: Path) -> None:
    _, ((row),) = made(tmp_path, [{"messages": TALK}], turns="last")
    assert row["response"] == "Well."
    assert [turn.get("weight", 1) for turn in json.loads(row["messages"])] == [1, 1, 0, 1, 1]
    assert row["n_tokens"] - row["n_prompt_tokens"] == len("Well.") + 1


def test_long_empty_untrained_and_repeated_conversations_are_counted(tmp_path: Path) -> None:
    muted = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in TALK]
    silent = [TALK[1], {"role": "assistant", "content": " "}]
    shout = [TALK[1], {"role": "assistant", "content": "a" * 2000}]
    other = [TALK[0] | {"content": "Be long."}, *TALK[1:]]
    unasked = [TALK[0], TALK[2]]
    given = [{"messages": m} for m in (TALK, muted, silent, shout, TALK, other, unasked)]
    facts, rows = made(tmp_path, given, drop_duplicates=True)
    assert [row["id"] for row in rows] == ["r0", "r5"]  # another system turn is another conversation
    assert facts["dropped"]["pool"] == {
        "duplicate within its task": 1,
        "empty prompt": 1,
        "empty response": 1,
        "no assistant turn to train on": 1,
        "prompt and response longer than max_tokens": 1,
    }


def test_a_choice_of_turns_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"pool\.turns is 'first': choose all or last"):
        Limits(turns="first")  # type: ignore[arg-type]


# as many templates have it: roles take turns
TAKES_TURNS = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
AGAIN = [*TALK[1:3], {"role": "assistant", "content": "Again."}, *TALK[3:]]


def of_file(tmp_path: Path, messages: list[Any], **reading: Any) -> tuple[dict[str, Any], Path]:
    path, out, tokenizer = tmp_path / "talks.jsonl", tmp_path / "out", Tiny().tokenizer()
    path.write_text("".join(json.dumps({"messages": turns} if turns else {}) + "\n" for turns in messages))
    tokenizer.chat_template = TAKES_TURNS
    limits = Limits(max_tokens=1000)
    return build(Jsonl(str(path), **reading), Nothing(), tokenizer, "chat", limits, out), out  # type: ignore[arg-type]


def test_what_a_template_refuses_ends_the_reading_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        of_file(tmp_path, [TALK[1:], TALK[1:], AGAIN])
    assert str(refused.value) == (
        f"{tmp_path}/talks.jsonl, line 3: the model's chat template refuses the conversation: "
        "roles must alternate. corpus.on_bad_row=drop leaves such rows out and counts them."
    )


def test_what_a_template_refuses_can_be_left_out_and_is_counted_with_its_lines(tmp_path: Path) -> None:
    given = [TALK[1:], AGAIN, TALK[1:], None, AGAIN]  # a row without messages cannot be read either
    facts, out = of_file(tmp_path, given, on_bad_row="drop", max_bad_share=0.6)
    assert len(read(out / "data.parquet")) == facts["total_read"] == facts["n_pool"] == 2
    told = json.loads((out / "dropped.json").read_text())["reading"]["rows_left_out"]
    assert told["refused by the model's chat template"] == {
        "rows": 2,
        "first": [f"{tmp_path}/talks.jsonl, line {n}" for n in (2, 5)],
    }
    assert "3 rows left out as unreadable (" in describe(facts)
    assert "2 refused by the model's chat template" in describe(facts)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            [TALK[1:], TALK[1:], AGAIN, None],
            r"the corpus: 2 of 4 rows \(50\.0%\) cannot be read \(.*1 refused by the model's chat template",
        ),
        ([AGAIN, AGAIN], r"the corpus: none of its rows can be read.*The first: .*talks\.jsonl, line 1: "),
    ],
    ids=["too many", "all"],
)
def test_too_many_that_cannot_be_read_or_shown_end_the_run(
    given: list[Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        of_file(tmp_path, given, on_bad_row="drop", max_bad_share=0.4)
