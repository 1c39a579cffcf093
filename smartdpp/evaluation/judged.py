"""Open-ended answers, compared with a reference by a judge: a win rate over instructions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from smartdpp.bounds import Count, NotNegative, Seed
from smartdpp.corpus.jsonl import Jsonl as Rows
from smartdpp.errors import InputError
from smartdpp.evaluation import engines, judgement
from smartdpp.evaluation.generation import FILE, Generation, Sampling, generated
from smartdpp.evaluation.generation import read as read_generations
from smartdpp.evaluation.heldout import Heldout
from smartdpp.evaluation.indomain import Indomain, IndomainFile
from smartdpp.evaluation.jsonl import renamed
from smartdpp.evaluation.language_model import context
from smartdpp.evaluation.rows import SAMPLES, fitting, row_problems, write_scores
from smartdpp.evaluation.scores import exact_match, read_samples, rouge_l
from smartdpp.evaluation.tasks import documents
from smartdpp.models.turns import is_trained, messages_of, said, written_out
from smartdpp.runtime.device import compute_dtype, device_name
from smartdpp.store.disk import digest, file_hash, read_object, write_json, write_text
from smartdpp.types import Judge, Model, Question, Row, Spent, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 64  # questions asked before what was said is written down
VERDICTS, COST = "verdicts.jsonl", "judge_cost.json"
HALF = Verdict(0.5, 0.5)


@dataclass(frozen=True)
class Judged:
    """``limit`` instructions of each task are answered, and ``judge`` compares each with its reference.

    ``instructions`` are rows of held-out tasks, rows of the pool's tasks that are set aside (``limit`` of
    each), or those of the file ``path`` in any format that a corpus may have, whose tasks stay in the pool
    and whose near copies leave it. ``reference`` is the row's response, the base model's answer, or a file
    with an answer for every prompt. The base model is judged too, but where its own answers are the
    reference: there its win rate is a half.
    """

    reads_base: ClassVar[bool] = True

    judge: Judge
    instructions: Literal["heldout", "indomain", "file"] = "heldout"
    reference: str = "response"
    path: str | list[str] | None = None
    columns: dict[str, str | list[str]] | None = None
    constants: dict[str, str] | None = None
    tasks: list[str | int] | None = None
    num_tasks: Count = 8
    limit: Count = 25
    batch_size: Count = 32
    max_new_tokens: Count = 256
    stop: str | None = None
    temperature: NotNegative = 0.0
    seed: Seed = 0
    generation: engines.Engine = "plain"

    def __post_init__(self) -> None:
        if (self.instructions == "file") != bool(self.path):
            raise InputError(
                "evaluation.path: give a file of instructions with evaluation.instructions=file, and with no "
                "other"
            )
        _ = self.rows

    @property
    def from_corpus(self) -> bool:
        return self.instructions != "file"

    @cached_property
    def rows(self) -> Heldout | Indomain | IndomainFile:
        """Where the instructions come from, and what that takes out of the pool."""
        if self.instructions == "file":
            return IndomainFile(
                self.path or "", self.columns, self.constants, self.tasks, limit=self.limit, seed=self.seed
            )
        if self.instructions == "indomain":
            return Indomain(self.tasks, self.limit, seed=self.seed)
        return Heldout(self.tasks, self.num_tasks, self.limit, seed=self.seed)

    def check(self) -> list[str]:
        problems = [
            *self.rows.check(), *self.judge.check(), *engines.problems(self.generation, self.temperature)
        ]  # fmt: skip
        try:
            if self._file:
                self._file.open("rb").close()
        except OSError as error:
            problems.append(
                f"evaluation.reference={self.reference}: it cannot be read ({error.strerror}); it is "
                "response, base, or a file of answers"
            )
        return problems

    def fingerprint(self) -> str:
        return self.rows.fingerprint()

    def reference_content(self) -> str:
        """What the reference is, a file by what it holds."""
        return file_hash(self._file)[:16] if self._file else self.reference

    def split(self) -> dict[str, Any]:
        return self.rows.split()

    def heldout(self, tasks: list[str]) -> list[str]:
        return self.rows.heldout(tasks)

    def aside(self, rows: Iterator[Row]) -> dict[str, list[str]]:
        return self.rows.aside(rows)

    def unscored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        return self.rows.unscored(heldout)

    def documents(self) -> Iterator[Row]:
        return self.rows.documents()

    def check_documents(self, heldout: pa.Table | None, model: Model | None) -> list[str]:
        try:
            if heldout is None and self.from_corpus:
                self._references_of_file([])  # that it can be read
                return []
            tasks = self._tasks(heldout)
            chosen = self._first(tasks)
            problems = [*self.judge.refusals(len(chosen)), *self._twice(chosen)]
            self._references_of_file(chosen)
        except InputError as error:
            return [str(error)]
        how: dict[str, Any] = {"limit": self.limit, "max_new_tokens": self.max_new_tokens, "seed": self.seed}
        return problems + row_problems(tasks, None if heldout is None else model, generate=True, **how)

    def stated(self, heldout: pa.Table | None, of_base: bool) -> str:
        said = (self._judging(heldout, of_base), engines.stated(self.generation))
        return "; ".join(filter(None, said))

    def _judging(self, heldout: pa.Table | None, of_base: bool) -> str:
        """What the judge will cost at most."""
        if of_base and self.reference == "base":
            return ""  # its answers equal the reference
        if heldout is None and self.from_corpus:
            return "what the judge will cost is known after the corpus stage"
        chosen = self._first(self._tasks(heldout))
        answers = 4 * self.max_new_tokens * len(chosen)  # four characters a token, at most so many tokens
        references = answers if self.reference == "base" else sum(len(_target(row)) for row in chosen)
        characters = sum(len(_instruction(row)) for row in chosen) + answers + references
        return self.judge.stated(len(chosen), characters)

    def evaluate(
        self, model: Model, adapter: Path | None, heldout: pa.Table, out: Path, base: Path | None = None
    ) -> None:
        """Beside scores.json and samples.jsonl leaves the answers in generations.jsonl and all that the judge
        said in verdicts.jsonl. ``base`` is the folder that was left for the base model; where its answers are
        the reference and it is not given, they are made here."""
        tasks = self._tasks(heldout)
        chosen, excluded = fitting(
            model, tasks, context(model), self.limit, None, self.max_new_tokens, 0, self.seed
        )
        rows = [row for of_task in chosen.values() for row in of_task]
        how = Sampling(self.max_new_tokens, self.stop, self.temperature, self.seed)
        answers = generated(model, adapter, rows, out / FILE, how, self.batch_size, self.generation)
        if self.reference == "base":
            if adapter is None:
                of_base = answers
            elif base is None:
                of_base = generated(
                    model, None, rows, out / f"base_{FILE}", how, self.batch_size, self.generation
                )
            else:
                of_base = _of(rows, base / FILE)
            references = [one.answer for one in of_base]
        else:
            references = self._references_of_file(rows) or [_target(row) for row in rows]
        questions = [
            Question(_instruction(row), one.answer, reference)
            for row, one, reference in zip(rows, answers, references, strict=True)
        ]
        verdicts, spent, seconds = self._verdicts(rows, questions, out / VERDICTS)
        difficulty = None if base is None or self.reference == "base" else _preferences(base / SAMPLES, rows)
        samples, facts = _samples(rows, questions, verdicts, difficulty, spent)
        facts |= {
            "equal": sum(one.answer == one.reference for one in questions),
            "cut": sum(one.ended == "length" for one in answers),
            "seconds": round(seconds, 3),
        }
        dtype = str(compute_dtype()).removeprefix("torch.")
        settings = {
            "device": device_name(), "dtype": dtype, "reference": self.reference_content(),
            "limit": self.limit, "batch_size": self.batch_size,
            "max_new_tokens": self.max_new_tokens, "stop": self.stop,
            "temperature": self.temperature, "seed": self.seed,
            "difficulty": "the base model's preference" if difficulty is not None else None,
        }  # fmt: skip
        settings |= {} if self.generation == "plain" else {"generation": engines.named(self.generation)}
        lost = [name for name in sorted(tasks) if name not in chosen]
        write_scores(out, samples, settings=settings, excluded=excluded, lost_tasks=lost, judge=facts)

    @property
    def _file(self) -> Path | None:
        """Of reference answers."""
        return None if self.reference in ("response", "base") else Path(self.reference).expanduser()

    def _tasks(self, heldout: pa.Table | None) -> dict[str, list[Row]]:
        """The rows that may be instructions, by task."""
        if isinstance(self.rows, (Heldout, Indomain)):
            assert heldout is not None
            return self.rows._own(heldout)
        tasks: dict[str, list[Row]] = {}
        for row in self.rows.documents():
            tasks.setdefault(row["task"], []).append(row)
        return tasks

    def _first(self, tasks: dict[str, list[Row]]) -> list[Row]:
        """Those that are asked, but for rows that turn out too long."""
        return [
            row
            for _, rows in sorted(tasks.items())
            for row in islice(documents(rows, 0, self.seed), self.limit)
        ]

    def _twice(self, rows: list[Row]) -> list[str]:
        """A file's instructions that would be answered, judged and counted more than once."""
        if self.from_corpus:
            return []
        own = self.reference == "response"
        seen: dict[tuple[str, str], Row] = {}
        again = [
            (first, row)
            for row in rows
            if (first := seen.setdefault((_instruction(row), _target(row) if own else ""), row)) is not row
        ]
        if not again:
            return []
        (first, row), *_ = again
        return [
            f"evaluation.path: {len(again)} of {len(rows)} instructions stand there more than once"
            f"{' with one reference' if own else ''}, first that of rows {first['id']!r} and {row['id']!r}: "
            "each would be judged and counted again; leave one of each"
        ]

    def _references_of_file(self, rows: list[Row]) -> list[str] | None:
        """By prompt; None where the reference is no file. InputError if a prompt has none."""
        if self._file is None:
            return None
        asked = {row["prompt"] for row in rows}
        answers: dict[str, str] = {}
        try:
            read = Rows(str(self._file), self.columns, {"task": "reference"} | (self.constants or {}))
            for row in read.rows():
                if answers.setdefault(row["prompt"], _target(row)) != _target(row) and row["prompt"] in asked:
                    raise InputError(
                        f"evaluation.reference={self.reference}: it has two answers to the prompt of row "
                        f"{row['id']!r}; leave one of them"
                    )
        except InputError as error:
            said = str(error).replace("corpus.path", "evaluation.reference")
            raise InputError(renamed(said)) from None
        missing = [row for row in rows if row["prompt"] not in answers]
        if missing:
            raise InputError(
                f"evaluation.reference={self.reference}: it has no answer to {len(missing)} of {len(rows)} "
                f"instructions, the first that of row {missing[0]['id']!r}; prompts must be the same to the "
                "letter"
            )
        return [answers[row["prompt"]] for row in rows]

    def _verdicts(
        self, rows: list[Row], questions: list[Question], path: Path
    ) -> tuple[list[Verdict], Spent, float]:
        """One for each question, those that an interrupted evaluation left among them; what asking has cost
        in all, and its seconds. The judge is not loaded if there is nothing to ask it."""
        from tqdm import tqdm

        of_key = {
            digest([row["task"], row["id"], *one]): one for row, one in zip(rows, questions, strict=True)
        }
        keys = list(of_key)
        done = _read_verdicts(path)
        done |= {key: HALF for key, one in of_key.items() if one.answer == one.reference}
        missing = [i for i, key in enumerate(keys) if key not in done]
        before, began = _cost(path.with_name(COST)), time.perf_counter()
        if missing:
            ask = self.judge.prepare()
            try:
                with tqdm(total=len(missing), unit="question", desc="judging") as progress:
                    for start in range(0, len(missing), CHUNK):
                        chunk = missing[start : start + CHUNK]
                        found = ask([questions[i] for i in chunk])
                        done |= {keys[i]: verdict for i, verdict in zip(chunk, found, strict=True)}
                        _write_verdicts(path, done)
                        progress.update(len(chunk))
            finally:  # also of what was not finished
                now = asdict(ask.spent) | {"seconds": time.perf_counter() - began}
                before = {name: before.get(name, 0) + value for name, value in now.items()}
                write_json(path.with_name(COST), before)
        verdicts = [done[key] for key in keys]
        if all(verdict.preference is None for verdict in verdicts):
            reply = next((reply for verdict in verdicts for reply in verdict.replies), None)
            said = f"the first is {reply[:80]!r}" if reply is not None else "they are longer than it reads"
            raise InputError(
                f"evaluation.judge: none of its {len(verdicts)} verdicts can be read ({said}): give it "
                "another template or pattern, or more reply_tokens"
            )
        _write_verdicts(path, dict(zip(keys, verdicts, strict=True)))
        seconds = before.pop("seconds", 0.0)
        return verdicts, Spent(**{name: int(value) for name, value in before.items()}), seconds


