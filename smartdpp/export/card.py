"""What stands beside exported rows: LLaMA-Factory's dataset_info.json, and a card with a snippet for each
trainer."""

from __future__ import annotations

from collections.abc import Sequence
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


def dataset_info(file: str, fields: Sequence[str]) -> dict[str, Any]:
    """An entry as LLaMA-Factory's data/README.md has it; without one where no field is a prompt that it
    knows."""
    there = set(fields)
    if "messages" in there:
        tools = {"tools": "tools"} if "tools" in there else {}
        how: dict[str, Any] = {
            "formatting": "sharegpt",
            "columns": {"messages": "messages", **tools},
            "tags": ROLES,
        }
    elif "conversations" in there:
        how = {
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", **_named(there, "system", "tools")},
        }
    elif {"instruction", "output"} <= there:
        query = {"query": "input"} if "input" in there else {}
        columns = {
            "prompt": "instruction",
            **query,
            "response": "output",
            **_named(there, "system", "history"),
        }
        how = {"formatting": "alpaca", "columns": columns}
    elif {"prompt", "response"} <= there:
        how = {"formatting": "alpaca", "columns": {"prompt": "prompt", "response": "response"}}
    else:
        return {}
    return {NAME: {"file_name": file, **how}}


def _named(there: set[str], *names: str) -> dict[str, str]:
    return {name: name for name in names if name in there}


def card(file: str, fields: Sequence[str], n: int, strategy: str) -> str:
    """README.md: what `datasets` needs to load the folder, and how each trainer does."""
    return f"""---
configs:
- config_name: default
  data_files: {file}
---
# {n} examples chosen by smartdpp

Strategy `{strategy}`, in the order of selection; fields: {", ".join(f"`{name}`" for name in fields)}.

`datasets`:

```python
from datasets import load_dataset

rows = load_dataset("FOLDER", split="train")  # this folder
```

TRL:

```python
{_trl(set(fields))}
```

LLaMA-Factory (`dataset_info.json` is here):

```bash
{_llama_factory(file, fields)}
```

axolotl:

```yaml
{_axolotl(file, set(fields))}
```

open-instruct:

```bash
{_open_instruct(file, set(fields))}
```
"""


ANOTHER = "# this form is not one it reads: export --as messages"


def _trl(there: set[str]) -> str:
    load = 'rows = load_dataset("FOLDER", split="train")'
    if "messages" in there:
        shape = ""
    elif "conversations" in there:
        return ANOTHER
    elif {"instruction", "output"} <= there:
        given = '"\\n\\n".join(filter(None, (row["instruction"], row.get("input"))))'
        shape = (
            f'.map(lambda row: {{"prompt": {given}, "completion": row["output"]}}, '
            "remove_columns=rows.column_names)"
        )
    elif {"prompt", "response"} <= there:
        shape = '.select_columns(["prompt", "response"]).rename_column("response", "completion")'
    else:
        return ANOTHER
    more = f"\nrows = rows{shape}" if shape else ""
    return (
        f'{load}{more}\nSFTTrainer(model="MODEL", train_dataset=rows, '
        'args=SFTConfig(output_dir="OUT")).train()'
    )


def _llama_factory(file: str, fields: Sequence[str]) -> str:
    if not dataset_info(file, fields):
        return ANOTHER
    return (
        f"llamafactory-cli train --stage sft --dataset_dir FOLDER --dataset {NAME} "
        "--model_name_or_path MODEL ..."
    )


def _axolotl(file: str, there: set[str]) -> str:
    if "messages" in there or "conversations" in there:
        field = "messages" if "messages" in there else "conversations"
        names = ("role", "content") if field == "messages" else ("from", "value")
        how = f"""type: chat_template
    field_messages: {field}
    message_property_mappings:
      role: {names[0]}
      content: {names[1]}"""
    elif {"instruction", "output"} <= there:
        how = "type: alpaca"
    elif {"prompt", "response"} <= there:
        how = """type:
      field_instruction: prompt
      field_output: response
      format: "{instruction}\""""
    else:
        return ANOTHER
    kind = "parquet" if file.endswith(".parquet") else "json"
    return f"datasets:\n  - path: FOLDER/{file}\n    ds_type: {kind}\n    {how}"


def _open_instruct(file: str, there: set[str]) -> str:
    if "messages" not in there:
        return ANOTHER
    return (
        f"python open_instruct/finetune.py --dataset_mixer_list FOLDER/{file} 1.0 "
        "--dataset_mixer_list_splits train ..."
    )
