"""Tasks for a pool that names none: k-means over the words of its prompts, so that strategies which look at
tasks have some.

Prompts are TF-IDF over their words, reduced by truncated SVD and of unit norm; k-means++ with a seed finds
the clusters (Lloyd 1982; Arthur and Vassilvitskii 2007). Without a number, that of CANDIDATES is taken whose
clusters of a sample have the largest mean silhouette (Rousseeuw 1987). A cluster's name is its number and the
words that set it apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from smartdpp.corpus.notes import OTHERWISE, note, noted
from smartdpp.errors import InputError
from smartdpp.types import Row

CLUSTER = "cluster"
CANDIDATES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
SMALLEST = 5  # rows a cluster holds on average, or the number is no candidate
SAMPLE = 2000  # rows of which silhouettes are measured
WORDS, DIM = 20_000, 64
WORD = r"(?u)\b\w\w+\b"


def named(read: Callable[[], Iterator[Row]], k: int | None, seed: int) -> Iterator[Row]:
    """The rows of ``read()``, which is called twice, with their cluster's name as the task; ids stay what
    they are.

    Memory holds the prompts' word counts, never the rows.
    """
    with noted():  # the second reading tells
        label, names = _clusters((row["prompt"] for row in read()), k, seed)
    how = "given" if k else "chosen by silhouette"
    for row, cluster in zip(read(), label, strict=True):
        note(OTHERWISE, f"in one of {len(names)} clusters of prompts ({how}), which is its task", row["id"])
        yield row | {"task": names[cluster]}


def _clusters(prompts: Iterator[str], k: int | None, seed: int) -> tuple[np.ndarray, list[str]]:
    """int32[n], and a name for each of the k clusters. InputError where the prompts are too few, or without
    words."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    words = TfidfVectorizer(token_pattern=WORD, sublinear_tf=True, max_features=WORDS, dtype=np.float32)
    try:
        counts = words.fit_transform(prompts)
    except InputError:  # of a row
        raise
    except ValueError:  # an empty vocabulary
        raise InputError(
            "corpus.task=cluster: the prompts hold no words to cluster them by; name their tasks instead."
        ) from None
    n = counts.shape[0]
    if n < (k or 2 * SMALLEST):
        raise InputError(f"corpus.task=cluster: {n} rows are too few for {k or 'several'} clusters.")
    with threadpool_limits(1):  # other numbers of threads sum in other orders
        X = TruncatedSVD(min(DIM, *counts.shape), random_state=seed).fit_transform(counts).astype(np.float32)
        X /= np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        label = _fitted(X, k or _number(X, seed), seed)
    _, label = np.unique(label, return_inverse=True)  # fewer where prompts are the same
    width = len(str(label.max()))
    means = np.stack(
        [np.asarray(counts[label == cluster].mean(axis=0)).ravel() for cluster in range(label.max() + 1)]
    )
    apart, vocabulary = means - np.asarray(counts.mean(axis=0)).ravel(), words.get_feature_names_out()
    top = [" ".join(vocabulary[np.argsort(-row, kind="stable")[:3]]) for row in apart]
    return label, [f"{cluster:0{width}d} {words}" for cluster, words in enumerate(top)]


def _fitted(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    return np.asarray(MiniBatchKMeans(k, random_state=seed, n_init=3, batch_size=4096).fit_predict(X))


def _number(X: np.ndarray, seed: int) -> int:
    from sklearn.metrics import silhouette_score

    some = np.random.default_rng(seed).permutation(len(X))[:SAMPLE]
    scores = {}
    for k in (k for k in CANDIDATES if k * SMALLEST <= len(some)):
        label = _fitted(X[some], k, seed)
        scores[k] = silhouette_score(X[some], label) if 1 < len(np.unique(label)) < len(some) else -1.0
    return max(scores, key=lambda k: scores[k], default=2)
