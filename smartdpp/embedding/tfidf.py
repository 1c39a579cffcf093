"""TF-IDF of the prompt's words, reduced by truncated SVD: quick, deterministic, and the baseline a neural
encoder has to beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.bounds import Seed
from smartdpp.errors import InputError
from smartdpp.models.turns import Text, texts_of
from smartdpp.runtime.memory import BLOCKS, vectors

if TYPE_CHECKING:
    import pyarrow as pa

WORD = r"\S+"  # every run of non-space characters: prompts of numbers and signs must not come out empty


@dataclass(frozen=True)
class Tfidf:
    """float32[n, min(dim, n, number of words)], rows of unit norm. Fitted on all rows of the corpus."""

    dim: int = 128
    min_df: int = 1  # words in fewer prompts than this are ignored
    seed: Seed = 0
    text: Text = "user"

    def __post_init__(self) -> None:
        if self.dim < 1 or self.min_df < 1:
            raise InputError(
                f"embedding.dim={self.dim} and embedding.min_df={self.min_df} must be at least 1"
            )

    def check(self) -> list[str]:
        return []

    def fingerprint(self) -> str:
        return ""

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from threadpoolctl import threadpool_limits

        words = TfidfVectorizer(token_pattern=WORD, sublinear_tf=True, min_df=self.min_df, dtype=np.float32)
        try:
            counts = words.fit_transform(texts_of(rows, self.text))
        except ValueError:  # no word is left
            counts = np.zeros((len(rows), 0), np.float32)
        if counts.shape[1] < 2:
            raise InputError(
                f"embedding.min_df={self.min_df}: {counts.shape[1] or 'no'} word stands in so many of the "
                f"{len(rows)} prompts, and at least 2 are needed; choose a lower one (1 takes all words) or "
                "embedding=minilm"
            )
        svd = TruncatedSVD(
            min(self.dim, *counts.shape),
            random_state=self.seed,
            algorithm="arpack" if min(counts.shape) > self.dim else "randomized",
        )
        # other numbers of threads sum in other orders, and every machine fits by itself
        with threadpool_limits(1):
            svd.fit(counts)

        def encode(shard: pa.Table) -> np.ndarray:
            X = svd.transform(words.transform(texts_of(shard, self.text)))
            return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(np.float32).tiny)

        return encode

    def unknown(self, pool: pa.Table, rows: pa.Table) -> list[int]:
        """Which of these rows have no word that the pool's make known, and so come out as zeros. Ends as soon
        as none has."""
        from sklearn.feature_extraction.text import CountVectorizer

        words_of = CountVectorizer(token_pattern=WORD).build_analyzer()
        words = [set(words_of(prompt)) for prompt in texts_of(rows, self.text)]
        wanted, left, seen = set().union(*words), list(range(len(words))), Counter[str]()
        parts = (texts_of(pool.slice(start, 1024), self.text) for start in range(0, len(pool), 1024))
        for prompt in chain.from_iterable(parts):
            if not left:
                break
            seen.update(found := wanted & set(words_of(prompt)))
            known = {word for word in found if seen[word] == self.min_df}
            left = [i for i in left if not words[i] & known]
        return left

    def cut(self, rows: pa.Table) -> tuple[int, int]:
        return 0, 0

    def columns(self, n: int) -> int:
        return min(self.dim, n)

    def memory(self, n: int, d: int, text: float, longest: int, wide: int) -> float:
        """The words as the vectoriser lists them, then the bases of the SVD."""
        return vectors(n, d, text) + 8 * text + 3 * 8 * n * d + BLOCKS / 8
