"""The corpus stage: from a corpus to the pool that every strategy looks at, and the held-out rows that none
does.

Filters come before selection, by the tokens of the very model that will be trained, so that all strategies
choose from one eligible pool and nothing is dropped later in training. Whatever is dropped is counted by
reason. Rows are read, measured and filtered into a temporary file; when every task's name is known, that file
is streamed again into held-out and pool rows. Memory holds digests of the ids and the held-out prompts'
n-grams, never the corpus.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from smartdpp.corpus import originals
from smartdpp.corpus.notes import Notes, noted, said
from smartdpp.corpus.overlap import HeldoutIndex, NearCopies
from smartdpp.corpus.rows import BadRow, Tally
from smartdpp.errors import InputError
from smartdpp.logs.visible import one_line
from smartdpp.models.turns import (
    Refused,
    encode_row,
    flat,
    is_trained,
    last_only,
    messages_of,
    prompt_and_response,
)
from smartdpp.store.disk import write_json
from smartdpp.types import Corpus, Evaluation, Row

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

EMPTY_PROMPT = "empty prompt"
EMPTY_RESPONSE = "empty response"
UNTRAINED = "no assistant turn to train on"
LONG_PROMPT = "prompt longer than max_prompt_tokens"
LONG = "prompt and response longer than max_tokens"
DUPLICATE = "duplicate within its task"
OVERLAP = "overlap with a held-out prompt"
NEAR_COPY = "near copy of a held-out row of a task in the pool"

SAME = ("task", "prompt", "response", "messages", "tools")  # two rows that agree in these are duplicates
# the columns that a corpus with conversations has beside the others
TURNS = {"messages": "string", "tools": "string"}
ROW_GROUP = 8192  # rows held in memory at a time
EXAMPLES = 5  # ids kept per task and reason, and per reason in dropped.json
PAIRS_PER_ROW = 20  # listed in overlap.jsonl per pool row; what is left out is counted


@dataclass(frozen=True)
class Limits:
    """What a row must satisfy to be eligible. Tokens are the model's, with its format and the end-of-text
    token."""

    max_tokens: int = 256
    max_prompt_tokens: int | None = None
    overlap_ngram: int = 8
    drop_overlap: bool = False
    drop_duplicates: bool = False
    turns: Literal["all", "last"] = "all"  # of a conversation's assistant turns, which are trained

    def __post_init__(self) -> None:
        if self.max_tokens < 2:
            raise InputError(
                f"pool.max_tokens is {self.max_tokens}: prompt, response and end of text need at least 2 "
                "tokens."
            )
        if self.max_prompt_tokens is not None and not 1 <= self.max_prompt_tokens < self.max_tokens:
            raise InputError(
                f"pool.max_prompt_tokens is {self.max_prompt_tokens}: choose 1 to {self.max_tokens - 1} "
                "(below max_tokens)."
            )
        if self.overlap_ngram < 1:
            raise InputError(
                f"pool.overlap_ngram is {self.overlap_ngram}: choose a number of words, 1 or more (8 to 13 "
                "are usual)."
            )
        if self.turns not in ("all", "last"):
            raise InputError(
                f"pool.turns is {self.turns!r}: choose all or last, the assistant turns of a conversation "
                "that are trained."
            )


def build(
    corpus: Corpus,
    evaluation: Evaluation,
    tokenizer: PreTrainedTokenizerBase,
    fmt: str,
    limits: Limits,
    out: Path,
) -> dict[str, Any]:
    """Writes the corpus artifact into the folder ``out`` and returns its summary.

    data.parquet the pool, in the corpus's order: a row's fields with n_prompt_tokens and n_tokens (prompt,
    response, end of text).
                      Where a row is a conversation there are columns messages and tools (JSON, or null); its
                      prompt is what the user
                      says, its response what is trained, its n_prompt_tokens all tokens that are not trained
    records.parquet row for row with data.parquet, the records as they came, where the corpus has any: see
    smartdpp.corpus.originals heldout.parquet rows of the held-out tasks, same columns and same filters on
    length; and, with ``aside`` true, rows that were set
                      aside of tasks that stay in the pool
    dropped.json counts by reason for both, some ids for each, tasks that lost all their rows, rows read; what
    was read
                      otherwise than it stands, or not at all: files, rows, fields (see
                      smartdpp.corpus.notes),
                      of the corpus and of the evaluation's own file
    overlap.jsonl {id, task, heldout_id, heldout_task, text, boilerplate, pool_rows}: a line per pool row and
    held-out prompt that share
                      text; boilerplate has one line per pool task, held-out task and text, where id is the
                      first of pool_rows; a
                      near copy of a held-out row of a task in the pool has left the pool: pool_rows is 0

    Raises InputError when the corpus has no rows, or no row of the pool or of a held-out task is left.
    """
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    eligible = out / "eligible.parquet"
    losses = Losses()

    with noted() as notes:
        seen, conversations = _filter(corpus, tokenizer, fmt, limits, eligible, losses, notes)
    turns = TURNS if conversations else {}
    if not seen:
        raise InputError("The corpus has no rows.")
    heldout_tasks = set(evaluation.heldout(sorted(seen)))

    aside = evaluation.aside(_select(eligible, lambda row: row["task"] not in heldout_tasks))
    ids = {one for of_task in aside.values() for one in of_task}

    heldout, documents = _write_heldout(eligible, heldout_tasks, ids, out / "heldout.parquet", turns)
    with noted() as of_evaluation:
        theirs = list(evaluation.documents())
    stay = set(seen) - heldout_tasks
    index = HeldoutIndex(
        chain(documents, (row for row in theirs if row["task"] not in stay)), limits.overlap_ngram
    )
    of_pool = [
        *(_select(eligible, lambda row: row["id"] in ids) if ids else ()),
        *(row for row in theirs if row["task"] in stay),
    ]
    near = NearCopies(of_pool, limits.overlap_ngram, _select(eligible)) if of_pool else None
    pool, overlap = _write_pool(
        _select(eligible, lambda row: row["task"] not in heldout_tasks and row["id"] not in ids),
        index,
        near,
        limits,
        out,
        losses,
        turns,
    )
    eligible.unlink()

    lost = sorted(task for task in seen if not pool[task] + heldout[task])
    dropped = {
        "pool": losses.counts(set(seen) - heldout_tasks),
        "heldout": losses.counts(heldout_tasks),
        "examples": {
            "pool": losses.examples(set(seen) - heldout_tasks),
            "heldout": losses.examples(heldout_tasks),
        },
        "lost_tasks": lost,
        **({"tasks_too_small": [task for task, some in aside.items() if not some]} if ids else {}),
        **(
            {"tasks_emptied": [task for task, some in aside.items() if some and not pool[task]]}
            if ids
            else {}
        ),
        "total_read": seen.total(),
        "reading": notes.record(),
        "reading_evaluation": of_evaluation.record(),
    }
    write_json(out / "dropped.json", dropped)
    _require_rows(seen, pool, heldout_tasks & set(lost), dropped, limits)
    return {
        "n_pool": pool.total(),
        "n_heldout": heldout.total(),
        "n_tasks": len(pool),
        "n_heldout_tasks": len(heldout),
        "total_read": seen.total(),
        "dropped": {"pool": dropped["pool"], "heldout": dropped["heldout"]},
        "lost_tasks": lost,
        **{name: dropped[name] for name in ("tasks_too_small", "tasks_emptied") if name in dropped},
        "reading": notes.facts(),
        "reading_evaluation": of_evaluation.facts(),
        "overlap": overlap,
        "conversations": conversations,
        "seconds": round(time.perf_counter() - began, 3),
    }


def read(path: Path, columns: list[str] | None = None, without: Sequence[str] = ()) -> pa.Table:
    """A parquet file of this stage: these columns, or all but a few."""
    import pyarrow.parquet as pq

    if without:
        columns = [name for name in pq.read_schema(path).names if name not in without]
    return pq.read_table(path, columns=columns, memory_map=True)


def take(path: Path, index: np.ndarray) -> pa.Table:
    """These rows of such a file, distinct, in the order of ``index`` (int64[k]). A row group is in memory at
    a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    order, begin, found = np.argsort(index), 0, []
    ascending = index[order]
    with pq.ParquetFile(path, memory_map=True) as file:
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            a, b = np.searchsorted(ascending, [begin, end])
            if a < b:
                found.append(file.read_row_group(group).take(ascending[a:b] - begin))
            begin = end
        table = pa.concat_tables(found) if found else file.schema_arrow.empty_table()
    return table.take(np.argsort(order))


