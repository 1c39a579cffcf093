"""Tasks that lm-eval defines: its prompts and metrics, its data from the hub or from a folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.errors import InputError
from smartdpp.evaluation.checks import at_least, known
from smartdpp.types import Model, Row

if TYPE_CHECKING:
    import pyarrow as pa
    from lm_eval.api.task import Task
    from lm_eval.models.huggingface import HFLM

    from smartdpp.evaluation.scores import Sample

RENAMED = {"acc": "accuracy"}  # lm-eval's name: ours


@dataclass(frozen=True)
class Harness:
    """Evaluates lm-eval's tasks, groups or tags by name; each task of a group has its own scores.

    ``num_fewshot`` and ``limit`` None leave a task as lm-eval defines it, on all its documents. ``include_path`` is a folder of task
    definitions, which may name Python functions to run: use only what you trust. ``data_dir`` takes the hub's place: the dataset
    ``org/name`` is read from ``data_dir/org/name``, and a task's own data files from there too; nothing is fetched then.

    Prompts are lm-eval's text; a model with the chat format reads them as one user turn. What is longer than the model's context is cut
    from the left, lm-eval's rule, and counted under ``truncated``. Metrics that are no mean over documents have no place in a paired
    comparison: they are left out and named under ``left_out``.
    """

    tasks: list[str]
    num_fewshot: int | None = None
    limit: int | None = None  # documents per task
    batch_size: int = 8
    include_path: str | None = None
    data_dir: str | None = None
    seed: int = 1234

    def __post_init__(self) -> None:
        at_least(1, limit=self.limit, batch_size=self.batch_size)
        at_least(0, num_fewshot=self.num_fewshot, seed=self.seed)
        if not self.tasks:
            raise InputError("evaluation.tasks is empty: name at least one lm-eval task")

    def check(self) -> list[str]:
        folders = {"include_path": self.include_path, "data_dir": self.data_dir}
        missing = {name: path for name, path in folders.items() if path and not _folder(path).is_dir()}
        return [f"evaluation.{name}: there is no folder {path}" for name, path in missing.items()] or [
            f"evaluation.tasks: no definition of lm-eval{' or include_path' if self.include_path else ''} mentions the task {name}"
            for name in self.tasks
            if not _mentioned(name, self.include_path)
        ]

    def fingerprint(self) -> str:
        from smartdpp.content import files_below
        from smartdpp.corpus.rows import content_hash

        folders = [_folder(path) for path in (self.include_path, self.data_dir) if path]
        compiled = re.compile("__pycache__")  # which reading the definitions leaves beside them
        return " ".join(content_hash(folder, sorted(files_below(folder, compiled))) for folder in folders)

    def split(self) -> dict[str, Any]:
        return {}

    def heldout(self, tasks: list[str]) -> list[str]:
        return []

    def unscored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        return {}

    def documents(self) -> Iterator[Row]:
        return iter(())

    def evaluate(self, model: Model, adapter: Path | None, heldout: pa.Table, out: Path) -> None:
        from lm_eval.evaluator import evaluate

        from smartdpp.evaluation.language_model import load, quiet
        from smartdpp.evaluation.rows import SAMPLES, finished_samples, settings, write_samples, write_scores

        with quiet():
            tasks = self._load()
            lm = load(model, adapter, self.batch_size)
            finished = finished_samples(out)
            done: list[Sample] = []
            for name, task in sorted(tasks.items()):
                n = len(task.eval_docs) if self.limit is None else min(self.limit, len(task.eval_docs))
                samples = finished.get(name, [])
                if [sample["id"] for sample in samples] != [str(i) for i in range(n)]:
                    print(f"evaluating {name}: {n} documents", flush=True)
                    found = evaluate(lm, {"tasks": {name: task}}, limit=self.limit, bootstrap_iters=0)
                    samples = _samples(lm, name, found["samples"][name], _means(task))
                    write_samples(out / SAMPLES, done + samples)
                done += samples
        truncated = {name: n for name in sorted(tasks) if (n := sum(s["truncated"] for s in done if s["task"] == name))}
        if truncated:
            total = sum(truncated.values())
            print(f"evaluation: {total} documents of {len(truncated)} tasks were cut to fit the model's context", flush=True)
        left_out = {name: rest for name, task in sorted(tasks.items()) if (rest := sorted(set(task.aggregation()) - _means(task)))}
        how = {"limit": self.limit, "batch_size": self.batch_size, "num_fewshot": self.num_fewshot, "seed": self.seed}
        write_scores(out, done, settings=settings(lm) | how, truncated=truncated, left_out=left_out)

    def _load(self) -> dict[str, Task]:
        """lm-eval's task objects by name, with their data. InputError if a name is unknown or the data is out of reach."""
        import datasets
        from lm_eval.tasks import TaskManager

        include = str(_folder(self.include_path)) if self.include_path else None
        manager = TaskManager(include_path=include, include_defaults=False)
        if not set(self.tasks) <= set(manager.all_tasks):
            manager = TaskManager(include_path=include)  # reads all of lm-eval's definitions: about 15 s
        known(self.tasks, manager.all_tasks, "lm-eval")
        place = contextlib.chdir(_folder(self.data_dir)) if self.data_dir else contextlib.nullcontext()
        offline, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE or bool(self.data_dir)
        try:
            with place:
                tasks = manager.load(list(self.tasks))["tasks"]
        except (OSError, ValueError) as error:
            source = f"in evaluation.data_dir={self.data_dir}" if self.data_dir else "on the hub (evaluation.data_dir=FOLDER reads a copy)"
            raise InputError(f"evaluation.tasks={','.join(self.tasks)}: the data was not found {source}: {error}") from error
        finally:
            datasets.config.HF_HUB_OFFLINE = offline
        for name, task in tasks.items():
            if self.data_dir and "/" in (task.DATASET_PATH or "") and not (_folder(self.data_dir) / task.DATASET_PATH).is_dir():
                raise InputError(f"evaluation.data_dir={self.data_dir} has no folder {task.DATASET_PATH}, which task {name} reads")
            if task.config.unsafe_code:
                raise InputError(f"evaluation.tasks: {name} runs code that the model writes; evaluate it with lm-eval itself, in a sandbox")
            if self.num_fewshot is not None or task.config.num_fewshot is None:
                task.set_config("num_fewshot", self.num_fewshot or 0)
            task.set_fewshot_seed(self.seed)
        return tasks


