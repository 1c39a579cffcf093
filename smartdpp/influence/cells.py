"""The runs that put an embedding's nearness to the test, and what is read of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from smartdpp.embedding.shards import load
from smartdpp.errors import InputError
from smartdpp.metrics import METRICS
from smartdpp.models import Finetuned
from smartdpp.models.batches import encoded
from smartdpp.models.turns import alike
from smartdpp.query.stage import rows_of
from smartdpp.run.alone import prepared
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.runtime.device import compute_dtype, placed
from smartdpp.signals.likelihood import likelihood
from smartdpp.store.artifact import Artifact
from smartdpp.store.disk import read_json
from smartdpp.strategies.decile import DECILES, nearness

BATCH_TOKENS = 4096
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """Of D slices of the ranking, and of J random subsets of the pool."""

    n: int  # rows of the pool
    slices: (
        np.ndarray
    )  # float64[D, 3]: mean cosine to the query, loss of the query, score of unseen documents
    # float64[J, 3]: the summed cosines of its rows, loss of the query, score of unseen documents
    subsets: np.ndarray
    metric: str  # of the score, which is negative where more is better: less is better of all of them
    rows: tuple[int, int] = (0, 0)  # of a slice, of a subset
    facts: dict[str, str] = field(default_factory=dict)  # what it was measured with


FACTS = ("embedding", "corpus", "model", "recipe", "evaluation", "commit", "machine", "device")


def run(overrides: Sequence[str], subsets: int, share: float) -> Found:
    """Makes all of them, or finds them finished. InputError for what cannot be, before any training.

    Overrides of ``strategy.query`` are the slices' alone, as random subsets have no query.
    """
    common = [word for word in overrides if "strategy." not in word.partition("=")[0]]

    def cell(strategy: str, *own: str) -> Run:
        given = overrides if strategy == "decile" else common
        return prepared([*given, "diversity=none", f"strategy={strategy}", *own])

    corpus = cell("decile", "budget=1", "until=corpus")
    cell("random", "budget=1")  # what does not compose is told before the corpus is read
    if not corpus.evaluates:
        raise InputError("evaluation=none: unseen documents are needed, whose loss training may lower")
    execute(corpus)
    n = corpus.corpus.meta()["facts"]["n_pool"]
    if n < 2 * DECILES:
        raise InputError(f"the pool holds {n} examples: of {DECILES} slices, each wants two at least")
    tenth, part = n // DECILES, round(share * n)
    if not 0 < part < n:
        raise InputError(f"--share {share}: of {n} examples that is {part}; choose a share between 0 and 1")
    runs = [cell("decile", f"strategy.decile={d}", f"budget={tenth}") for d in range(1, DECILES + 1)]
    halves = [cell("random", f"budget={part}", f"select_seed={j}") for j in range(subsets)]
    for number, one in enumerate((*runs, *halves), 1):
        log.info("training %d of %d", number, len(runs) + len(halves))
        execute(one)
    first = runs[0]
    assert first.query is not None  # of decile
    near = nearness(load(first.embedding.here()), load(first.query.here())).astype(np.float64)
    chosen = [np.load(one.mixture.here() / "rows.npy", allow_pickle=False) for one in (*runs, *halves)]
    losses = np.array([_losses(first, one) for one in (*runs, *halves)])
    cosines = [near[rows].mean() for rows in chosen[:DECILES]] + [
        near[rows].sum() for rows in chosen[DECILES:]
    ]
    found = np.column_stack([cosines, losses])
    row = read_json(first.path / "result.json")
    facts = {name: str(row[name]) for name in FACTS if row.get(name)}
    if (base := row.get(f"{row['score_metric']}_base")) is not None:
        facts["unseen documents before any training"] = f"{base:.3f}"
    return Found(n, found[:DECILES], found[DECILES:], row["score_metric"], (tenth, part), facts)


def _losses(of_query: Run, one: Run) -> tuple[float, float]:
    """Of the model that ``one`` has trained: its mean nats per response token of the query's rows, and its
    score."""
    assert of_query.query is not None
    keys = {"adapter": one.adapter.key, "query": of_query.query.key}
    kept = Artifact(one.root, "query_loss", 1, {}, keys)
    kept.produce(lambda out: {"loss": _loss_of_query(of_query, one)})
    row = read_json(one.path / "result.json")
    better = 1 if METRICS[row["score_metric"]].lower else -1
    return kept.meta()["facts"]["loss"], better * row["score"]


def _loss_of_query(of_query: Run, one: Run) -> float:
    import pyarrow as pa

    assert of_query.query is not None
    model = Finetuned(one.parts.model, str(one.adapter.here().absolute()))
    tokenizer = model.tokenizer()
    examples = encoded(tokenizer, model.format, pa.Table.from_pylist(alike(rows_of(of_query.query.here()))))
    weights = placed(model.load(dtype=compute_dtype()))
    losses = [nll for _, nll, _ in likelihood(weights, examples, tokenizer.pad_token_id, BATCH_TOKENS)]
    return float(np.concatenate(losses).mean())