class Losses:
    """Dropped rows, counted by task until it is known which tasks are held out."""

    def __init__(self) -> None:
        self.count: Counter[tuple[str, str]] = Counter()
        self.ids: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, row: Row, reason: str) -> None:
        key = row["task"], reason
        self.count[key] += 1
        if len(self.ids[key]) < EXAMPLES:
            self.ids[key].append(row["id"])

    def counts(self, tasks: set[str]) -> dict[str, int]:
        total: Counter[str] = Counter()
        for (task, reason), count in self.count.items():
            if task in tasks:
                total[reason] += count
        return dict(sorted(total.items()))

    def examples(self, tasks: set[str]) -> dict[str, list[str]]:
        some: dict[str, list[str]] = defaultdict(list)
        for (task, reason), ids in self.ids.items():
            if task in tasks:
                some[reason] += ids
        return {reason: ids[:EXAMPLES] for reason, ids in sorted(some.items())}


def _filter(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    fmt: str,
    limits: Limits,
    eligible: Path,
    losses: Losses,
    notes: Notes,
) -> tuple[Counter[str], int]:
    """First pass: eligible rows with their token counts into a file. Returns rows read per task, and how many
    are conversations.

    A conversation that the model's template refuses is one that cannot be read, as the corpus has it.
    """
    from tqdm import tqdm

    seen: Counter[str] = Counter()
    distinct: set[int] = set()
    conversations = 0
    drops = getattr(corpus, "on_bad_row", None)
    unread = Tally(drops == "drop", getattr(corpus, "max_bad_share", 0), False)
    # with the records they came from, where a corpus has any
    rows = getattr(corpus, "originals", corpus.rows)()
    with _writer(eligible, **TURNS, **originals.COLUMNS) as write:
        for row in tqdm(rows, desc="corpus", unit=" rows"):
            row = originals.packed(of_turns(row, limits))
            reason = None
            if not row["prompt"].strip():
                reason = EMPTY_PROMPT
            elif (messages := messages_of(row)) is not None and not any(map(is_trained, messages)):
                reason = UNTRAINED
            elif not row["response"].strip():
                reason = EMPTY_RESPONSE
            elif (
                limits.drop_duplicates and (key := hash(tuple(row.get(field) for field in SAME))) in distinct
            ):
                reason = DUPLICATE
            else:
                try:
                    example = encode_row(tokenizer, fmt, row)
                except Refused as refused:
                    if drops is None:
                        raise
                    place = notes.place or f"row {row['id']!r}"
                    unread.problem(BadRow(place, refused.reason, f"{refused.said.rstrip('.')}."))
                    continue
                n_tokens, n_prompt = len(example.ids), len(example.ids) - example.n_trained
                if limits.max_prompt_tokens is not None and n_prompt > limits.max_prompt_tokens:
                    reason = LONG_PROMPT
                elif n_tokens > limits.max_tokens:
                    reason = LONG
            seen[row["task"]] += 1
            if reason:
                losses.add(row, reason)
                continue
            if limits.drop_duplicates:
                distinct.add(key)
            write({**row, "n_prompt_tokens": n_prompt, "n_tokens": n_tokens})
            conversations += messages is not None
    if unread.bad:
        unread.after(notes, seen.total())
        unread.end("the corpus")
    return seen, conversations


