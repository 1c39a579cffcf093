"""Tasks that lm-eval defines: its prompts and metrics, its data from the hub or from a folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from smartdpp.corpus.files import made_here
from smartdpp.corpus.rows import content_hash
from smartdpp.errors import InputError
from smartdpp.evaluation.checks import at_least, known
from smartdpp.evaluation.language_model import load, quiet
from smartdpp.evaluation.rows import SAMPLES, finished_samples, settings, write_samples, write_scores
from smartdpp.store.content import files_below
from smartdpp.types import Model, Row

if TYPE_CHECKING:
    import pyarrow as pa
    from lm_eval.api.task import Task
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from smartdpp.evaluation.scores import Sample

RENAMED = {"acc": "accuracy"}  # lm-eval's name: ours


@dataclass(frozen=True)
class Harness:
    """Evaluates lm-eval's tasks, groups or tags by name; each task of a group has its own scores.

    ``num_fewshot`` and ``limit`` None leave a task as lm-eval defines it, on all its documents.
    ``include_path`` is a folder of task definitions, which may name Python functions to run: use only what
    you trust. ``data_dir`` takes the hub's place: the dataset ``org/name`` is read from
    ``data_dir/org/name``, and a task's own data files from there too; nothing is fetched then.

    Prompts are lm-eval's text; a model with the chat format reads them as one user turn. What is longer than
    the model's context is cut from the left, lm-eval's rule, and counted under ``truncated``. Metrics that
    are no mean over documents, or lower where better, have no place in a paired comparison: they are left out
    and named under ``left_out``. A task of perplexity (``loglikelihood_rolling``) reads whole documents, in
    windows, and has the loss and the bits per byte of ours beside lm-eval's perplexities.
    """

    from_corpus: ClassVar[bool] = False

    tasks: list[str]
    num_fewshot: int | None = None
    limit: int | None = None  # documents per task
    batch_size: int = 8
    include_path: str | None = None
    data_dir: str | None = None
    seed: int = 1234
    max_new_tokens: int | None = None  # of a generation; None: as a task says

    def __post_init__(self) -> None:
        at_least(1, limit=self.limit, batch_size=self.batch_size, max_new_tokens=self.max_new_tokens)
        at_least(0, num_fewshot=self.num_fewshot, seed=self.seed)
        if not self.tasks:
            raise InputError("evaluation.tasks is empty: name at least one lm-eval task")

    def check(self) -> list[str]:
        folders = {"include_path": self.include_path, "data_dir": self.data_dir}
        missing = {name: path for name, path in folders.items() if path and not _folder(path).is_dir()}
        return [f"evaluation.{name}: there is no folder {path}" for name, path in missing.items()] or [
            f"evaluation.tasks: no definition of lm-eval{' or include_path' if self.include_path else ''} "
            f"mentions the task {name}"
            for name in self.tasks
            if not _mentioned(name, self.include_path)
        ] + (_lacking() if "ifeval" in self.tasks else [])

    def fingerprint(self) -> str:
        folders = [_folder(path) for path in (self.include_path, self.data_dir) if path]
        # what smartdpp made here is no part of the data, or every run below such a folder would be another
        # one
        compiled = re.compile("__pycache__")  # which reading the definitions leaves beside them
        return " ".join(
            content_hash(folder, sorted(files_below(folder, compiled, made_here))) for folder in folders
        )

    def split(self) -> dict[str, Any]:
        return {}

    def heldout(self, tasks: list[str]) -> list[str]:
        return []

    def aside(self, rows: Iterator[Row]) -> dict[str, list[str]]:
        return {}

    def unscored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        return {}

    def documents(self) -> Iterator[Row]:
        return iter(())

    def check_documents(self, heldout: pa.Table | None, model: Model | None) -> list[str]:
        """Loads the tasks with their data, as lm-eval does it, and looks at every document's texts: once in a
        process."""
        if model is None and self.data_dir is None:
            return []
        key = f"{self} {self.fingerprint()}"
        if key not in checked:
            with quiet():
                try:
                    tasks = self._load()
                    checked[key] = [
                        problem
                        for name, task in sorted(tasks.items())
                        for problem in _task_problems(name, task, self.limit)
                    ]
                except InputError as error:
                    checked[key] = [str(error)]
        return checked[key]

    def evaluate(self, model: Model, adapter: Path | None, heldout: pa.Table, out: Path) -> None:
        from lm_eval.evaluator import evaluate

        _settle_languages(self.seed)
        with quiet():
            tasks = self._load()
            lm = load(model, adapter, self.batch_size)
            means, left_out = {name: _means(task) for name, task in tasks.items()}, _all_left_out(tasks)
            finished = finished_samples(out)
            done: list[Sample] = []
            for name, task in sorted(tasks.items()):
                n = len(task.eval_docs) if self.limit is None else min(self.limit, len(task.eval_docs))
                samples = finished.get(name, [])
                if [sample["id"] for sample in samples] != [str(i) for i in range(n)]:
                    print(f"evaluating {name}: {n} documents", flush=True)
                    task.aggregation = _counted(task)  # type: ignore[method-assign]
                    found = evaluate(lm, {"tasks": {name: task}}, limit=self.limit, bootstrap_iters=0)
                    samples = _samples(lm, name, found["samples"][name], task, means[name])
                    write_samples(out / SAMPLES, done + samples)
                done += samples
        truncated = {
            name: n for name in sorted(tasks) if (n := sum(s["truncated"] for s in done if s["task"] == name))
        }
        how = {
            "limit": self.limit,
            "batch_size": self.batch_size,
            "num_fewshot": self.num_fewshot,
            "seed": self.seed,
            "max_new_tokens": self.max_new_tokens,
        }
        write_scores(out, done, settings=settings(lm) | how, truncated=truncated, left_out=left_out)

    def _load(self) -> dict[str, Task]:
        """lm-eval's tasks by name, with their data. InputError if a name is unknown, a definition is wrong or
        the data is missing."""
        import datasets
        from lm_eval.tasks import TaskManager

        include = _folder(self.include_path) if self.include_path else None
        manager = TaskManager(include_path=str(include) if include else None, include_defaults=False)
        if not set(self.tasks) <= set(manager.all_tasks):
            _refuse_broken(self.tasks, include)
            # reads all of lm-eval's definitions: about 15 s
            manager = TaskManager(include_path=str(include) if include else None)
        known(self.tasks, manager.all_tasks, "lm-eval")
        place = contextlib.chdir(_folder(self.data_dir)) if self.data_dir else contextlib.nullcontext()
        offline, datasets.config.HF_HUB_OFFLINE = (
            datasets.config.HF_HUB_OFFLINE,
            datasets.config.HF_HUB_OFFLINE or bool(self.data_dir),
        )
        try:
            with place:
                tasks = {
                    name: task
                    for wanted in self.tasks
                    for name, task in self._loaded(manager, wanted).items()
                }
        finally:
            datasets.config.HF_HUB_OFFLINE = offline
        for name, task in tasks.items():
            if (
                self.data_dir
                and "/" in (task.DATASET_PATH or "")
                and not (_folder(self.data_dir) / task.DATASET_PATH).is_dir()
            ):
                raise InputError(
                    f"evaluation.data_dir={self.data_dir} has no folder {task.DATASET_PATH}, which task "
                    f"{name} reads"
                )
            if task.config.unsafe_code:
                raise InputError(
                    f"evaluation.tasks: {name} runs code that the model writes; evaluate it with lm-eval "
                    "itself, in a sandbox"
                )
            if self.num_fewshot is not None or task.config.num_fewshot is None:
                task.set_config("num_fewshot", self.num_fewshot or 0)
            if self.max_new_tokens is not None and task.OUTPUT_TYPE == "generate_until":
                own = task.config.generation_kwargs or {}
                task.set_config("generation_kwargs", {**own, "max_gen_toks": self.max_new_tokens})
            task.set_fewshot_seed(self.seed)
        return tasks

    def _loaded(self, manager: TaskManager, name: str) -> dict[str, Task]:
        """The tasks of one name. What goes wrong in a definition, or in reading its data, is lm-eval's or the
        definition's own error."""
        try:
            return dict(manager.load([name])["tasks"])
        except Exception as error:
            if not isinstance(error, OSError) and "BuilderConfig" not in str(error):  # which is a set's name
                raise InputError(
                    f"evaluation.tasks={name}: lm-eval cannot make this task{_where(manager, name)}: "
                    f"{_line(error)}"
                ) from error
            source = (
                f"in evaluation.data_dir={self.data_dir}"
                if self.data_dir
                else "on the hub (evaluation.data_dir=FOLDER reads a copy)"
            )
            raise InputError(
                f"evaluation.tasks={name}: the data was not found {source}: {_line(error)}"
            ) from error


