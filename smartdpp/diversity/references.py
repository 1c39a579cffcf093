"""What a set is compared with: reference sets, and their greedy log gains, kept on disk because each costs as
much as the set itself.

Three kinds. The unit sphere: rows uniform in all directions, Wang et al.'s (arXiv 2402.02318), the most
diverse set there is. Shuffled columns: the set's own values, each column permuted by itself, which keeps
every feature's distribution and destroys all else; a set is far from it by what its features share. A
held-out corpus: any other set's rows, of which every seed draws as many as are needed.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions import LogDet
from smartdpp.functions.logdet import CLAMP
from smartdpp.greedy import maximize
from smartdpp.store.disk import digest, write_bytes
from smartdpp.store.place import cache_dir

log = logging.getLogger(__name__)

Kernel = Literal["vmf", "rbf", "linear"]
Reference = Literal["sphere", "shuffled"] | np.ndarray
VERSION = 2  # raised by hand when a reference or greedy changes what it gives


def uniform_sphere(n: int, d: int, seed: int) -> np.ndarray:
    """float32[n, d]: rows uniform on the unit sphere, the points that ``np.random.seed(seed)`` and ``randn``
    give."""
    X = np.random.RandomState(seed).randn(n, d)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X.astype(np.float32)


def shuffled_columns(X: np.ndarray, seed: int) -> np.ndarray:
    """X (n, d) with the entries of each column permuted by themselves."""
    return np.random.default_rng(seed).permuted(X, axis=0)


def name(reference: Reference) -> str:
    """How a result calls its reference."""
    return reference if isinstance(reference, str) else f"held out, {len(reference)} rows"


def reference_gains(
    reference: Reference,
    X: np.ndarray,
    seeds: Sequence[int],
    points: int,
    kernel: Kernel,
    gamma: float,
    picks: int,
) -> list[np.ndarray]:
    """For every seed float64[picks]: Δ_m of a reference set of ``points`` rows in the dimension of X (n, d).

    Raises InputError for a reference that has too few rows, or rows of another dimension.
    """
    n, d = X.shape
    if isinstance(reference, str):
        if reference not in ("sphere", "shuffled"):
            raise InputError(
                f"reference is {reference!r}: choose sphere or shuffled, or give a matrix of held-out rows."
            )
        if reference == "sphere":
            return [_sphere(int(seed), points, d, kernel, float(gamma), picks) for seed in seeds]
        if points != n:
            raise InputError(
                f"reference_size is {points}, but shuffling the columns of {n} rows gives {n}: leave it out."
            )
        return [
            _cached(
                _of(X), "shuffled", seed, points, kernel, gamma, picks, partial(shuffled_columns, X, seed)
            )
            for seed in seeds
        ]
    held_out = np.asarray(reference)
    if held_out.ndim != 2 or held_out.shape[1] != d:
        raise InputError(
            f"The held-out reference has shape {held_out.shape}; the set has {d} columns, and so must it."
        )
    if len(held_out) < points:
        raise InputError(
            f"The held-out reference has {len(held_out)} rows, but {points} are needed: give a larger one, "
            "or measure fewer rows."
        )

    def drawn(seed: int) -> np.ndarray:
        return held_out[np.sort(np.random.default_rng(seed).permutation(len(held_out))[:points])]

    return [
        _cached(_of(held_out), "held out", seed, points, kernel, gamma, picks, partial(drawn, seed))
        for seed in seeds
    ]


def greedy_gains(function: LogDet, picks: int) -> np.ndarray:
    """float64[picks]: Δ_m of the greedy order; the picks that greedy stops before are copies."""
    gains = maximize(function, picks).gain
    return np.concatenate([gains, np.full(picks - len(gains), np.log(CLAMP))])


@lru_cache(maxsize=64)  # a study measures many sets of one size against the same references
def _sphere(seed: int, points: int, d: int, kernel: Kernel, gamma: float, picks: int) -> np.ndarray:
    return _cached(d, "sphere", seed, points, kernel, gamma, picks, lambda: uniform_sphere(points, d, seed))


def _of(X: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(X).data).hexdigest()


def _cached(
    content: Any,
    kind: str,
    seed: int,
    points: int,
    kernel: Kernel,
    gamma: float,
    picks: int,
    make: Callable[[], np.ndarray],
) -> np.ndarray:
    """The gains from the user's cache, which holds the most picks ever asked for, or found now and left
    there.

    A cache that cannot be used costs time only.
    """
    key = digest([VERSION, kind, content, int(seed), points, kernel, float(gamma)])
    file = cache_dir() / "references" / f"{key}.npy"
    try:
        gains = np.load(file, allow_pickle=False)
        # the first picks are the same whatever follows
        if gains.ndim == 1 and len(gains) >= picks and gains.dtype == np.float64:
            return _frozen(gains[:picks])
    except (OSError, ValueError, EOFError):
        pass  # not there, or cut short: it is made again
    gains = greedy_gains(LogDet(make(), kernel=kernel, gamma=gamma, ridge=0.0), picks)
    buffer = io.BytesIO()
    np.save(buffer, gains, allow_pickle=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, buffer.getvalue())
    except OSError as error:
        log.warning("the reference set's gains could not be kept in %s: %s", file.parent, error.strerror)
    return _frozen(gains)


def _frozen(gains: np.ndarray) -> np.ndarray:
    gains.flags.writeable = False
    return gains
