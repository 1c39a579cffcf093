"""Choosing from data at hand: ``smartdpp.select``, with the picks of a run that has the same settings."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from smartdpp.config.check import asked as asked_for
from smartdpp.config.identity import with_content, without_paths
from smartdpp.corpus.clusters import CLUSTER
from smartdpp.corpus.originals import GAIN, RANK
from smartdpp.embedding import shards
from smartdpp.errors import InputError
from smartdpp.library import data as given
from smartdpp.library.components import Options, made, node
from smartdpp.models.turns import alike, encode_row
from smartdpp.quality.counts import PromptTokens, ResponseTokens, TotalTokens
from smartdpp.query.stage import unplaced
from smartdpp.run.cell import VERSION
from smartdpp.run.stages import SELECT
from smartdpp.signals import stage as signals
from smartdpp.store.artifact import Artifact
from smartdpp.store.disk import digest
from smartdpp.store.place import cache_dir
from smartdpp.strategies import mixing, mixture
from smartdpp.strategies import start as starts
from smartdpp.strategies.smart import Smart
from smartdpp.strategies.start import Found
from smartdpp.strategies.terms import Terms
from smartdpp.strategies.terms import select as under_terms
from smartdpp.strategies.weights import Weights
from smartdpp.task_vectors import task2vec
from smartdpp.types import Row

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
# a query's rows, each with the name of its target, and float32[m, d] where X is the user's own
Asked = tuple[list[Row], np.ndarray | None]
MODEL = "smollm2_135m"  # that of conf/config.yaml
COUNTED = (ResponseTokens, PromptTokens, TotalTokens)  # qualities of a model's tokens
BY_TASK = (Smart, mixing.Equal, mixing.Proportional, mixing.RandomTasks, mixing.Temperature, Weights)


def select(
    data: Any,
    budget: int | None = None,
    strategy: str = "smart",
    embedding: str = "minilm",
    query: Any = None,
    task: str | None = None,
    X: np.ndarray | None = None,
    *,
    budget_tokens: int | None = None,
    tokens_by: Literal["gain", "gain_per_token", "best"] = "gain",
    weights: dict[str, float] | None = None,
    max_share: float | None = None,
    repeat: int | dict[str, int] = 1,
    start: str | Path | list[str] | None = None,
    quality: str = "constant",
    task_vector: str = "mean",
    model: str | None = None,
    max_tokens: int | None = None,
    clusters: int | None = None,
    seed: int = 0,
    columns: given.Mapped = None,
    constants: Mapping[str, str] | None = None,
    strategy_options: Options = None,
    embedding_options: Options = None,
    quality_options: Options = None,
    task_vector_options: Options = None,
    model_options: Options = None,
) -> Any:
    """The ``budget`` rows of ``data`` (1000 where nothing is said) that a strategy chooses, in its order, as
    the same kind of data.

    data: a datasets.Dataset, a pandas DataFrame, a list of dicts, or a path to what ``corpus=jsonl`` reads (a
        list of dicts comes back). Its records stay as they are and get ``smartdpp_rank``, from 0, and
        ``smartdpp_gain``.
    strategy, embedding, quality, task_vector, model: names in conf/, with options as their YAMLs have them:
        ``strategy="dpp", strategy_options={"theta": 0.1}``. Inside of a component another one is named by a
        text, and its options have a dot: ``strategy_options={"tasks": "logdet", "tasks.ridge": 1.0}``.
    query: of strategies with a target alone: examples of what the model is to be good for, as texts or any
        kind of data; with X an array (m, d). Several targets have names: ``{"maths": ..., "code": ...}``.
    task: the field that says a row's task; None: ``task``, and where there is none all rows are one task;
        "cluster": tasks by the prompts' words, ``clusters`` of them (None: by silhouette).
    X: float[N, d], vectors of your own in place of an embedding, one for each of the N records given.
    budget_tokens: in place of ``budget``, at most so many tokens of the model. With tokens_by, weights,
        max_share, repeat and start (what is added to: a file of rows, a run, a mixture, or ids) as at the top
        of conf/config.yaml.
    max_tokens: leaves out rows of more tokens of the model. The model (None: smollm2_135m) is needed for
        that, for a budget in tokens, for qualities, embeddings and task vectors that read it, and for nothing
        else.
    columns, constants: our field: theirs, or its value in rows that lack it, where the names are not
    recognised.

    Vectors and picks are kept in the user's cache by content, so the same call returns at once. InputError
    says what is wrong before any work.
    """
    if budget is not None and budget_tokens is not None:
        raise InputError(f"budget={budget} and budget_tokens={budget_tokens}: leave one of them out.")
    budget = 1000 if budget is None else budget
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)) or budget < 1:
        raise InputError(f"budget={budget!r}: it must be a whole number, 1 or more.")
    if max_tokens is not None and (
        isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 2
    ):
        raise InputError(
            f"max_tokens={max_tokens!r}: it must be a whole number, 2 or more, or None for no limit."
        )
    settings = _settings(
        strategy,
        embedding,
        quality,
        task_vector,
        model,
        strategy_options,
        embedding_options,
        quality_options,
        task_vector_options,
        model_options,
    )
    parts = {
        group: made(group, settings[group])
        for group in ("strategy", "quality", "task_vector", *(() if X is not None else ("embedding",)))
    }
    _check_strategy(strategy, parts["strategy"], query)
    terms = asked_for(
        {
            "budget_tokens": budget_tokens,
            "tokens_by": tokens_by,
            "weights": weights,
            "max_share": max_share,
            "repeat": repeat,
            "start": str(start) if isinstance(start, Path) else start,
        }
    ).of_strategy(parts["strategy"])
    if wrong := [*terms.misfits(parts["strategy"]), *starts.check(terms.start)]:
        raise InputError("\n".join(wrong))
    measured = not parts["task_vector"].from_embedding
    if measured and not isinstance(parts["strategy"], Smart):
        raise InputError(
            f"task_vector= is of strategy='smart' alone; strategy={strategy!r} would not look at it."
        )
    if clusters is not None and (clusters < 2 or task != CLUSTER):
        raise InputError(f"clusters={clusters!r}: it must be 2 or more, together with task='cluster'.")
    source = given.read(data, task, columns, constants, n_clusters=clusters)
    vectors = None if X is None else own_vectors(X, source)
    tokens = None
    kept = np.arange(len(source.rows))
    counted = isinstance(parts["quality"], COUNTED) or parts["quality"].passes
    if max_tokens is not None or counted or measured or terms.budget_tokens is not None:
        tokens = _tokens(source.rows, made("model", settings["model"]))
        kept = np.flatnonzero(tokens[:, 1] <= (max_tokens or np.inf))
    if long := len(source.rows) - len(kept):
        log.warning(
            "%d of %d rows are longer than max_tokens=%d and cannot be chosen", long, source.total, max_tokens
        )
    costs = np.ones(len(kept), dtype=np.int64) if tokens is None else tokens[kept, 1].astype(np.int64)
    size = parts["strategy"].size(len(kept), terms.rows(int(budget), costs))
    if (terms == Terms() and size > len(kept)) or not len(kept):
        raise InputError(
            f"budget={budget}: there are {len(kept)} rows to choose from; choose at most {len(kept)}."
        )
    _warn_of_one_task(parts["strategy"], source)
    rows = [source.rows[i] for i in kept]
    table = _table(rows, None if tokens is None else tokens[kept])
    asked = None if query is None else _asked(query, vectors, parts["strategy"].text)
    # X= has no vectors of rows that are not in the data
    begun = starts.find(terms.start, table, X is None and "outside" in parts["strategy"].honours)
    if begun and begun.missing:
        log.warning("start: %d of %d given are not in the data and do not count", begun.missing, begun.given)
    if begun:
        there, beside = len(begun.index), len(begun.outside)
        log.info("start: %d rows of the data and %d beside it count as chosen", there, beside)
    named, tasks = parts["strategy"].named, table["task"].to_pylist()
    if terms != Terms() and (problems := terms.refused(named, tasks, costs, begun, size)):
        raise InputError("\n".join(problems))
    own = None if vectors is None else vectors[kept]
    index, gain = _chosen(parts, settings, table, rows, size, seed, own, asked, terms, begun)
    return source.part(source.at[kept[index]], {RANK: list(range(len(index))), GAIN: gain.tolist()})


def _settings(
    strategy: str, embedding: str, quality: str, task_vector: str, model: str | None, *options: Options
) -> dict[str, dict[str, Any]]:
    of_strategy, of_embedding, of_quality, of_task_vector, of_model = options
    settings = {"model": node("model", model or MODEL, of_model)}
    for group, name, own in (
        ("strategy", strategy, of_strategy),
        ("embedding", embedding, of_embedding),
        ("quality", quality, of_quality),
        ("task_vector", task_vector, of_task_vector),
    ):
        settings[group] = node(group, name, own, settings["model"])
    return settings


def _check_strategy(name: str, strategy: Any, query: Any) -> None:
    if strategy.rounds > 1:
        raise InputError(
            f"strategy={name!r} trains between its rounds, which a choice alone cannot: use run.py."
        )
    if strategy.query is not None and query is None:
        raise InputError(
            f"strategy={name!r} needs query=: texts, rows or a file of what the model is to be good for."
        )
    if query is not None and strategy.query is None:
        raise InputError(
            f"query= is of strategies with a target, as 'targeted'; strategy={name!r} would not look at it."
        )


def _warn_of_one_task(strategy: Any, source: given.Data) -> None:
    if not source.named and isinstance(strategy, BY_TASK):
        log.warning(
            "no field says a row's task, so all are one task: name a field with task=, or choose a strategy "
            "that needs none (dpp)",
        )


def own_vectors(X: Any, source: given.Data) -> np.ndarray:
    """float32[n, d]: those of the rows that may be chosen."""
    found = np.asarray(X)
    if (
        found.ndim != 2
        or found.shape[0] != source.total
        or found.shape[1] == 0
        or found.dtype.kind not in "fiu"
    ):
        raise InputError(
            f"X has shape {found.shape} and holds {found.dtype}: it must be numbers of shape "
            f"({source.total}, d), a row for each record."
        )
    found = found[source.at].astype(np.float32, copy=False)
    if bad := int((~np.isfinite(found).all(axis=1)).sum()):
        raise InputError(f"X is not finite in {bad} of {len(found)} rows.")
    return found


def _tokens(rows: list[Row], model: Any) -> np.ndarray:
    """int32[n, 2]: tokens of the prompt, and of the whole example."""
    from tqdm import tqdm

    tokenizer = model.tokenizer()
    found = (
        encode_row(tokenizer, model.format, row) for row in tqdm(rows, desc="tokens", unit=" rows", delay=2)
    )
    return np.array([(len(one.ids) - one.n_trained, len(one.ids)) for one in found], dtype=np.int32)


def _table(rows: list[Row], tokens: np.ndarray | None) -> pa.Table:
    import pyarrow as pa

    table = pa.Table.from_pylist(alike(rows))
    for column, name in enumerate(("n_prompt_tokens", "n_tokens") if tokens is not None else ()):
        table = table.append_column(name, pa.array(tokens[:, column]))  # type: ignore[index]
    return table


def _asked(query: Any, vectors: np.ndarray | None, in_words: bool) -> Asked:
    """The query, of one target or by the names of several. ``in_words``: the strategy reads its texts."""
    rows: list[Row] = []
    own: list[np.ndarray] = []
    named = isinstance(query, Mapping)
    if named and not query:
        raise InputError("query names no target: give {'maths': ['...'], 'code': ['...']}, or texts.")
    for name, part in query.items() if named else [("query", query)]:
        if vectors is None or in_words:
            if isinstance(part, np.ndarray):
                why = "goes with X=: without it" if vectors is None else "has no texts, which are read:"
                raise InputError(f"query is an array, which {why} give texts, rows or a file.")
            rows += [row | ({"task": str(name)} if named else {}) for row in given.texts(part, name="query")]
        else:
            own.append(_own_query(part, vectors))
            rows += [{"task": str(name)}] * len(own[-1])
    return rows, np.concatenate(own) if own else None


def _own_query(query: Any, vectors: np.ndarray) -> np.ndarray:
    found = np.asarray(query)
    if (
        found.ndim != 2
        or len(found) == 0
        or found.shape[1] != vectors.shape[1]
        or found.dtype.kind not in "fiu"
    ):
        raise InputError(
            f"query has shape {found.shape}: with X it must be numbers of shape (m, {vectors.shape[1]}), in "
            "X's space."
        )
    return found.astype(np.float32)


def cache() -> Path:
    """Where vectors and picks are kept: a folder that may be deleted at any time."""
    return cache_dir() / "library"


def _chosen(
    parts: dict[str, Any],
    settings: dict[str, Any],
    table: pa.Table,
    rows: list[Row],
    size: int,
    seed: int,
    X: np.ndarray | None,
    asked: Asked | None,
    terms: Terms,
    begun: Found | None,
) -> tuple[np.ndarray, np.ndarray]:
    """int64[k] of the table's rows and float64[k], by the work of a run's stages, each found in the cache or
    made."""
    content = _content(rows)
    strategy, score = parts["strategy"], _quality(parts["quality"], settings["quality"], table, content)
    wanted, Q = asked or ([], None)
    if wanted and X is None:
        Q = _embedded_query(parts["embedding"], table, wanted)
    if X is None:
        X, place = embedded(parts["embedding"], settings["embedding"], table, content)
    else:
        place = _hash(X)
    described = without_paths(with_content(settings["strategy"], strategy))
    tasks = _task_vectors(parts["task_vector"], settings["task_vector"], table, content)
    params: dict[str, Any] = {
        "strategy": described,
        "budget": size,
        "seed": seed,
        "quality": _hash(score),
        "query": None if Q is None else _hash(Q),
    } | terms.identity(starts.fingerprint(terms.start, strategy))
    if tasks is not None:
        params["task_vectors"] = tasks.key
    if len({row["task"] for row in wanted}) > 1:
        params["targets"] = [row["task"] for row in wanted]
    if strategy.text:
        params["texts"] = _content(wanted)
    artifact = Artifact(cache(), "selection", VERSION["mixture"], params, {"rows": content, "X": place})

    def build(out: Path) -> dict[str, Any]:
        vectors = None if tasks is None else task2vec.load(tasks.here())
        pool = mixture.pool(_with_costs(table), X, score, vectors)
        pool = mixture.towards(pool, Q, wanted) if wanted else pool
        pool = mixture.with_text(pool, table, wanted) if strategy.text else pool
        pool = replace(pool, start=begun.index if begun else None)
        if begun and begun.outside:
            there, others = starts.placed(begun, parts["embedding"], table)
            pool = mixture.joined(pool, others, [row["task"] for row in there.outside])
        selection = under_terms(strategy, pool, terms, size, np.random.default_rng([seed, SELECT]))
        np.save(out / "index.npy", selection.index.astype(np.int64), allow_pickle=False)
        np.save(out / "gain.npy", np.asarray(selection.gain, dtype=np.float64), allow_pickle=False)
        return {"n": len(selection), "n_pool": len(pool)}

    artifact.produce(build)
    here = artifact.here()
    return np.load(here / "index.npy", allow_pickle=False), np.load(here / "gain.npy", allow_pickle=False)


def embedded(
    embedding: Any, settings: dict[str, Any], table: pa.Table, content: str
) -> tuple[np.ndarray, str]:
    """float32[n, d], memory-mapped, of a table with this ``content``; and the key that it is kept under."""
    settings = dict(settings)
    processes = settings.pop("processes", 1)  # they share the same work
    params = without_paths(with_content(settings, embedding))
    artifact = Artifact(cache(), "embedding", VERSION["embedding"], params, {"rows": content})
    artifact.produce(lambda out: shards.embed(embedding, table, out, processes=processes))
    return shards.load(artifact.here()), artifact.key


def _embedded_query(embedding: Any, table: pa.Table, rows: list[Row]) -> np.ndarray:
    import pyarrow as pa

    if problems := unplaced(embedding, rows, table):
        raise InputError("\n".join(problems).replace("strategy.query", "query"))
    return np.asarray(embedding.prepare(table)(pa.Table.from_pylist(alike(rows))))


def _task_vectors(
    task_vector: Any, settings: dict[str, Any], table: pa.Table, content: str
) -> Artifact | None:
    """None where tasks are seen by the means of their vectors."""
    if task_vector.from_embedding:
        return None
    settings = {name: value for name, value in settings.items() if name != "processes"}
    params = without_paths(with_content(settings, task_vector))
    artifact = Artifact(cache(), "task_vectors", VERSION["task_vectors"], params, {"rows": content})
    artifact.produce(lambda out: task_vector.measure(table, out))
    return artifact


def _quality(quality: Any, settings: dict[str, Any], table: pa.Table, content: str) -> np.ndarray:
    folders = {}
    for name in quality.passes:
        whole = without_paths(with_content(settings, quality))
        shared = {key: value for key, value in whole.items() if key in signals.READ}
        artifact = Artifact(
            cache(), "signals", VERSION["signals"], {"pass": name, **shared}, {"rows": content}
        )
        how = quality.model, quality.batch_tokens, table
        more = {"processes": quality.processes, "prompts": getattr(quality, "prompts", ())}
        artifact.produce(partial(signals.measure, name, *how, **more))
        folders[name] = artifact.here()
    return quality.score(signals.join(table, folders))


def _content(rows: list[Row]) -> str:
    """A hash of all that the rows say, their ids among it."""
    seen = hashlib.sha256()
    for row in rows:
        seen.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest(seen.hexdigest())


def _hash(X: np.ndarray) -> str:
    seen = hashlib.sha256(f"{X.dtype} {X.shape}".encode())
    seen.update(np.ascontiguousarray(X).data)
    return seen.hexdigest()[:16]


def _with_costs(table: pa.Table) -> pa.Table:
    """Tokens, where nothing has counted them, are not looked at either."""
    import pyarrow as pa

    if "n_tokens" in table.column_names:
        return table
    return table.append_column("n_tokens", pa.array(np.zeros(len(table), np.int32)))
