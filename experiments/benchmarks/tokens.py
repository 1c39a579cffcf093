"""Whether a conversation's tokens here are those of ``apply_chat_template``, family by family.

    python experiments/benchmarks/tokens.py FILE ...            conversations of your own files

For each family of templates: those of tests/models/families.py with tokenizers that know their special
tokens, and those that TRL ships (the families' own), with the tokenizer of the default model. Compared are
the ids; a conversation that a template refuses counts apart. Written: tokens.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "models")]

from families import TEMPLATES, tokenizer_for  # noqa: E402

from smartdpp.corpus.jsonl import Jsonl  # noqa: E402
from smartdpp.models import SmolLM2  # noqa: E402
from smartdpp.models.turns import Message, Refused, messages_of, render, tools_of  # noqa: E402

OF_IMAGES = ("idefics3", "llava_next", "smolvlm")  # their templates take parts, and write no text
Talk = tuple[list[Message], Any]


def talks(path: Path, most: int) -> list[Talk]:
    """The first conversations of a file; a single turn is one of two."""
    found = []
    for row in islice(Jsonl(str(path)).rows(), most):
        single = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["response"]},
        ]
        found.append((messages_of(row) or single, tools_of(row)))
    return found


def families() -> Iterator[tuple[str, Any]]:
    for family in TEMPLATES:
        yield family, tokenizer_for(family)
    shipped = sorted(path.name for path in files("trl").joinpath("chat_templates").iterdir())
    for name in shipped:
        if not name.endswith("_training.jinja") or name.startswith(OF_IMAGES) or "_vl_" in name:
            continue
        tokenizer = SmolLM2().tokenizer()
        tokenizer.chat_template = files("trl").joinpath("chat_templates", name).read_text()
        yield f"{name.removesuffix('_training.jinja')} (TRL)", tokenizer


def counted(tokenizer: Any, some: list[Talk]) -> list[int]:
    """Conversations, tokens of the template and here, those equal, refused by both, refused here alone."""
    theirs = ours = equal = both = alone = 0
    for messages, tools in some:
        plain = [{key: value for key, value in turn.items() if key != "weight"} for turn in messages]
        try:
            expected = tokenizer.apply_chat_template(plain, tools=tools, tokenize=True, return_dict=False)
        except Exception:  # whatever a template raises
            expected = None
        try:
            found = render(tokenizer, "chat", messages, tools).ids
        except Refused:
            found = None
        both += expected is None and found is None
        alone += expected is not None and found is None
        if expected is not None and found is not None:
            theirs, ours, equal = theirs + len(expected), ours + len(found), equal + (expected == found)
    return [len(some), theirs, ours, equal, both, alone]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=100, help="conversations of each file")
    parser.add_argument("--out", type=Path, default=ROOT / "experiments" / "results" / "benchmarks")
    given = parser.parse_args()
    some = [talk for path in given.files for talk in talks(path, given.most)]
    lines = [
        f"The first {given.most} conversations of each of: "
        + ", ".join(f"`{path.parent.name}/{path.name}`" for path in given.files),
        "",
        "| template | conversations | tokens of apply_chat_template | tokens here | equal ids | "
        "refused by it | refused here alone |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for family, tokenizer in families():
        n, theirs, ours, *rest = counted(tokenizer, some)
        lines.append(f"| {family} | {n} | {theirs:,} | {ours:,} | {' | '.join(map(str, rest))} |")
        print(lines[-1], flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "tokens.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