def _samples(lm: HFLM, name: str, examples: list[dict[str, Any]], means: set[str]) -> list[Sample]:
    """One sample per document. A task with several answer filters has its metrics once per filter, as ``metric,filter``."""
    several = len({example["filter"] for example in examples}) > 1
    samples: dict[int, Sample] = {}
    for example in examples:
        choice = isinstance(example["filtered_resps"][0], tuple | list)  # (log-likelihood, whether it is the greedy one) per choice
        sample = samples.setdefault(
            example["doc_id"],
            {
                "task": name,
                "id": str(example["doc_id"]),
                "generation": None if choice else str(example["filtered_resps"][0]),
                "target": str(example["target"]),
                "choice_logprobs": [response[0] for response in example["filtered_resps"]] if choice else None,
                "truncated": any(_too_long(lm, *arguments) for arguments in example["arguments"]),
            },
        )
        for metric in example["metrics"]:
            if metric in means:
                key = RENAMED.get(metric, metric)
                sample[f"{key},{example['filter']}" if several else key] = float(example[metric])
    return [samples[doc_id] for doc_id in sorted(samples)]


def _too_long(lm: HFLM, context: str, continuation: str | dict[str, Any] = "") -> bool:
    from lm_eval.models.utils import normalize_gen_kwargs

    if isinstance(continuation, dict):
        return len(lm.tok_encode(context)) > lm.max_length - normalize_gen_kwargs(continuation, lm.max_gen_toks)["max_gen_toks"]
    return len(lm.tok_encode(context + continuation)) > lm.max_length + 1


def _means(task: Task) -> set[str]:
    """The task's metrics that are the mean of one number per document."""
    from lm_eval.api.metrics import mean, nanmean

    return {metric for metric, aggregate in task.aggregation().items() if aggregate in (mean, nanmean)}


def _mentioned(name: str, include_path: str | None) -> bool:
    """Whether any task definition holds the name: a quick necessary condition, where reading them all takes lm-eval 15 s."""
    package = find_spec("lm_eval")
    folders = [Path(folder) / "tasks" for folder in package.submodule_search_locations or []] if package else []
    folders += [_folder(include_path)] if include_path else []
    word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])".encode())
    return any(word.search(path.read_bytes()) for folder in folders for path in folder.rglob("*.yaml"))


def _folder(path: str) -> Path:
    return Path(path).expanduser().absolute()