# by component and content: loading takes long, and a sweep's cells share it
checked: dict[str, list[str]] = {}
ROLLING = "loglikelihood_rolling"
ROLLING_METRICS = ("word_perplexity", "byte_perplexity", "bits_per_byte")
SHOWN = 3  # wrong documents of a task; the rest are counted


def _task_problems(name: str, task: Task, limit: int | None) -> list[str]:
    """What would stop the task, or make its scores wrong without a word, found by making its texts without a
    model."""
    if not len(task.eval_docs):
        return [f"evaluation.tasks: {name} has no document"]
    if not _means(task) and task.OUTPUT_TYPE != ROLLING:
        left = ", ".join(sorted(_left_out(task))) or "none"
        return [
            f"evaluation.tasks: {name} has no metric that is a mean over documents and higher where better, "
            "for a paired comparison "
            f"(it has {left})"
        ]
    problems = []
    docs = task.eval_docs
    for i in range(len(docs) if limit is None else min(limit, len(docs))):
        try:
            wrong = _document_problem(task, docs[i])
        except Exception as error:  # of a template or a function of the definition
            wrong = f"its texts cannot be made: {_line(error)}"
        if wrong:
            problems.append(f"evaluation.tasks: {name}, document {i}: {wrong}")
    if shots := task.config.num_fewshot:
        try:
            task.fewshot_context(docs[0], shots)
        except Exception as error:
            problems.append(
                f"evaluation.num_fewshot={shots}: the shots of {name} cannot be made: {_line(error)}; set a "
                "smaller number"
            )
    if len(problems) > SHOWN:
        problems[SHOWN - 1 :] = [
            f"{problems[SHOWN - 1]}; {len(problems) - SHOWN} more documents of {name} are wrong"
        ]
    return problems


