"""What stands beside exported rows: LLaMA-Factory's dataset_info.json, and a card with a snippet for each
trainer.

What each reads is taken from its documentation and the code that applies it, as of August 2026:
LLaMA-Factory ff6d4d1 (data/README.md, data/converter.py), axolotl 067b021 (docs/dataset-formats,
prompt_strategies), TRL 1.16 (dataset_formats.md, sft_trainer.py), open-instruct e6c3044
(docs/algorithms/dataset_transformation.md, finetune.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAME = "smartdpp"
ROLES = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}
KNOWN = {
    "messages": ("role", "content", {"system", "user", "assistant", "tool"}),
    "conversations": ("from", "value", {"system", "human", "gpt", "function_call", "observation"}),
}
ASKS, ANSWERS = {"user", "tool", "human", "observation"}, {"assistant", "gpt", "function_call"}
ANOTHER = "# this form is not one it reads: export --as messages"
SHAREGPT = "# it does not read calls of tools in messages: export --as sharegpt"


@dataclass(frozen=True)
class Shape:
    """What the rows are, beyond the names of their fields."""

    form: str  # messages | conversations | alpaca | pairs, empty where they are none of these
    fields: tuple[str, ...]
    tools: bool = False  # calls of tools, what they gave, or their definitions
    weights: bool = False  # of turns
    told: bool = False  # a system text or earlier turns in fields of their own
    uneven: int = 0  # rows whose turns do not alternate

    def named(self, *names: str) -> dict[str, str]:
        return {name: name for name in names if name in self.fields}


def shape(rows: Sequence[Mapping[str, Any]]) -> Shape:
    fields = tuple(dict.fromkeys(name for row in rows for name in row))
    told = any(row.get(name) for row in rows for name in ("system", "history"))
    defined = any(row.get("tools") for row in rows)
    for form, (role, said, known) in KNOWN.items():
        if form in fields:
            turns = [turn for row in rows for turn in _listed(row[form])]
            whole = all(isinstance(row[form], list) for row in rows) and all(
                turn.get(role) in known and isinstance(turn.get(said) or "", str) for turn in turns
            )
            tools = defined or any(turn.get("tool_calls") or turn[role] in TOOLS for turn in turns if whole)
            uneven = sum(not _alternate([turn[role] for turn in row[form]]) for row in rows) if whole else 0
            weights = any(turn.get("weight") is not None for turn in turns)
            return Shape(form if whole else "", fields, tools, weights, told, uneven)
    for form, names in (("alpaca", ("instruction", "output")), ("pairs", ("prompt", "response"))):
        if all(isinstance(row.get(name), str) for row in rows for name in names):
            return Shape(form, fields, defined, told=told)
    return Shape("", fields)


TOOLS = {"tool", "function_call", "observation"}


def _listed(turns: Any) -> Iterator[Mapping[str, Any]]:
    return (turn if isinstance(turn, dict) else {} for turn in (turns if isinstance(turns, list) else ()))


def _alternate(roles: Sequence[str]) -> bool:
    """Whether user (or a tool) and assistant take turns, after a system turn."""
    roles = roles[1:] if roles[:1] == ["system"] else roles
    return len(roles) % 2 == 0 and all(role in (ANSWERS if i % 2 else ASKS) for i, role in enumerate(roles))


def dataset_info(file: str, of: Shape) -> dict[str, Any]:
    """LLaMA-Factory's entry; without one where it would not read the rows as they are meant.

    Of messages its documented reading knows no ``tool_calls``: it would train on an empty answer.
    """
    if of.form == "messages" and not of.tools:
        how: dict[str, Any] = {
            "formatting": "sharegpt",
            "columns": {"messages": "messages", **of.named("system")},
            "tags": ROLES,
        }
    elif of.form == "conversations":
        how = {
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", **of.named("system", "tools")},
        }
    elif of.form == "alpaca":
        query = {"query": "input"} if "input" in of.fields else {}
        columns = {"prompt": "instruction", **query, "response": "output", **of.named("system", "history")}
        how = {"formatting": "alpaca", "columns": columns}
    elif of.form == "pairs":
        how = {"formatting": "alpaca", "columns": {"prompt": "prompt", "response": "response"}}
    else:
        return {}
    return {NAME: {"file_name": file, **how}}


def card(file: str, of: Shape, n: int, strategy: str) -> str:
    """README.md: what `datasets` needs to load the folder, and how each trainer does."""
    return f"""---
