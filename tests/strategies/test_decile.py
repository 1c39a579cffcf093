"""Slices of the pool by nearness to a target."""

import numpy as np

from smartdpp.query import Development
from smartdpp.strategies.decile import Decile
from smartdpp.types import Pool


def test_tenths_are_the_ranking_by_mean_cosine_in_ten_pieces() -> None:
    rng = np.random.default_rng(0)
    X, query = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(3, 6)).astype(np.float32)
    ids = np.array([f"{i:02d}" for i in range(40)])
    pool = Pool(ids, X, np.zeros(40, np.int64), ["t"], np.ones(40, np.int64), query=query)
    unit, q = (A / np.linalg.norm(A, axis=1, keepdims=True) for A in (X, query))
    ranking = np.argsort(-(unit @ q.T).mean(1)).tolist()
    pieces = [Decile(Development(), d).select(pool, 4, rng).index.tolist() for d in range(1, 11)]
    assert [row for piece in pieces for row in piece] == ranking
    assert Decile(Development(), 10).select(pool, 7, rng).index.tolist() == ranking[-7:]