def _document_problem(task: Task, doc: Any) -> str | None:
    """A text that is missing, or a right answer that is none of the choices: lm-eval would score it 0 and say
    nothing."""
    text, target = task.doc_to_text(doc), task.doc_to_target(doc)
    if task.OUTPUT_TYPE == ROLLING:
        return None if isinstance(target, str) and target else "its text is empty"
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    choices = task.doc_to_choice(doc)
    right = text if task.multiple_input else target
    for one in right if isinstance(right, list) else [right]:
        fits = 0 <= one < len(choices) if isinstance(one, int) else one in choices
        if not fits:
            return (
                f"its answer {one!r} is none of its {len(choices)} choices ({', '.join(map(str, choices))}) "
                "nor the index of one"
            )
    return None


def _refuse_broken(names: list[str], include: Path | None) -> None:
    """InputError for a file of ``include`` that mentions one of these tasks and cannot be read: lm-eval
    passes over it in silence."""
    from lm_eval.tasks._yaml_loader import load_yaml

    for path in sorted(include.rglob("*.yaml")) if include else []:
        if any(_word(name).search(path.read_bytes()) for name in names):
            try:
                load_yaml(path, resolve_func=False)
            except Exception as error:
                raise InputError(f"evaluation.include_path: {path} cannot be read: {_line(error)}") from error


def _where(manager: TaskManager, name: str) -> str:
    entry = manager.task_index.get(name)
    return f" from {entry.yaml_path}" if entry and entry.yaml_path else ""


