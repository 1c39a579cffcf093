"""A mixture as a folder that trainers load as it is. What each asks of a row is taken from its documentation:

LLaMA-Factory data/README.md (alpaca: instruction, input, output, history of pairs; sharegpt: human or
observation at odd positions, gpt or function_call at even ones), TRL dataset_formats (messages of role and
content; prompt and completion), axolotl dataset formats (type: alpaca, chat_template with field_messages and
message_property_mappings), open-instruct (a messages column).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, load_dataset

from smartdpp.corpus.jsonl import Jsonl
from smartdpp.errors import InputError
from smartdpp.export.card import ANOTHER
from smartdpp.export.command import export, main
from smartdpp.export.rows import FORMS, shaped
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
CHAT = {
    "id": "c",
    "task": "t",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Bye."},
    ],
}
TOOLS = {
    "id": "d",
    "task": "t",
    "tools": [{"type": "function", "function": {"name": "add"}}],
    "messages": [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "It is 2."},
    ],
}
PLAIN = {"id": "p", "task": "t", "prompt": "A?", "response": "B."}


@pytest.fixture
def run(corpus: Path, small_run: Callable[..., Run], tmp_path: Path) -> Run:
    records = [{**json.loads(line), "extra": {"n": i}} for i, line in enumerate(corpus.open())]
    (tmp_path / "in.json").write_text(json.dumps(records))
    run = small_run(f"corpus.path={tmp_path / 'in.json'}", "until=mixture")
    execute(run)
    return run


@pytest.fixture
def chosen(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.mixture.path / "mixture.jsonl").open()]


def loaded(folder: Path, tmp_path: Path) -> Dataset:
    return load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def snippet(folder: Path, name: str) -> str:
    _, _, after = (folder / "README.md").read_text().partition(f"\n{name}")
    return after.partition("```")[2].partition("\n")[2].partition("\n```")[0]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_the_same_rows_read_back(
    form: str, run: Run, chosen: list[dict], tmp_path: Path
) -> None:
    out = tmp_path / form
    assert export(run.path, form, out, ["rank", "gain", "task", "reason"]) == len(chosen)
    back = list(Jsonl(str(out), columns={"task": "smartdpp_task"}).rows())
    assert [(row["prompt"], row["response"], row["task"]) for row in back] == [
        (row["prompt"], row["response"], row["task"]) for row in chosen
    ]
    rows = loaded(out, tmp_path)
    assert rows["smartdpp_rank"][:] == [row["rank"] for row in chosen]
    assert rows["smartdpp_gain"][:] == [row["gain"] for row in chosen]
    assert rows["smartdpp_reason"][0].startswith(f"Smart: pick 1, 1 of task {chosen[0]['task']}, gain ")
    if form in ("jsonl", "parquet"):
        assert [row["n"] for row in rows["extra"]] == [row["extra"]["n"] for row in originals_of(run)]
    card = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    assert (out / card["configs"][0]["data_files"]).is_file()


def originals_of(run: Run) -> list[dict]:
    return json.loads((run.mixture.path / "original.json").read_text())


def test_without_the_records_the_mixtures_own_fields_are_written(
    run: Run, chosen: list[dict], tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for name in ("mixture.jsonl", "meta.json"):
        (folder / name).write_bytes((run.mixture.path / name).read_bytes())
    export(folder, "jsonl", tmp_path / "out")
    assert [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").open()] == [
        {key: value for key, value in row.items() if key not in ("rank", "gain")} for row in chosen
    ]


def check_llama_factory(folder: Path, rows: list[dict]) -> dict[str, Any]:
    """As its data/README.md has it."""
    entry = json.loads((folder / "dataset_info.json").read_text())["smartdpp"]
    assert (folder / entry["file_name"]).is_file()
    columns = entry["columns"]
    assert set(columns.values()) <= set(rows[0])
    for row in rows:
        if entry["formatting"] == "alpaca":
            assert isinstance(row[columns["prompt"]], str)
            assert isinstance(row[columns["response"]], str)
            assert all(len(pair) == 2 for pair in row.get(columns.get("history", ""), []))
        else:
            tags = entry.get("tags", {"role_tag": "from", "content_tag": "value"})
            turns = [turn for turn in row[columns["messages"]] if turn[tags["role_tag"]] != "system"]
            assert len(turns) % 2 == 0
            odd, even = ({"human", "observation", "user", "tool"}, {"gpt", "function_call", "assistant"})
            assert all(
                turn[tags["role_tag"]] in (odd if i % 2 == 0 else even) for i, turn in enumerate(turns)
            )
            assert all(isinstance(turn[tags["content_tag"]], str) for turn in turns)
    return entry


def test_what_each_trainer_asks_of_a_folder_is_there(run: Run, tmp_path: Path) -> None:
    folders = {form: tmp_path / form for form in FORMS}
    for form, out in folders.items():
        export(run.mixture.path, form, out)
        rows = list(loaded(out, tmp_path))
        assert check_llama_factory(out, rows)["formatting"] == (
            "sharegpt" if form in ("sharegpt", "messages") else "alpaca"
        )
        axolotl = yaml.safe_load(snippet(out, "axolotl:").replace("FOLDER", str(out)))["datasets"][0]
        assert Path(axolotl["path"]).is_file()
        if axolotl["type"] == "chat_template":
            turn = rows[0][axolotl["field_messages"]][0]
            assert set(axolotl["message_property_mappings"].values()) <= set(turn)
        elif axolotl["type"] == "alpaca":
            assert {"instruction", "input", "output"} <= set(rows[0])
        else:
            assert {axolotl["type"]["field_instruction"], axolotl["type"]["field_output"]} <= set(rows[0])
        assert (snippet(out, "open-instruct:") == ANOTHER) == (form != "messages")


@pytest.mark.parametrize("form", ["jsonl", "alpaca", "messages"])
def test_the_snippet_for_trl_makes_rows_that_it_trains_on(
    form: str, run: Run, chosen: list[dict], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(run.path, form, out)
    code = snippet(out, "TRL:").replace("FOLDER", str(out)).rpartition("\n")[0]
    names: dict[str, Any] = {"load_dataset": lambda path, split: loaded(Path(path), tmp_path)}
    exec(code, names)
    rows = names["rows"]
    if form == "messages":
        assert [turn["role"] for turn in rows[0]["messages"]] == ["user", "assistant"]
    else:
        assert set(rows.column_names) == {"prompt", "completion"}
        assert [(row["prompt"], row["completion"]) for row in rows] == [
            (row["prompt"], row["response"]) for row in chosen
        ]


def test_conversations_keep_their_turns(tmp_path: Path) -> None:
    chat, plain = shaped("alpaca", [CHAT, PLAIN], None)
    assert chat == {
        "instruction": "And?",
        "input": "",
        "output": "Bye.",
        "system": "Be brief.",
        "history": [["Hi.", "Hello."]],
    }
    assert plain == {"instruction": "A?", "input": "", "output": "B.", "system": "", "history": []}
    chat, tools = shaped("sharegpt", [CHAT, TOOLS], None)
    assert [turn["from"] for turn in chat["conversations"]] == ["human", "gpt", "human", "gpt"]
    assert (chat["system"], chat["tools"]) == ("Be brief.", None)
    assert [turn["from"] for turn in tools["conversations"]] == [
        "human",
        "function_call",
        "observation",
        "gpt",
    ]
    assert json.loads(tools["conversations"][1]["value"]) == {"name": "add", "arguments": {"a": 1}}
    assert json.loads(tools["tools"]) == TOOLS["tools"]
    chat, tools = shaped("messages", [CHAT, TOOLS], None)
    assert chat["messages"] == CHAT["messages"]
    assert json.loads(tools["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert TOOLS["messages"][1]["tool_calls"][0] is CALL, "what was given stays as it was"


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        ("alpaca", TOOLS, "row 'd' has tools, or turns that do not alternate"),
        ("alpaca", {**CHAT, "messages": CHAT["messages"][:2]}, "row 'c' has tools, or turns"),
        ("sharegpt", {**CHAT, "messages": CHAT["messages"][2:]}, "row 'c' has turns that do not alternate"),
        (
            "sharegpt",
            {**CHAT, "messages": CHAT["messages"][:2]},
            "row 'c' has a last turn that nobody answers",
        ),
    ],
)
def test_what_a_form_has_no_place_for_is_refused(form: str, row: dict, said: str) -> None:
    with pytest.raises(InputError) as refused:
        shaped(form, [row], None)
    assert said in str(refused.value)
    assert "use --as messages" in str(refused.value)


def test_what_is_wrong_is_one_sentence_and_nothing_is_written(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for words, said in (
        ([str(tmp_path), str(out)], "this is neither a run that has chosen its mixture nor a mixture"),
        ([str(run.path), str(out), "--with", "rnk"], "--with rnk: choose of rank, gain, task, reason."),
        ([str(run.path), str(tmp_path)], "is there already"),
    ):
        assert main(words) == 1
        assert said in capsys.readouterr().err
        assert not out.exists()
    assert main([str(run.path), str(out)]) == 0
    assert "16 rows written" in capsys.readouterr().out
