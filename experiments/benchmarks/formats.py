"""What files are taken for: a table of formats, each line made by a run that reads the corpus and ends.

    python experiments/benchmarks/formats.py                  small files in every shape, written here
    python experiments/benchmarks/formats.py FILE FOLDER ...  and files of your own

Each is `python run.py corpus=jsonl corpus.path=FILE evaluation=none until=corpus model=tiny embedding=tfidf`,
with nothing else said of it but that long rows stay. Written: experiments/results/formats.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUN = [
    "corpus=jsonl",
    "evaluation=none",
    "until=corpus",
    "model=tiny",
    "embedding=tfidf",
    "pool.max_tokens=100000",
    "tracker=none",
    "budget=1",
]
ASK, SAY = {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}
MORE = [{"role": "user", "content": "And 2 + 2?"}, {"role": "assistant", "content": "4"}]
CALL = {"name": "add", "arguments": {"x": 1}}
ADD = {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {}}}
TREE = {"text": "1 + 1?", "role": "prompter", "message_id": "a", "parent_id": None}
REPLIES = [
    {"text": said, "role": "assistant", "rank": rank, "replies": []} for said, rank in (("3", 1), ("2", 0))
]
SUPERNI = {"Definition": ["Add the numbers."], "Instances": [{"id": "a", "input": "1 2", "output": ["3"]}]}
MADE: dict[str, list[dict[str, Any]]] = {
    "prompt/response": [{"task": "sums", "prompt": "1 + 1?", "response": "2"}],
    "a number, a list of one": [
        {"task": 7, "prompt": "1 + 1?", "response": 2},
        {"task": "s", "prompt": "1?", "response": ["1"]},
    ],
    "Alpaca": [{"instruction": "Add.", "input": "1, 1", "output": "2"}],
    "Dolly": [{"instruction": "Who?", "context": "Ada wrote it.", "response": "Ada", "category": "qa"}],
    "FLAN": [{"inputs": "1 + 1?", "targets": "2", "task": "sums"}],
    "question/answer": [{"question": "1 + 1?", "answer": "2"}],
    "ShareGPT": [{"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]}],
    "ShareGPT with tools": [
        {
            "conversations": [
                {"from": "human", "value": "1 + 1?"},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "2"},
                {"from": "gpt", "value": "2"},
            ],
            "tools": json.dumps([ADD]),
        }
    ],
    "OpenAI messages": [{"messages": [{"role": "system", "content": "Be brief."}, ASK, SAY, *MORE]}],
    "OpenAI messages with tool calls": [
        {
            "messages": [
                ASK,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "1", "type": "function", "function": CALL}],
                },
                {"role": "tool", "content": "2", "tool_call_id": "1"},
                SAY,
            ],
            "tools": [{"type": "function", "function": ADD}],
        }
    ],
    "messages with typed parts": [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}, SAY]}
    ],
    "messages with an image": [{"messages": [{"role": "user", "content": [{"type": "image_url"}]}, SAY]}],
    "messages with weights": [{"messages": [ASK, SAY | {"weight": 0}, *MORE]}],
    "messages as a JSON text": [{"messages": json.dumps([ASK, SAY])}],
    "messages that end unanswered": [{"messages": [ASK, SAY, MORE[0]]}],
    "OASST, a tree a row": [TREE | {"replies": REPLIES}],
    "OASST, a message a row": [
        TREE,
        *(
            {**reply, "message_id": f"b{i}", "parent_id": "a"} | {"replies": None}
            for i, reply in enumerate(REPLIES)
        ),
    ],
    "DPO": [{"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}],
    "DPO, conversations": [{"chosen": [ASK, SAY, *MORE], "rejected": [ASK, SAY, MORE[0], SAY]}],
    "KTO": [
        {"prompt": "1 + 1?", "completion": said, "label": good} for said, good in (("2", True), ("3", False))
    ],
    "TRL, prompt and completion as turns": [{"prompt": [ASK], "completion": [SAY]}],
    "Super-NaturalInstructions": [SUPERNI],
}


def read(path: Path, root: Path) -> tuple[str, str, str]:
    """Rows, what the file was taken for, and what was made of its rows; the refusal where there was one."""
    command = [sys.executable, str(ROOT / "run.py"), *RUN, f"corpus.path={path}", f"root={root}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    found = sorted((root / "store" / "corpus").glob("*/meta.json"), key=lambda meta: meta.stat().st_mtime)
    if done.returncode or not found:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        told = next((line for line in reversed(said) if str(path) in line), said[-1] if said else "")
        return "", "", "refused: " + told.split(str(path), 1)[-1].lstrip(",: ").removeprefix("line 1: ")
    facts = json.loads(found[-1].read_text())["facts"]
    reading = facts["reading"]
    notes = {
        **reading["read_otherwise"],
        **{f"left out: {what}": n for what, n in reading["rows_left_out"].items()},
    }
    unread = ", ".join(reading["fields_not_read"])
    told = "; ".join(
        [*(f"{what} ({n})" for what, n in notes.items()), *([f"not read: {unread}"] if unread else [])]
    )
    return f"{facts['n_pool']:,}", ", ".join(reading["files"]), told or "as it stands"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "experiments" / "results" / "formats.md")
    given = parser.parse_args()
    lines = [
        "# What files are taken for",
        "",
        "| given | rows | file | what was made of it (rows) |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        named = [(f"`{path.parent.name}/{path.name}`", path.resolve()) for path in given.files]
        for i, (name, records) in enumerate(MADE.items()):
            (folder / str(i)).mkdir()
            path = folder / str(i) / ("task001_add.json" if records == [SUPERNI] else "made.jsonl")
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
            named.append((name, path))
        for i, (name, path) in enumerate(named):
            cells = [cell.replace("|", "\\|") for cell in read(path, folder / f"root{i}")]
            lines.append(f"| {name} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    # what stands below the table is written by hand
    _, heading, below = given.out.read_text().partition("\n## ") if given.out.is_file() else ("", "", "")
    given.out.write_text("\n".join(lines) + "\n" + heading + below)


if __name__ == "__main__":
    main()
