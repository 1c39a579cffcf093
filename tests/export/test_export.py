"""A mixture as a folder that trainers load as it is. What each asks of a row is taken from its documentation
as of August 2026 (revisions: smartdpp.export.card):

LLaMA-Factory data/README.md: alpaca is instruction, input, output, a system text and a history of pairs;
sharegpt is human or observation at odd positions, gpt or function_call at even ones, after a system turn, and
tools as text; OpenAI's messages are sharegpt with other tags, and their tool_calls are not read. A row that
does not alternate is left out with a warning.
axolotl docs/dataset-formats: chat_template with field_messages, message_property_mappings and
message_field_training, roles human, user, gpt, assistant, system and tool, tools as a list or text, arguments
of calls as JSON text; alpaca of instruction, input and output alone; a format of one's own with format and
no_input_format.
TRL dataset_formats: messages with tool_calls whose arguments are objects, tools as a list or text; prompt and
completion.
open-instruct dataset_transformation: messages of role and content in a .jsonl or .parquet, split train.
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
from smartdpp.export.card import ANOTHER, shape
from smartdpp.export.command import export, main
from smartdpp.export.rows import FORMS, shaped
from smartdpp.models import Tiny
from smartdpp.models.turns import render
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
    """As its data/README.md has it, of rows that it does not leave out."""
    entry = json.loads((folder / "dataset_info.json").read_text())["smartdpp"]
    assert set(entry) <= {"file_name", "formatting", "columns", "tags"}
    assert (folder / entry["file_name"]).is_file()
    columns = entry["columns"]
    assert set(columns.values()) <= set(rows[0])
    for row in rows:
        if entry["formatting"] == "alpaca":
            assert isinstance(row[columns["prompt"]], str)
            assert isinstance(row[columns["response"]], str)
            assert all(len(pair) == 2 for pair in row.get(columns.get("history", ""), []))
        else:
            tags = LLAMA_FACTORY_TAGS | entry.get("tags", {})
            turns = row[columns["messages"]]
            turns = turns[1:] if turns[0][tags["role_tag"]] == tags["system_tag"] else turns
            odd, even = (
                (tags["user_tag"], tags["observation_tag"]),
                (tags["assistant_tag"], tags["function_tag"]),
            )
            assert len(turns) % 2 == 0
            assert all(turn[tags["role_tag"]] in (even if i % 2 else odd) for i, turn in enumerate(turns))
            assert all(turn[tags["content_tag"]] for turn in turns), "nothing else of a turn is read"
            assert isinstance(row.get(columns.get("tools", "")), str | None)
            for turn in turns:
                if turn[tags["role_tag"]] == tags["function_tag"]:
                    calls = json.loads(turn[tags["content_tag"]])
                    calls = calls if isinstance(calls, list) else [calls]
                    assert all(isinstance(call["arguments"], dict) and call["name"] for call in calls)
    return entry


LLAMA_FACTORY_TAGS = {  # its defaults
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
AXOLOTL_ROLES = {"human", "user", "assistant", "gpt", "system", "tool"}


def check_axolotl(entry: dict[str, Any], rows: list[dict]) -> None:
    assert Path(entry["path"]).is_file()
    if entry["type"] == "chat_template":
        names = entry["message_property_mappings"]
        for row in rows:
            for turn in row[entry["field_messages"]]:
                assert turn[names["role"]] in AXOLOTL_ROLES
                for call in turn.get("tool_calls") or []:
                    assert isinstance(json.loads(call["function"]["arguments"]), dict)
            assert all(isinstance(tool, dict) for tool in json.loads(row.get("tools") or "[]"))
    elif entry["type"] == "alpaca":
        assert all(isinstance(row[name], str) for row in rows for name in ("instruction", "input", "output"))
        assert not any(row.get("history") or row.get("system") for row in rows), "it does not look at these"
    else:
        assert entry["type"]["format"] == entry["type"]["no_input_format"] == "{instruction}"
        assert {entry["type"]["field_instruction"], entry["type"]["field_output"]} <= set(rows[0])


def test_what_each_trainer_asks_of_a_folder_is_there(run: Run, tmp_path: Path) -> None:
    folders = {form: tmp_path / form for form in FORMS}
    for form, out in folders.items():
        export(run.mixture.path, form, out)
        rows = list(loaded(out, tmp_path))
        assert check_llama_factory(out, rows)["formatting"] == (
            "sharegpt" if form in ("sharegpt", "messages") else "alpaca"
        )
        check_axolotl(axolotl_of(out), rows)
        assert (snippet(out, "open-instruct:") == ANOTHER) == (form != "messages")


def axolotl_of(out: Path) -> dict[str, Any]:
    return yaml.safe_load(snippet(out, "axolotl:").replace("FOLDER", str(out)))["datasets"][0]


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., Path]:
    """A folder of these rows, which stand for a mixture's."""

    def make(form: str, *rows: dict) -> Path:
        folder, out = tmp_path / "mixture", tmp_path / form
        folder.mkdir()
        lines = ({"rank": i, "gain": 1.0, **row} for i, row in enumerate(rows))
        (folder / "mixture.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "meta.json").write_text('{"params": {"strategy": {"_target_": "a.Dpp"}}}')
        export(folder, form, out)
        return out

    return make


def test_calls_of_tools_go_to_the_form_that_each_trainer_reads(
    exported: Callable[..., Path], tmp_path: Path
) -> None:
    out = exported("messages", TOOLS, CHAT)
    assert json.loads((out / "dataset_info.json").read_text()) == {}
    assert "export --as sharegpt" in snippet(out, "LLaMA-Factory (`dataset_info.json` is here):")
    assert "no calls of tools" in snippet(out, "open-instruct:")
    check_axolotl(axolotl_of(out), list(loaded(out, tmp_path)))


def test_calls_of_tools_as_sharegpt_are_for_llama_factory(
    exported: Callable[..., Path], tmp_path: Path
) -> None:
    out = exported("sharegpt", TOOLS, CHAT)
    assert check_llama_factory(out, list(loaded(out, tmp_path)))["columns"]["tools"] == "tools"
    assert snippet(out, "axolotl:") == snippet(out, "TRL:") == snippet(out, "open-instruct:") == ANOTHER


def test_what_a_trainer_would_pass_over_is_said(exported: Callable[..., Path], tmp_path: Path) -> None:
    """Weights that it does not know, rows that do not alternate."""
    muted = [turn | {"weight": 0} if turn["content"] == "Hello." else turn for turn in CHAT["messages"]]
    twice = [*CHAT["messages"], {"role": "assistant", "content": "Really."}]
    out = exported("messages", CHAT | {"messages": muted}, CHAT | {"messages": twice}, PLAIN)
    assert "leaves out 1 of 3 rows" in snippet(out, "LLaMA-Factory (`dataset_info.json` is here):")
    assert axolotl_of(out)["message_field_training"] == "weight"
    for trainer in ("TRL:", "LLaMA-Factory (`dataset_info.json` is here):", "open-instruct:"):
        assert "it trains turns of weight 0, too" in snippet(out, trainer)


def test_a_history_is_alpacas_in_llama_factory_alone(exported: Callable[..., Path], tmp_path: Path) -> None:
    out = exported("alpaca", CHAT, PLAIN)
    assert check_llama_factory(out, list(loaded(out, tmp_path)))["columns"]["history"] == "history"
    assert snippet(out, "axolotl:") == snippet(out, "TRL:") == ANOTHER


@pytest.mark.parametrize(
    "messages",
    [
        [
            {"role": "user", "content": [{"type": "text", "text": "A?"}]},
            {"role": "assistant", "content": "B."},
        ],
        [{"role": "human", "content": "A?"}, {"role": "assistant", "content": "B."}],
        "[]",
    ],
    ids=["typed parts", "another role", "text"],
)
def test_records_as_they_came_are_given_to_no_trainer_that_reads_them_otherwise(messages: Any) -> None:
    assert shape([{"messages": messages}]).form == ""


BLOCKS = (  # a template that says what is trained, with tools and their calls
    "{% if tools %}{{ 'tools ' + tools | tojson + '\n' }}{% endif %}"
    "{% for m in messages %}{{ m.role + ': ' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name + ' ' + c.function.arguments | tojson }}{% endfor %}"
    "{{ eos_token }}{% endgeneration %}{% else %}{{ m.content + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@pytest.mark.parametrize("rows", [[TOOLS, CHAT], [CHAT, PLAIN]], ids=["tools", "talk"])
def test_trl_trains_on_what_is_trained_here(
    rows: list[dict], exported: Callable[..., Path], tmp_path: Path
) -> None:
    """The card's snippet as it stands, with the tiny model: the same tokens, the same of them trained."""
    from trl import SFTConfig, SFTTrainer

    out, tokenizer, trainers = exported("messages", *rows), Tiny().tokenizer(), []
    tokenizer.chat_template = BLOCKS

    def trainer(model: str, **given: Any) -> SFTTrainer:
        trainers.append(SFTTrainer(model=Tiny().load(), processing_class=tokenizer, **given))
        return trainers[-1]

    def config(output_dir: str, **given: Any) -> SFTConfig:
        return SFTConfig(output_dir=str(tmp_path / "trl"), max_steps=1, report_to=[], use_cpu=True, **given)

    names = {
        "load_dataset": lambda path, split: loaded(Path(path), tmp_path),
        "SFTTrainer": trainer,
        "SFTConfig": config,
    }
    exec(snippet(out, "TRL:").replace("FOLDER", str(out)), names)
    assert trainers[0].state.global_step == 1
    for row, made in zip(rows, trainers[0].train_dataset, strict=True):
        turns = row.get("messages") or turns_of(row)
        found = render(tokenizer, "chat", turns, row.get("tools"))
        assert made["input_ids"] == found.ids
        assert made["labels"] == found.labels


def turns_of(row: dict) -> list[dict]:
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]


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
