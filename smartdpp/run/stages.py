"""The stages of a run, in the order in which they are made. All there is to a stage stands here, or in its
own room.

    corpus -> base scores
    corpus -> warm-up -> embedding, where the embedding reads a training's checkpoints
    corpus -> embedding -> mixture -> adapter -> scores -> result.json
                 probe  -> diversity
               signals, task vectors -> mixture, where the quality or the task vectors need the model
                               query -> mixture, where the selection is towards a target
     embedding -> mixture -> adapter -> embedding -> ..., where the mixture is chosen in rounds while the
     model trains

The base model is scored first, so that what is wrong with an evaluation shows before anything is embedded,
chosen or trained; ``until`` a stage that is not scored leaves it out.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.config.identity import container
from smartdpp.corpus import build as corpus
from smartdpp.corpus import originals
from smartdpp.diversity import components as diversity
from smartdpp.embedding import shards as embedding
from smartdpp.embedding import warmup
from smartdpp.errors import Diverged, NotFinite
from smartdpp.evaluation import own_answers
from smartdpp.evaluation import rows as evaluation
from smartdpp.evaluation.scores import read_samples
from smartdpp.finetune import trainer
from smartdpp.logs.redact import redacted
from smartdpp.models import Finetuned
from smartdpp.models.anatomy import known
from smartdpp.models.batches import TEXT
from smartdpp.query import stage as query
from smartdpp.run.cell import Round, Run, run_rows
from smartdpp.run.cost import estimate
from smartdpp.run.memory import Rows, columns, heldout, need
from smartdpp.run.price import training, warmed
from smartdpp.run.stage import Facts, Same, Stage
from smartdpp.runtime.memory import Need, selection
from smartdpp.signals import stage as signals
from smartdpp.store.artifact import Artifact
from smartdpp.store.disk import digest, read_json, write_json
from smartdpp.strategies import mixture, start
from smartdpp.strategies.terms import select
from smartdpp.task_vectors import task2vec
from smartdpp.types import Embedding, Query, Selection

START = ["id", "prompt", "response"]  # what start is looked for by
SELECT = 0  # the stage number in default_rng([select_seed, stage])


def stages(run: Run) -> list[Stage]:
    """Those that this run has, whatever it is asked for."""
    found = [_corpus(run)]
    if run.evaluates:
        found.append(_base_scores(run))
    if "embedding" in run.warmups:
        found.append(_warmup(run, "warm-up", "embedding"))
    found.append(_embedding(run, "embedding", "embedding", run.embedding))
    if run.probe.key != run.embedding.key:
        if run.warmups.get("probe") not in (None, run.warmups.get("embedding")):
            found.append(_warmup(run, "probe warm-up", "probe"))
        found.append(_embedding(run, "probe embedding", "probe", run.probe))
    found += [_signals(run, name) for name in run.signals]
    if run.task_vectors:
        found.append(_task_vectors(run, run.task_vectors))
    if (target := run.parts.strategy.query) and run.query:
        found.append(_query(run, target, run.query))
    for this, following in zip(run.rounds, run.rounds[1:], strict=False):
        found += [_mixture(run, this), _adapter(run, this)]
        if following.embedding.key != this.embedding.key:
            found.append(_embedding_as_trained(run, following))
        if following.answers:
            found.append(_answers(run, following, following.answers))
    found.append(_mixture(run, run.rounds[-1]))
    if run.trains:
        found += [_diversity(run), _adapter(run, run.rounds[-1])]
        found += [_scores(run)] if run.evaluates else []
    return found


def artifacts(run: Run) -> dict[str, Artifact]:
    """In the order they are made, under the names the terminal shows."""
    return {stage.name: stage.artifact for stage in stages(run)}


def _corpus(run: Run) -> Stage:
    def build(out: Path) -> Facts:
        parts, model = run.parts, run.parts.model
        return corpus.build(
            parts.corpus, parts.evaluation, model.tokenizer(), model.format, parts.limits, out
        )

    def plan() -> str:
        return f"read {run.names['corpus']}, drop rows above {run.cfg.pool.max_tokens} tokens"

    return Stage("corpus", "corpus", run.corpus, build, corpus.describe, plan)


def _warmup(run: Run, name: str, group: str) -> Stage:
    """The training whose checkpoints the embedding of this group reads."""
    encoder: Any = getattr(run.parts, group)  # with a warm-up, it has a model

    def build(out: Path) -> Facts:
        return warmup.train(encoder.warmup, encoder.model, run_rows(run), out)

    def plan() -> str:
        return f"finetune on a share of {_pool(run)}, for {_option(run, group)}: {warmed(run, group)}"

    def above(pool: Rows, wide: int) -> float | None:
        sizes = known(encoder.model)
        return encoder.warmup.recipe.memory(sizes, pool.longest, wide) if sizes else None

    until, recipe = "embedding" if group == "embedding" else "mixture", encoder.warmup.recipe
    memory = partial(need, run, above, each=" in each process" if recipe.processes > 1 else "")
    return Stage(name, until, run.warmups[group], build, warmup.describe, plan, memory)


def _ready(run: Run, group: str) -> Embedding:
    """The embedding of this group, after its warm-up where it has one."""
    encoder: Any = getattr(run.parts, group)
    return encoder.after(run.warmups[group].here()) if group in run.warmups else encoder


def _option(run: Run, group: str) -> str:
    return run.names["embedding" if group == "embedding" else "embedding@probe"]


def _embedding(run: Run, name: str, group: str, artifact: Artifact) -> Stage:
    """Of the group ``embedding`` or ``probe``."""
    encoder = getattr(run.parts, group)

    def build(out: Path) -> Facts:
        by, processes = _ready(run, group), run.cfg[group].get("processes", 1)
        return embedding.embed(by, run_rows(run), out, processes=processes)

    def plan() -> str:
        return f"encode {_pool(run)} with {_option(run, group)}{_embedding_cost(run, group)}"

    until = "embedding" if group == "embedding" else "mixture"
    return Stage(
        name,
        until,
        artifact,
        build,
        embedding.describe,
        plan,
        partial(_embedding_need, run, artifact, encoder),
    )


def _embedding_as_trained(run: Run, this: Round) -> Stage:
    """The embedding, by the model as the rounds before this one have left it."""
    before: Any = this.before

    def build(out: Path) -> Facts:
        by: Any = run.parts.embedding
        by = replace(by, model=Finetuned(run.parts.model, str(before.adapter.here().absolute())))
        return embedding.embed(by, run_rows(run), out, processes=run.cfg.embedding.get("processes", 1))

    def plan() -> str:
        cost = _embedding_cost(run, "embedding")
        return f"encode {_pool(run)} with {run.names['embedding']} of the model as trained so far{cost}"

    memory = partial(_embedding_need, run, run.embedding, run.parts.embedding)
    return Stage(
        f"embedding round {this.number}", "mixture", this.embedding, build, embedding.describe, plan, memory
    )


def _answers(run: Run, this: Round, artifact: Artifact) -> Stage:
    """What the model, as the rounds before this one have left it, answers to their prompts."""
    before: Any = this.before
    quality: Any = run.parts.quality if "reward" in run.signals else None
    strategy: Any = run.parts.strategy

    def build(out: Path) -> Facts:
        rows, adapter = mixture.read(before.mixture.here()), before.adapter.here()
        return own_answers.measure(run.parts.model, adapter, rows, strategy.max_new_tokens, quality, out)

    def plan() -> str:
        by = run.names["quality"] if quality else "its own perplexity"
        return f"answer the prompts chosen so far by the model as trained so far, and score that by {by}"

    name = f"answers round {this.number}"
    return Stage(name, "mixture", artifact, build, own_answers.describe, plan)


def _embedding_need(run: Run, artifact: Artifact, encoder: Any) -> Need | None:
    def above(pool: Rows, wide: int) -> float | None:
        d = columns(artifact, encoder, pool.n)
        return encoder.memory(pool.n, d, pool.text, pool.longest, wide) if d else None

    return need(run, above)


def _signals(run: Run, name: Any) -> Stage:
    quality: Any = run.parts.quality  # with passes, it has what is read here

    def build(out: Path) -> Facts:
        return signals.measure(
            name,
            quality.model,
            quality.batch_tokens,
            run_rows(run),
            out,
            processes=quality.processes,
            prompts=getattr(quality, "prompts", ()),
        )

    def plan() -> str:
        cost = ""
        if run.corpus.finished:
            tokens = signals.planned_tokens(name, run_rows(run, columns=["n_prompt_tokens", "n_tokens"]))
            cost = ": " + estimate(
                run.root, "signals", run.signals[name].params, len(tokens), int(tokens.sum())
            )
        return f"{signals.WORK[name]} {_pool(run)}, for {run.names['quality']}{cost}"

    def above(pool: Rows, wide: int) -> float | None:
        sizes, tokens = known(quality.model), max(pool.longest, quality.batch_tokens)
        return 2 * pool.text + signals.memory(name, sizes, tokens, wide) if sizes else None

    return Stage(
        f"{name} signals",
        "mixture",
        run.signals[name],
        build,
        signals.describe,
        plan,
        partial(need, run, above),
    )


def _task_vectors(run: Run, artifact: Artifact) -> Stage:
    def build(out: Path) -> Facts:
        return run.parts.task_vector.measure(run_rows(run), out)

    def plan() -> str:
        return f"{run.names['task_vector']} of every task{_task_vectors_cost(run)}"

    return Stage("task vectors", "mixture", artifact, build, task2vec.describe, plan)


def _query(run: Run, target: Query, artifact: Artifact) -> Stage:
    def build(out: Path) -> Facts:
        pool, documents = run_rows(run), run_rows(run, "heldout")
        by = _ready(run, "embedding").for_query()
        return query.build(target, run.parts.evaluation, by, pool, documents, out)

    def plan() -> str:
        return f"choose examples of the target and encode them with {run.names['embedding']}"

    return Stage("query", "mixture", artifact, build, query.describe, plan)


def _mixture(run: Run, this: Round) -> Stage:
    strategy, last = run.parts.strategy, this is run.rounds[-1]
    reads_text = run.parts.quality.text or strategy.text

    def build(out: Path) -> Facts:
        rows = run_rows(run, without=() if reads_text else TEXT[1:])
        read = signals.join(rows, {name: artifact.here() for name, artifact in run.signals.items()})
        vectors = task2vec.load(run.task_vectors.here()) if run.task_vectors else None
        before = mixture.selection(this.before.mixture.here()) if this.before else None
        content = rows if reads_text else run_rows(run, columns=START)
        begun = start.find(run.terms.start, content, "outside" in strategy.honours)
        X, score = embedding.load(this.embedding.here()), run.parts.quality.score(read)
        pool = mixture.pool(rows, X, score, vectors)
        if before and this.answers:
            gap = np.full(len(pool), np.nan)
            gap[before.index] = np.load(this.answers.here() / own_answers.FILE, allow_pickle=False)
            pool = replace(pool, gap=gap)
        asked = query.rows_of(run.query.here()) if run.query else []
        if run.query:
            pool = mixture.towards(pool, embedding.load(run.query.here()), asked)
        if strategy.text:
            pool = mixture.with_text(pool, rows, asked)
        whole = replace(pool, start=before.index if before else begun.index if begun else None)
        if begun and begun.outside:
            begun, others = start.placed(begun, _ready(run, "embedding"), run_rows(run))
            whole = mixture.joined(whole, others, [row["task"] for row in begun.outside])
        rng = np.random.default_rng([run.cfg.select_seed, SELECT])
        expected = strategy.size(len(pool), run.budget) * this.number // len(run.rounds)
        terms, spent = run.terms, int(pool.cost[before.index].sum()) if before else 0
        if terms.budget_tokens is not None:
            tokens = terms.budget_tokens * this.number // len(run.rounds)
            terms = replace(terms, budget_tokens=max(tokens - spent, 1))
        selection = select(strategy, whole, terms, max(0, expected - (len(before) if before else 0)), rng)
        if before:
            selection = mixture.followed(before, selection)
        spent, distinct = int(pool.cost[selection.index].sum()), len(np.unique(selection.index))
        if (
            len(selection) != expected if run.terms.budget_tokens is None else spent > run.terms.budget_tokens
        ) or (run.terms.repeat == 1 and distinct != len(selection)):
            raise AssertionError(
                f"the strategy returned {len(selection)} rows, {distinct} distinct, of {spent} tokens, for a "
                f"budget of {run.terms.budget_tokens or expected}"
            )
        facts = run.terms.facts(begun, spent, len(selection) - distinct)
        if begun and run.terms.start_include:
            selection = mixture.followed(Selection(begun.index, np.zeros(len(begun.index))), selection)
        chosen = corpus.take(run.corpus.file("data.parquet"), selection.index)
        # of files and datasets, read since they are kept
        if originals.FILE in (run.corpus.meta().get("files") or {}):
            originals.put(corpus.take(run.corpus.file(originals.FILE), selection.index), out)
        return {
            **mixture.write(pool, chosen, selection, out, redacted(container(run.cfg))),
            **mixture.nearness(pool, selection),
            **facts,
        }

    def plan() -> str:
        n = run.corpus.meta()["facts"]["n_pool"] if run.corpus.finished else 0
        size = (strategy.size(n, run.budget) or "all") if last else "a part"
        if run.terms.budget_tokens is not None and last:
            size = f"at most {run.terms.budget_tokens:,} tokens"
            size += f" ({run.budget} examples or fewer)" if run.corpus.finished else ""
        return f"select {size} of {_pool(run)} by {run.names['strategy']}{run.terms}"

    def above(pool: Rows, wide: int) -> float | None:
        n, text = pool.n, pool.text
        d, count = columns(run.embedding, run.parts.embedding, n), strategy.size(n, run.budget)
        if not d:
            return None
        read = 3 * text if reads_text else 500 * n + text / n * (6 * count + corpus.ROW_GROUP)
        return read + (strategy.memory(n, d, count, pool.largest) or selection(n, d))

    name = "mixture" if last else f"mixture round {this.number}"
    memory = partial(need, run, above, on_device=False)
    return Stage(name, "mixture", this.mixture, build, mixture.describe, plan, memory)


def _diversity(run: Run) -> Stage:
    def build(out: Path) -> Facts:
        chosen = np.load(run.mixture.here() / "rows.npy", allow_pickle=False)
        probe = embedding.load(run.probe.here())
        task = np.asarray(
            run_rows(run, columns=["task"])["task"].take(chosen).to_pylist(), dtype=np.dtypes.StringDType()
        )
        measured = run.parts.diversity.measure(np.asarray(probe[chosen]), pool=probe, task=task)
        write_json(out / "diversity.json", measured)
        return {
            name: value
            for name, value in measured.items()
            if value is None or isinstance(value, (int, float))
        }

    def plan() -> str:
        return f"measure {run.names['diversity']}"

    def above(pool: Rows, wide: int) -> float | None:
        d = columns(run.probe, run.parts.probe, pool.n)
        return diversity.memory(run.parts.strategy.size(pool.n, run.budget), d, pool.n) if d else None

    memory = partial(need, run, above, on_device=False)
    return Stage("diversity", "mixture", run.diversity, build, diversity.describe, plan, memory)


def _adapter(run: Run, this: Round) -> Stage:
    last = this is run.rounds[-1]

    def build(out: Path) -> Facts:
        model, recipe, rows, seed = run.parts.model, run.parts.recipe, _new_rows(this), run.cfg.train_seed
        if this.before is None:
            return {**recipe.train(model, rows, out, seed)}
        facts = recipe.train(model, rows, out, seed, this.before.adapter.here())
        return {**trainer.together(this.before.adapter.meta()["facts"], facts)}

    def plan() -> str:
        if last:
            return f"finetune {run.names['model']} by {run.names['recipe']}: {training(run)}"
        return f"finetune {run.names['model']} on that part by {run.names['recipe']}"

    def above(pool: Rows, wide: int) -> float | None:
        sizes = known(run.parts.model)
        return run.parts.recipe.memory(sizes, pool.longest, wide) if sizes else None

    def content() -> str:
        """All that decides the weights, the rows by what they hold."""
        decides = {
            "version": this.adapter.version,
            "params": this.adapter.params,
            "rows": mixture.content(_new_rows(this)),
        }
        return digest(
            decides | {"start": this.before.adapter.meta()["facts"]["content"] if this.before else None}
        )

    return Stage(
        "adapter" if last else f"adapter round {this.number}",
        "adapter" if last else "mixture",
        this.adapter,
        build,
        trainer.describe,
        plan,
        partial(need, run, above, each=" in each process" if run.parts.recipe.processes > 1 else ""),
        Same(content, "a training on the same rows in the same order"),
    )


def _base_scores(run: Run) -> Stage:
    asks = partial(_asks, run, of_base=True)

    def plan() -> str:
        return "; ".join(
            filter(None, (f"evaluate {run.names['model']} on {run.names['evaluation']}", asks()))
        )

    build, memory = partial(_evaluate, run, None), partial(need, run, partial(_scores_need, run))
    return Stage("base scores", "scores", run.base, build, evaluation.describe, plan, memory, asks=asks)


def _scores(run: Run) -> Stage:
    def build(out: Path) -> Facts:
        return _evaluate(run, run.adapter.here(), out)

    asks = partial(_asks, run, of_base=False)

    def plan() -> str:
        return "; ".join(filter(None, (f"evaluate the finetuned model on {run.names['evaluation']}", asks())))

    def content() -> str:
        """All that decides the scores of the finetuned model, its weights by what they were trained on."""
        decides = {"version": run.scores.version, "params": run.scores.params, "corpus": run.corpus.key}
        return digest(
            decides
            | {"query": run.query and run.query.key, "adapter": run.adapter.meta()["facts"]["content"]}
        )

    memory = partial(need, run, partial(_scores_need, run))
    same = Same(content, "an evaluation of the same weights")
    return Stage("scores", "scores", run.scores, build, evaluation.describe, plan, memory, same, asks)


def _scores_need(run: Run, pool: Rows, wide: int) -> float | None:
    sizes = known(run.parts.model)
    # other documents: as long as the pool's
    rows, longest, response = heldout(run.corpus.path) or (pool.n, pool.longest, pool.longest)
    batch = min(rows, getattr(run.parts.evaluation, "batch_size", 32))
    return evaluation.memory(sizes, batch, longest, response, wide) if sizes else None


# by base scores, before and after the corpus, and whose answers: cells of a sweep share them
_asked: dict[tuple[Path, bool, bool], str] = {}


def _asks(run: Run, of_base: bool) -> str:
    made = run.corpus.finished
    if (looked := (run.base.path, made, of_base)) not in _asked:
        heldout = run_rows(run, "heldout") if made else None
        _asked[looked] = run.parts.evaluation.stated(heldout, of_base)
    return _asked[looked]


def _evaluate(run: Run, adapter: Path | None, out: Path) -> Facts:
    base: dict[str, Any] = {}
    if run.parts.evaluation.reads_base:
        base = {"base": None if adapter is None else run.base.here()}
    try:
        run.parts.evaluation.evaluate(run.parts.model, adapter, run_rows(run, "heldout"), out, **base)
    except NotFinite as error:
        if adapter is None:
            raise NotFinite(
                f"model={run.names['model']}: {error}, before any training: check the model's weights, and "
                "its dtype"
            ) from None
        raise Diverged(
            f"training diverged: {error} after it, with "
            f"recipe.learning_rate={run.cfg.recipe.get('learning_rate')}: try a lower one"
        ) from None
    if run.query and run.query.finished:
        samples = (sample for path in out.rglob("samples.jsonl") for sample in read_samples(path))
        query.refuse_scored(run.query.here(), (sample["id"] for sample in samples))
    return evaluation.evaluated(read_json(out / "scores.json"))


def _new_rows(this: Round) -> Any:
    """What a round's mixture has beyond that of the round before: pyarrow table."""
    rows = mixture.read(this.mixture.here())
    return rows.slice(len(mixture.read(this.before.mixture.here()))) if this.before else rows


def _pool(run: Run) -> str:
    if not run.corpus.finished:
        return "the pool (its size is known after the corpus stage)"
    return f"{run.corpus.meta()['facts']['n_pool']} examples"


def _embedding_cost(run: Run, group: str) -> str:
    if not run.corpus.finished:
        return ""
    n_tokens = run_rows(run, columns=["n_tokens"])["n_tokens"].to_numpy()
    n, d = len(n_tokens), getattr(run.parts, group).columns(len(n_tokens))
    return ": " + estimate(run.root, "embedding", run.what[group], n, int(n_tokens.sum()), d)


def _task_vectors_cost(run: Run) -> str:
    if not run.corpus.finished:
        return ""
    settings: Any = run.parts.task_vector  # where there is such a stage, it has the two below
    tasks = task2vec.drawn(run_rows(run), settings.examples, settings.seed)
    return ": " + estimate(
        run.root, "task_vectors", run.what["task_vector"], len(tasks), sum(tasks["n_tokens"].to_pylist())
    )