configs:
- config_name: default
  data_files: {file}
---
# {n} examples chosen by smartdpp

Strategy `{strategy}`, in the order of selection; fields: {", ".join(f"`{name}`" for name in of.fields)}.

`datasets`:

```python
from datasets import load_dataset

rows = load_dataset("FOLDER", split="train")  # this folder
```

TRL:

```python
{_trl(file, of)}
```

LLaMA-Factory (`dataset_info.json` is here):

```bash
{_llama_factory(file, of, n)}
```

axolotl:

```yaml
{_axolotl(file, of)}
```

open-instruct:

```bash
{_open_instruct(file, of)}
```
"""


CALLS = """import json
from datasets import Dataset


def read(line):
    row = json.loads(line)
    for turn in row["messages"]:
        for call in turn.get("tool_calls") or []:  # templates write arguments as JSON themselves
            if isinstance(call["function"]["arguments"], str):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return row


rows = Dataset.from_list([read(line) for line in open("FOLDER/FILE")], on_mixed_types="use_json")"""


def _trl(file: str, of: Shape) -> str:
    load, more = 'rows = load_dataset("FOLDER", split="train")', ""
    if of.form == "messages" and of.tools and file.endswith(".jsonl"):
        load = CALLS.replace("FILE", file)
    elif of.form == "alpaca" and not of.told:
        given = '"\\n\\n".join(filter(None, (row["instruction"], row.get("input"))))'
        more = (
            f'\nrows = rows.map(lambda row: {{"prompt": {given}, "completion": row["output"]}}, '
            "remove_columns=rows.column_names)"
        )
    elif of.form == "pairs" and not of.told:
        more = '\nrows = rows.select_columns(["prompt", "response"]).rename_column("response", "completion")'
    elif of.form != "messages" or of.tools:
        return ANOTHER
    # of a prompt and a completion the completion alone is trained; of messages it has to be asked for
    only = ", assistant_only_loss=True" if of.form == "messages" else ""
    train = f'SFTTrainer(model="MODEL", train_dataset=rows, args=SFTConfig(output_dir="OUT"{only})).train()'
    return f"{load}{more}\n{train}" + _unweighed(of)


def _unweighed(of: Shape) -> str:
    return "\n# it trains turns of weight 0, too" if of.weights else ""


def _llama_factory(file: str, of: Shape, n: int) -> str:
    if not dataset_info(file, of):
        return SHAREGPT if of.form == "messages" else ANOTHER
    left = f"\n# it leaves out {of.uneven} of {n} rows, whose turns do not alternate" if of.uneven else ""
    return (
        (
            f"llamafactory-cli train --stage sft --dataset_dir FOLDER --dataset {NAME} "
            "--model_name_or_path MODEL ..."
        )
        + left
        + _unweighed(of)
    )


def _axolotl(file: str, of: Shape) -> str:
    if of.form == "messages" or (of.form == "conversations" and not of.tools and not of.told):
        role, said, _ = KNOWN[of.form]
        how = f"""type: chat_template
    field_messages: {of.form}
    message_property_mappings:
      role: {role}
      content: {said}""" + ("\n    message_field_training: weight" if of.weights else "")
    elif of.form == "alpaca" and not of.told:
        how = "type: alpaca"
    elif of.form == "pairs" and not of.told:
        how = """type:
      field_instruction: prompt
      field_output: response
      format: "{instruction}"
      no_input_format: "{instruction}\""""
    else:
        return ANOTHER
    kind = "parquet" if file.endswith(".parquet") else "json"
    return f"datasets:\n  - path: FOLDER/{file}\n    ds_type: {kind}\n    {how}"


def _open_instruct(file: str, of: Shape) -> str:
    if of.form != "messages" or of.tools:
        return ANOTHER if of.form != "messages" else "# its documentation knows no calls of tools"
    return (
        f"python open_instruct/finetune.py --dataset_mixer_list FOLDER/{file} 1.0 "
        "--dataset_mixer_list_splits train ..."
    ) + _unweighed(of)