def _samples(
    rows: list[Row],
    questions: list[Question],
    verdicts: list[Verdict],
    difficulty: np.ndarray | None,
    spent: Spent,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A sample for each instruction, and what is said of them all."""
    targets = [_target(row) for row in rows]
    lengths = np.array([[len(one.answer), len(one.reference)] for one in questions])
    right = np.array(
        [
            [exact_match(one.answer, target), exact_match(one.reference, target)]
            for one, target in zip(questions, targets, strict=True)
        ]
    )
    preference = np.array([np.nan if v.preference is None else v.preference for v in verdicts])
    read = ~np.isnan(preference)
    equal, difference = np.full(len(rows), np.nan), (lengths[:, 0] - lengths[:, 1]).astype(np.float64)
    known = None if difficulty is None else np.where(np.isnan(difficulty), 0.5, difficulty)[read]
    equal[read] = judgement.at_equal_length(preference[read], difference[read], known)
    samples = [
        {
            "task": row["task"],
            "id": row["id"],
            "generation": question.answer,
            "target": target,
            "reference": question.reference,
            "win_rate": float(preference[i]) if read[i] else None,
            "lc_win_rate": float(equal[i]) if read[i] else None,
            "exact_match": float(right[i, 0]),
            "rouge_l": rouge_l(question.answer, target),
            "verdict": [verdicts[i].first, verdicts[i].second],
        }
        for i, (row, question, target) in enumerate(zip(rows, questions, targets, strict=True))
    ]
    return samples, judgement.facts(verdicts, lengths, right, spent)


def _instruction(row: Row) -> str:
    """What is answered, as text: of a conversation all before its last trained turn."""
    if (messages := messages_of(row)) is None:
        return row["prompt"]
    return written_out(messages[: _last(messages)])


def _target(row: Row) -> str:
    """The row's own answer: of a conversation its last trained turn."""
    messages = messages_of(row)
    return row["response"] if messages is None else said(messages[_last(messages)])


def _last(messages: Sequence[dict[str, Any]]) -> int:
    return max(i for i, message in enumerate(messages) if is_trained(message))


def _of(rows: list[Row], path: Path) -> list[Generation]:
    """The base model's answers to these rows."""
    found = {(one.task, one.id): one for one in read_generations(path)}
    return [found[row["task"], row["id"]] for row in rows]


def _preferences(path: Path, rows: list[Row]) -> np.ndarray:
    """float64[n]: how the base model fared on each, nan where that is not known."""
    found = {(one["task"], one["id"]): one.get("win_rate") for one in read_samples(path)}
    return np.array([found.get((row["task"], row["id"])) for row in rows], dtype=np.float64)


def _cost(path: Path) -> dict[str, float]:
    """What an interrupted evaluation has spent on its judge."""
    found = read_object(path)
    return {} if isinstance(found, str) else found


def _read_verdicts(path: Path) -> dict[str, Verdict]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="\n") as lines:
        read = [json.loads(line) for line in lines]
    return {one["key"]: Verdict(one["first"], one["second"], tuple(one["replies"])) for one in read}


def _write_verdicts(path: Path, verdicts: dict[str, Verdict]) -> None:
    lines = [{"key": key, **verdict._asdict()} for key, verdict in verdicts.items()]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
