"""Conversations as people have them, in one form."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartdpp.corpus.chat import UNANSWERED
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.corpus.notes import noted
from smartdpp.errors import InputError

SYSTEM, ASK, SAY = (
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a"},
)
MORE, END = {"role": "user", "content": "more?"}, {"role": "assistant", "content": "no"}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "2"}
DEFINED = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {}}}


def jsonl(path, *records):
    path.write_text("".join(json.dumps({"task": "t"} | record) + "\n" for record in records))
    return path


def rows(path, **parameters):
    return list(Jsonl(str(path), **parameters).rows())


def shown(row):
    return row["prompt"], row["response"], row.get("messages"), row.get("tools")


FORMS = {
    "OpenAI's": {"messages": [SYSTEM, ASK, SAY, MORE, END]},
    "ShareGPT's": {
        "conversations": [
            {"from": "system", "value": "be brief"},
            {"from": "human", "value": "q"},
            {"from": "gpt", "value": "a"},
            {"from": "human", "value": "more?"},
            {"from": "gpt", "value": "no"},
        ]
    },
    "a JSON text": {"messages": json.dumps([SYSTEM, ASK, SAY, MORE, END])},
    "columns": {
        "messages": {
            "role": ["system", *["user", "assistant"] * 2],
            "content": ["be brief", "q", "a", "more?", "no"],
        }
    },
    "the system beside it": {"system": "be brief", "conversation": [ASK, SAY, MORE, END]},
    "capitals and typed parts": {
        "messages": [
            {
                "role": "System",
                "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}],
            },
            {"role": "User", "content": [{"type": "text", "value": "q"}]},
            {"role": "Assistant", "content": ["a"]},
            MORE,
            END,
        ]
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_a_conversation_keeps_its_turns_whatever_they_are_called(tmp_path, form):
    [row] = rows(jsonl(tmp_path / "x.jsonl", FORMS[form]))
    assert shown(row) == ("q\n\nmore?", "a\n\nno", [SYSTEM, ASK, SAY, MORE, END], None)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [ASK, SAY]},
        {"messages": [ASK, SAY], "tools": "[]"},
        {
            "conversations": [
                {"from": "human", "value": "q", "weight": 0},
                {"from": "gpt", "value": "a", "weight": 1},
            ]
        },
    ],
)
def test_one_user_turn_and_its_answer_are_a_prompt_and_a_response(tmp_path, record):
    [row] = rows(jsonl(tmp_path / "x.jsonl", record))
    [same] = rows(jsonl(tmp_path / "x.jsonl", {"prompt": "q", "response": "a"}))
    assert row == same
    assert "messages" not in row


AS_JSON = {"name": "add", "arguments": '{"x": 1}'}
TOOLS = {
    "OpenAI's": {"messages": [ASK, CALLED | {"content": None}, RESULT, SAY], "tools": [DEFINED]},
    "arguments as JSON": {
        "messages": [
            ASK,
            {"role": "assistant", "tool_calls": [{"type": "function", "function": AS_JSON}]},
            RESULT,
            SAY,
        ],
        "tools": json.dumps([DEFINED]),
    },
    "functions": {
        "messages": [
            ASK,
            {"role": "assistant", "content": None, "function_call": AS_JSON},
            {"role": "function", "content": "2"},
            SAY,
        ],
        "functions": [DEFINED["function"]],
    },
    "ShareGPT's": {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"x": 1}}'},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "a"},
        ],
        "tools": json.dumps([DEFINED["function"]]),
    },
}


@pytest.mark.parametrize("form", TOOLS)
def test_calls_and_definitions_of_tools_have_one_form(tmp_path, form):
    [row] = rows(jsonl(tmp_path / "x.jsonl", TOOLS[form]))
    assert shown(row) == (
        "q",
        '{"name": "add", "arguments": {"x": 1}}\n\na',
        [ASK, CALLED, RESULT, SAY],
        [DEFINED],
    )


def test_the_names_and_ids_of_calls_stay(tmp_path):
    turns = [
        ASK,
        CALLED | {"tool_calls": [CALL | {"id": "c1"}]},
        RESULT | {"tool_call_id": "c1", "name": "add"},
        SAY,
    ]
    [row] = rows(jsonl(tmp_path / "x.jsonl", {"messages": turns}))
    assert row["messages"] == turns


def test_calls_that_are_no_json_are_one_bad_row(tmp_path):
    from datetime import date

    call = {"function": {"name": "add", "arguments": {"day": date(2026, 1, 2)}}}
    turns = [ASK, {"role": "assistant", "content": None, "tool_calls": [call]}]
    table = pa.Table.from_pylist([{"task": "t", "messages": turns}, {"task": "t", "messages": [ASK, SAY]}])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"row 1: its calls are no JSON \(.*date.*\)"):
        rows(tmp_path / "x.parquet")
    assert len(rows(tmp_path / "x.parquet", on_bad_row="drop", max_bad_share=0.5)) == 1


def test_weights_say_which_answers_are_trained(tmp_path):
    turns = [ASK, SAY | {"weight": 0}, MORE, END | {"weight": 1}]
    [row] = rows(jsonl(tmp_path / "x.jsonl", {"messages": turns}))
    assert (row["response"], [turn.get("weight") for turn in row["messages"]]) == ("no", [None, 0, None, 1])
    [row] = rows(
        jsonl(
            tmp_path / "x.jsonl",
            {"messages": [{**turn, "loss_weight": 1.0} for turn in (ASK, SAY, MORE, END)]},
        )
    )
    assert row["messages"] == [ASK, SAY, MORE, END]


def test_what_a_table_fills_with_nulls_is_not_there(tmp_path):
    other = CALL | {"function": {"name": "mul", "arguments": {"y": 2}}}
    records = [
        {"task": "t", "messages": [ASK, CALLED | {"tool_calls": [call]}, RESULT, SAY]}
        for call in (CALL, other)
    ]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "x.parquet")
    assert [row["messages"] for row in rows(tmp_path / "x.parquet")] == [
        record["messages"] for record in records
    ]


def test_what_nothing_answers_is_left_out_and_counted(tmp_path):
    path = tmp_path / "x.jsonl"
    records = [[ASK, SAY, MORE], [ASK, SAY, MORE, END, ASK, RESULT], [ASK, SAY]]
    path.write_text("".join(json.dumps({"task": "t", "messages": turns}) + "\n" for turns in records))
    with noted() as notes:
        first, second, whole = rows(path)
    assert shown(first) == shown(whole) == ("q", "a", None, None)
    assert second["messages"] == [ASK, SAY, MORE, END]
    assert notes.counts["read_otherwise"][UNANSWERED] == 2


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"messages": [SAY, ASK]}, "no user turn of its messages is answered"),
        ({"messages": [SYSTEM, SAY]}, "messages hold no user turn"),
        ({"messages": [SYSTEM, ASK]}, "messages hold no assistant turn"),
        (
            {"messages": [ASK, {"role": "critic", "content": "c"}, SAY]},
            r"turn 2 has the role 'critic'; roles are system, user,",
        ),
        (
            {"messages": [ASK, {"role": "assistant", "content": None}]},
            r"turn 2 \(assistant\) has no content; messages must be",
        ),
        (
            {"messages": [ASK, {"role": "assistant", "content": 7}]},
            r"turn 2 \(assistant\) must have text as its content, found int",
        ),
        (
            {"messages": [ASK, SAY | {"weight": 0}, MORE, END | {"weight": 0}]},
            "its assistant turns have weight 0",
        ),
        (
            {"messages": [ASK, SAY], "tools": "add and multiply"},
            "tools must be a list of definitions of functions",
        ),
        ({"messages": [SYSTEM | {"content": "\ud800"}, ASK, SAY]}, "messages holds a lone surrogate"),
        ({"messages": [[ASK, SAY]]}, "messages must be a list of {role, content}"),
        ({"messages": [ASK | {"role": ["user"]}, SAY]}, "messages must be a list of {role, content}"),
        ({"conversations": [{"from": {}, "value": "q"}]}, "messages must be a list of {role, content}"),
        (
            {"messages": [ASK | {"content": [{"type": ["text"], "text": "q"}]}, SAY]},
            r"turn 1 \(user\) holds \['text'\] beside text",
        ),
    ],
)
def test_a_conversation_that_cannot_be_trained_on_is_one_bad_row(tmp_path, record, message):
    path = jsonl(tmp_path / "x.jsonl", {"messages": [ASK, SAY]}, record)
    with pytest.raises(
        InputError, match=rf"x.jsonl, line 2: .*{message}.*corpus.on_bad_row=drop leaves such rows out"
    ):
        rows(path)
    assert len(rows(path, on_bad_row="drop", max_bad_share=0.5)) == 1


@pytest.mark.parametrize(
    "record",
    [
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "what is this?"}, {"type": "image_url"}],
                },
                SAY,
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}, SAY]},
        {"messages": [{"role": "user", "content": "<image>what is this?"}, SAY], "images": ["a.png"]},
    ],
)
def test_images_and_audio_are_refused_or_left_out_and_counted_whatever_their_share(tmp_path, record):
    path = jsonl(tmp_path / "x.jsonl", {"messages": [ASK, SAY]}, record, record)
    with pytest.raises(InputError, match=r"line 2: .*corpus.media=drop leaves such rows out and counts them"):
        rows(path, on_bad_row="drop")
    with noted() as notes:
        assert len(rows(path, media="drop")) == 1
    assert notes.facts()["rows_left_out"] == {"with images, audio or files beside text": 2}
    with pytest.raises(InputError, match=r"corpus\.media is 'skip': choose refuse"):
        Jsonl(str(path), media="skip")


def test_a_turns_text_counts_towards_a_rows_length_whoever_says_it(tmp_path):
    path = jsonl(
        tmp_path / "x.jsonl",
        {"messages": [SYSTEM | {"content": "w" * 60_000}, ASK, SAY | {"content": "w" * 60_000}]},
    )
    assert len(rows(path)) == 1
    with pytest.raises(InputError, match=r"longer than 0.1 MiB"):
        rows(path, max_line_mib=0.1)


def test_a_corpus_of_conversations_is_another_than_when_they_were_pasted(tmp_path):
    from smartdpp.corpus.rows import content_hash

    def fingerprints(name, record):
        path = jsonl(tmp_path / name, record)
        return Jsonl(str(path)).fingerprint(), content_hash(path.parent, [path])

    for record in (
        {"prompt": "q", "response": "a"},
        {"prompt": "q", "response": "a", "messages": [ASK, SAY]},
        {"text": "neither"},
    ):
        new, old = fingerprints("x.jsonl", record)
        assert new == old
    for record in (*FORMS.values(), *TOOLS.values(), {"prompt": "p", "completion": "c", "label": True}):
        new, old = fingerprints("x.jsonl", record)
        assert new != old
    path = jsonl(tmp_path / "y.jsonl", {"chat": [ASK, SAY]})
    assert Jsonl(str(path), columns={"messages": "chat"}).fingerprint() != Jsonl(str(path)).fingerprint()