def of_turns(row: Row, limits: Limits) -> Row:
    """A conversation as it is stored, with those turns trained that ``limits`` says; a single turn as it
    is."""
    if (messages := messages_of(row)) is None:
        return row
    if limits.turns == "last":
        messages = last_only(messages)
    prompt, response = prompt_and_response(messages)
    return flat({**row, "prompt": prompt, "response": response, "messages": messages})


def _write_heldout(
    eligible: Path, tasks: set[str], aside: set[str], path: Path, turns: dict[str, str]
) -> tuple[Counter[str], list[Row]]:
    """Second pass, held-out rows. Returns rows written per task, and what the overlap index needs of those of
    held-out tasks."""
    written: Counter[str] = Counter()
    documents = []
    with _writer(path, **turns, **({"aside": "bool"} if aside else {})) as write:
        for row in _select(eligible, lambda row: row["task"] in tasks or row["id"] in aside):
            write(row | ({"aside": row["id"] in aside} if aside else {}))
            written[row["task"]] += 1
            if row["id"] not in aside:
                documents.append({field: row[field] for field in ("id", "task", "prompt")})
    return written, documents


def _write_pool(
    rows: Iterator[Row],
    index: HeldoutIndex,
    near: NearCopies | None,
    limits: Limits,
    out: Path,
    losses: Losses,
    turns: dict[str, str],
) -> tuple[Counter[str], dict[str, int]]:
    """Third pass, pool rows and their overlap with the held-out prompts. Returns rows written per task and
    the overlap's counts."""
    from tqdm import tqdm

    written: Counter[str] = Counter()
    overlap: Counter[str] = Counter()
    boilerplate: dict[tuple[str, str, str], dict[str, Any]] = {}
    with (
        _writer(out / "data.parquet", **turns) as write,
        originals.keeping(out / originals.FILE) as keep,
        (out / "overlap.jsonl").open("w", encoding="utf-8") as lines,
    ):

        def list_match(**match: Any) -> None:
            lines.write(json.dumps(match, ensure_ascii=False) + "\n")

        for row in tqdm(rows, desc="overlap with held-out prompts", unit=" rows"):
            if near and (copy := near.match(row["prompt"])):
                list_match(id=row["id"], task=row["task"], **copy._asdict(), pool_rows=0)
                losses.add(row, NEAR_COPY)
                continue
            matches = index.matches(row["prompt"])
            leaks = [match for match in matches if not match.boilerplate]
            # longest first; the sort is stable, so equals stay in the documents' order
            for match in sorted(leaks, key=lambda match: -len(match.text))[:PAIRS_PER_ROW]:
                list_match(id=row["id"], task=row["task"], **match._asdict(), pool_rows=1)
            for match in matches[len(leaks) :]:
                entry = boilerplate.setdefault(
                    (row["task"], match.heldout_task, match.text),
                    {"id": row["id"], "task": row["task"], **match._asdict(), "pool_rows": 0},
                )
                entry["pool_rows"] += 1
            overlap["pairs"] += len(leaks)
            overlap["pairs_not_listed"] += max(0, len(leaks) - PAIRS_PER_ROW)
            overlap["pool_rows"] += bool(leaks)
            overlap["boilerplate_pool_rows"] += len(matches) > len(leaks)
            if leaks and limits.drop_overlap:
                losses.add(row, OVERLAP)
            else:
                write(row)
                keep(row)
                written[row["task"]] += 1
        for entry in boilerplate.values():
            list_match(**entry)
    if overlap["pairs_not_listed"]:
        print(
            f"overlap.jsonl lists {PAIRS_PER_ROW} pairs per pool row at most: {overlap['pairs_not_listed']} "
            "more are only counted."
        )
    counts = ("pairs", "pairs_not_listed", "pool_rows", "boilerplate_pool_rows")
    return written, {"documents": len(index), **{name: overlap[name] for name in counts}}