def _line(error: Exception) -> str:
    """A library's error in one line, with its kind where the message alone would be cryptic."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _samples(
    lm: HFLM, name: str, examples: list[dict[str, Any]], task: Task, means: set[str]
) -> list[Sample]:
    """One sample per document. A task with several answer filters has its metrics once per filter, as
    ``metric,filter``."""
    several = len({example["filter"] for example in examples}) > 1
    samples: dict[int, Sample] = {}
    for example in examples:
        if task.OUTPUT_TYPE == ROLLING:
            samples[example["doc_id"]] = _rolling(lm, name, task, example)
            continue
        # (log-likelihood, whether it is the greedy one) per choice
        choice = isinstance(example["filtered_resps"][0], tuple | list)
        sample = samples.setdefault(
            example["doc_id"],
            {
                "task": name,
                "id": str(example["doc_id"]),
                "generation": None if choice else str(example["filtered_resps"][0]),
                "target": str(example["target"]),
                "choice_logprobs": [response[0] for response in example["filtered_resps"]]
                if choice
                else None,
                "truncated": any(_too_long(lm, *arguments) for arguments in example["arguments"]),
            },
        )
        for metric in example["metrics"]:
            if metric in means:
                key = RENAMED.get(metric, metric)
                sample[f"{key},{example['filter']}" if several else key] = float(example[metric])
    return [samples[doc_id] for doc_id in sorted(samples)]


def _rolling(lm: HFLM, name: str, task: Task, example: dict[str, Any]) -> Sample:
    """A document read from its first token to its last, whatever its length. A definition may count words and
    bytes in its own way."""
    text = str(example["target"])
    counted = {metric: example[metric][1] for metric in ROLLING_METRICS if metric in example}
    return {
        "task": name,
        "id": str(example["doc_id"]),
        "nll": -float(example["filtered_resps"][0]),
        "tokens": len(lm.tok_encode(text, add_special_tokens=False)),
        "bytes": counted.get("byte_perplexity") or counted.get("bits_per_byte") or len(text.encode()),
        "words": counted.get("word_perplexity") or len(re.split(r"\s+", text)),
        "generation": None,
        "target": text,
        "choice_logprobs": None,
        "truncated": False,
    }


def _too_long(lm: HFLM, context: str, continuation: str | dict[str, Any] = "") -> bool:
    """Whether lm-eval cuts it: by the tokens that the model is given, a chat's frame among them."""
    from lm_eval.models.utils import normalize_gen_kwargs

    if isinstance(continuation, dict):
        room = normalize_gen_kwargs(continuation, lm.max_gen_toks)["max_gen_toks"]
        return lm.tok_batch_encode([context])[0].shape[1] > lm.max_length - room
    if not context:
        return 1 + len(lm.tok_encode(continuation)) > lm.max_length + 1
    return sum(map(len, lm._encode_pair(context, continuation))) > lm.max_length + 1


def _means(task: Task) -> set[str]:
    """The task's metrics that are the mean of one number per document, more of it being better."""
    from lm_eval.api.metrics import mean, nanmean

    better = task.higher_is_better()
    return {
        metric
        for metric, aggregate in task.aggregation().items()
        if aggregate in (mean, nanmean) and better.get(metric) is not False
    }


def _left_out(task: Task) -> set[str]:
    return (
        set(task.aggregation()) - _means(task) - set(ROLLING_METRICS if task.OUTPUT_TYPE == ROLLING else ())
    )


def _mentioned(name: str, include_path: str | None) -> bool:
    """Whether any task definition holds the name: a quick necessary condition, where reading them all takes
    lm-eval 15 s."""
    package = find_spec("lm_eval")
    folders = (
        [Path(folder) / "tasks" for folder in package.submodule_search_locations or []] if package else []
    )
    folders += [_folder(include_path)] if include_path else []
    word = _word(name)
    return any(word.search(path.read_bytes()) for folder in folders for path in folder.rglob("*.yaml"))


def _settle_languages(seed: int) -> None:
    """IFEval's guesses of an answer's language are drawn, by a generator that nobody seeds otherwise."""
    if find_spec("langdetect") is not None:
        from langdetect import DetectorFactory

        DetectorFactory.seed = seed


def _lacking() -> list[str]:
    """What IFEval's checks need and is not here. lm-eval would fetch nltk's data, and without a network go on
    until an answer's sentences are counted."""
    if missing := [name for name in ("immutabledict", "langdetect", "nltk") if find_spec(name) is None]:
        return [f"evaluation.tasks: ifeval needs {', '.join(missing)}: pip install 'smartdpp[ifeval]'"]
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return [
            "evaluation.tasks: ifeval counts sentences by nltk's punkt_tab, which is not here: "
            "python -m nltk.downloader punkt_tab, or put a copy below a folder that NLTK_DATA names"
        ]
    return []


def _all_left_out(tasks: dict[str, Task]) -> dict[str, list[str]]:
    return {name: rest for name, task in sorted(tasks.items()) if (rest := sorted(_left_out(task)))}


def _counted(task: Task) -> Callable[[], dict[str, Any]]:
    """In place of the task's aggregation: scores are made from the samples, and lm-eval's own may overflow (a
    perplexity of long words)."""
    counts = dict.fromkeys(task.aggregation(), len)
    return lambda: counts


def _word(name: str) -> re.Pattern[bytes]:
    return re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])".encode())


def _folder(path: str) -> Path:
    return Path(path).expanduser().absolute()
