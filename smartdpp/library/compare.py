"""How diverse data at hand is: ``smartdpp.measure`` of one set, ``smartdpp.compare`` of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.comparison.compare import compare as side_by_side
from smartdpp.comparison.sets import Rows, embed
from smartdpp.diversity.components import AllMeasures
from smartdpp.errors import InputError
from smartdpp.library import data as given
from smartdpp.library.components import Options, made, node
from smartdpp.library.select import MODEL, cache, own_vectors

if TYPE_CHECKING:
    import pandas as pd


def measure(
    data: Any,
    embedding: str = "minilm",
    *,
    pool: Any = None,
    task: str | None = None,
    X: np.ndarray | None = None,
    columns: given.Mapped = None,
    embedding_options: Options = None,
    options: Options = None,
) -> dict[str, float | None]:
    """How diverse a set is, by each measure of ``diversity=all``: the log determinant distance (lower is more
    diverse), the Vendi score, ...; None stands for what is not known.

    data, task, columns, X: as for `smartdpp.select`. pool: what it was chosen from, for coverage. options: as
    conf/diversity/all.yaml has them. InputError before any work says what is wrong.
    """
    measures = made("diversity", node("diversity", "all", options))
    source = given.read(data, task, columns)
    if X is not None:
        if pool is not None:
            raise InputError("pool= is embedded beside the data, so it does not go with X.")
        vectors = [own_vectors(X, source)]
    else:
        sets = [source, *([] if pool is None else [given.read(pool, task, columns)])]
        vectors = _vectors(sets, embedding, embedding_options)
    tasks = np.array([row["task"] for row in source.rows]) if source.named else None
    found = measures.measure(vectors[0], pool=None if pool is None else vectors[1], task=tasks)
    return {name: value for name, value in found.items() if value is None or isinstance(value, (int, float))}


def compare(
    a: Any,
    b: Any,
    *more: Any,
    names: tuple[str, ...] | None = None,
    embedding: str = "minilm",
    task: str | None = None,
    rows: int | None = None,
    n: int | None = None,
    seed: int = 0,
    columns: given.Mapped = None,
    embedding_options: Options = None,
    options: Options = None,
) -> pd.DataFrame:
    """Sets side by side, one line each, most diverse first, as ``python -m smartdpp.diversity`` has them.

    Every set is cut to ``rows`` rows (None: as many as the smallest has) by a draw from ``seed``, and log
    determinant distances are read at one ``n`` (None: the largest that all reach). names: of the sets, in
    order; None: a, b, ...
    """
    everything = (a, b, *more)
    called = names or tuple(chr(ord("a") + i) for i in range(len(everything)))
    if len(called) != len(everything) or len(set(called)) < len(called):
        raise InputError(f"names={called}: give {len(everything)} different names, one a set.")
    measures: AllMeasures = made("diversity", node("diversity", "all", options))
    sources = [given.read(data, task, columns) for data in everything]
    most = rows or min(len(source.rows) for source in sources)
    drawn = [given.drawn(source, most, seed) for source in sources]
    vectors = _vectors(drawn, embedding, embedding_options)
    sets = [Rows(name, source.rows, source.total) for name, source in zip(called, drawn, strict=True)]
    return side_by_side(sets, vectors, measures, n).table


def _vectors(sources: list[given.Data], embedding: str, options: Options) -> list[np.ndarray]:
    settings = node("embedding", embedding, options, node("model", MODEL))
    sets = [Rows(str(number), source.rows, source.total) for number, source in enumerate(sources)]
    return embed(sets, made("embedding", settings), settings, cache())