def _require_rows(
    seen: Counter[str], pool: Counter[str], lost_heldout: set[str], dropped: dict[str, Any], limits: Limits
) -> None:
    if not pool:
        reasons = (
            ", ".join(f"{count} {reason}" for reason, count in dropped["pool"].items())
            or "every task is held out"
        )
        raise InputError(
            f"The pool is empty: of {seen.total()} rows read none is left ({reasons}). "
            f"Raise pool.max_tokens (now {limits.max_tokens}) or choose another corpus."
        )
    if lost_heldout:
        raise InputError(
            f"No row of the held-out {'task' if len(lost_heldout) == 1 else 'tasks'} "
            f"{', '.join(sorted(lost_heldout))} passed the filter "
            f"({', '.join(f'{count} {reason}' for reason, count in dropped['heldout'].items())} over all "
            "held-out tasks). "
            f"Raise pool.max_tokens (now {limits.max_tokens}) or hold out other tasks."
        )


def _schema() -> pa.Schema:
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        {
            **dict.fromkeys(
                ("id", "task", "dataset", "prompt", "response", "source", "license", "template"), text
            ),
            "choices": pa.list_(text),
            "answer": text,
            "score": pa.float64(),
            "n_prompt_tokens": pa.int32(),
            "n_tokens": pa.int32(),
        }
    )


