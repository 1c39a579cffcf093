"""The weights that a law says are best, and how well it says so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from smartdpp.law.forms import Form, Prediction

SIMULATED, AVERAGED = 100_000, 128  # RegMix's
FOLDS = 5


def best(
    predict: Prediction, prior: np.ndarray, most: np.ndarray, kl: float, rng: np.random.Generator
) -> np.ndarray:
    """float64[M] on the simplex: the mean of the AVERAGED best of SIMULATED mixtures, drawn around the prior
    in several widths, by the mean predicted loss over tasks plus ``kl`` · KL(w | prior).

    prior: the pool's own shares. most: the largest weight that each task can have, by its size and how often
    a row may be seen; sums to at least 1. An average of mixtures within the caps is within them.
    """
    W = np.concatenate([_capped(block, most) for block in _drawn(prior, rng)])
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.where(W > 0, W * np.log(W / prior), 0.0).sum(1)
    score = predict(W).mean(1) + kl * away
    return W[np.argsort(score, kind="stable")[:AVERAGED]].mean(0)


def _drawn(prior: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    M = len(prior)
    for strength in (0.5, 1.0, 2.0, 5.0):  # from corners to near the prior, times the number of tasks
        yield rng.dirichlet(np.maximum(strength * M * prior, 1e-3), size=SIMULATED // 8)
        yield rng.dirichlet(np.full(M, strength), size=SIMULATED // 8)


def _capped(W: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Weights above a cap are cut to it, and what is cut goes to the others by their room."""
    W = np.minimum(W, most)
    room = most - W
    lacking = 1 - W.sum(1, keepdims=True)
    return W + room * np.where(lacking > 0, lacking / np.maximum(room.sum(1, keepdims=True), 1e-12), 0)


def held_out(form: Form, W: np.ndarray, L: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float64[n, J]: each mixture's losses as predicted from the others', FOLDS parts in turn."""
    predicted = np.empty_like(L)
    part = rng.permutation(len(W)) % FOLDS
    for fold in range(FOLDS):
        here = part == fold
        predicted[here] = form.fit(W[~here], L[~here])(W[here])
    return predicted