@contextmanager
def _writer(path: Path, **more: str) -> Iterator[Callable[[Row], None]]:
    """A function that appends a row to a parquet file, one row group at a time. ``more``: columns beside
    those of all, with their types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [*_schema(), *(pa.field(name, pa.type_for_alias(kind)) for name, kind in more.items())]
    )
    waiting: list[Row] = []

    with pq.ParquetWriter(path, schema, compression="zstd") as file:

        def flush() -> None:
            file.write_table(pa.Table.from_pylist(waiting, schema=schema))
            waiting.clear()

        def write(row: Row) -> None:
            waiting.append(row)
            if len(waiting) == ROW_GROUP:
                flush()

        yield write
        flush()


def _select(path: Path, wanted: Callable[[Row], bool] = lambda row: True) -> Iterator[Row]:
    """Rows of a parquet file, all or those that are ``wanted``."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP):
            for row in batch.to_pylist():
                if wanted(row):
                    yield row


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line, with all that was dropped or read otherwise than it stands."""
    dropped = {
        part: ", ".join(f"{n} {reason}" for reason, n in counts.items())
        for part, counts in facts["dropped"].items()
    }
    some = ", ".join(map(one_line, facts["lost_tasks"][:3])) + (
        ", ..." if len(facts["lost_tasks"]) > 3 else ""
    )
    lost = (
        f"; {len(facts['lost_tasks'])} tasks lost every row ({some}: see dropped.json)"
        if facts["lost_tasks"]
        else ""
    )
    heldout = (
        f"held out {facts['n_heldout']} of {facts['n_heldout_tasks']} tasks (dropped: "
        f"{dropped['heldout'] or 'none'})"
    )
    for name, what in (
        ("tasks_too_small", "with too few different prompts to be evaluated"),
        ("tasks_emptied", "left the pool as a whole, all their rows near copies of held-out ones"),
    ):
        if few := facts.get(name):
            names = ", ".join(map(one_line, few[:3])) + (", ..." if len(few) > 3 else "")
            heldout += (
                f"; {len(few)} {'task' if len(few) == 1 else 'tasks'} {what} ({names}: see dropped.json)"
            )
    overlap = facts["overlap"]["pool_rows"]
    turns = (
        f"; {facts['conversations']} of all eligible rows are conversations"
        if facts.get("conversations")
        else ""
    )
    reading = "".join(f"; {sentence}" for sentence in said(facts["reading"])) if "reading" in facts else ""
    if theirs := said(facts["reading_evaluation"]) if "reading_evaluation" in facts else []:
        reading += f"; the evaluation's file: {', '.join(theirs)}"
    return (
        f"{facts['total_read']} rows: pool {facts['n_pool']} of {facts['n_tasks']} tasks (dropped: "
        f"{dropped['pool'] or 'none'}), "
        f"{heldout if facts['n_heldout_tasks'] else 'no task of the corpus is held out'}; "
        f"{overlap} pool rows share text with a held-out prompt{turns}{lost}{reading}"
    )
