"""DSIR: importance resampling by words (Xie, Santurkar, Ma and Liang 2023, arXiv 2302.03169).

A text is a bag of hashed words and pairs of words. With p the share of each bucket in all of the query's
texts, and q in all of the pool's, a row's log weight is

    log w_i = Σ_b c_ib (log(p_b + 1e-8) - log(q_b + 1e-8)),

c_ib how often it has bucket b, and rows are drawn in proportion to w without replacement: the k largest of
log w + Gumbel noise. Words are as in the authors' code, runs of letters or of signs in lower case, and the
bucket is sha256 of them, modulo 10,000. The sum is over all of a text, so that long ones have the largest
weights and the smallest, and the noise, of about 1, decides little.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from smartdpp.errors import InputError
from smartdpp.strategies.allocate import check_budget
from smartdpp.strategies.pool_order import by_id
from smartdpp.types import Pool, Query, Selection

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

WORDS = re.compile(r"\w+|[^\w\s]+")
NONE = 1e-8  # the share of a bucket that nothing fell into
CHUNK = 10_000  # rows whose pairs of words are hashed together
CHUNKS_WORK = 2**28  # bytes that takes, of texts of some hundred words


@dataclass(frozen=True)
class Dsir:
    """``reads`` the whole example, or its prompt alone. ``temperature`` weighs the noise: 1 draws by w, 0
    takes the largest, ties to the first id. Rows of fewer than ``min_words`` words are left out, and counted.

    A smaller budget is a prefix of a larger one of the same seed. The gain is log w with its noise.
    """

    query: Query
    reads: Literal["all", "prompt"] = "all"
    buckets: int = 10_000
    temperature: float = 1.0
    min_words: int = 0
    text: ClassVar[bool] = True
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 2 <= self.buckets <= 2**16:
            raise InputError(f"strategy.buckets is {self.buckets}: choose 2 to {2**16}.")
        if not 0 <= self.temperature < np.inf:
            raise InputError(f"strategy.temperature is {self.temperature}: choose 0 or a positive number.")
        if self.min_words < 0:
            raise InputError(f"strategy.min_words is {self.min_words}: choose 0 or a positive number.")

    def check(self) -> list[str]:
        return self.query.check()

    def size(self, n: int, budget: int) -> int:
        return budget

    def memory(self, n: int, d: int, budget: int, largest: int) -> float | None:
        return 200 * n + CHUNKS_WORK  # beside the texts, which it keeps as numbers of their size

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection:
        check_budget(budget, len(pool))
        if pool.text is None or pool.query_text is None or not len(pool.query_text):
            what = "texts" if pool.text is None else "a query's texts"
            raise InputError(f"strategy=dsir was given a pool without {what}: they are all that it reads.")
        asked = [self._hashed(piece) for piece in _pieces(pool.query_text)]
        if not any(piece.length.any() for piece in asked):
            raise InputError("strategy=dsir: the query's texts hold no word, so no text is like them.")
        rows, pieces = by_id(pool), [self._hashed(piece) for piece in _pieces(pool.text)]
        ratio = self._logs(asked) - self._logs(pieces)
        weight = np.concatenate([piece.sums(ratio) for piece in pieces])[rows]
        if np.ptp(weight) == 0:
            log.warning("strategy=dsir: every row has the same weight")
        key = weight + self.temperature * rng.gumbel(size=len(rows))
        short = np.concatenate([piece.length for piece in pieces])[rows] < self.min_words
        if short.any():
            log.warning(
                "strategy=dsir: %d of %d rows have fewer than %d words and are left out",
                short.sum(),
                len(rows),
                self.min_words,
            )
        if len(rows) - short.sum() < budget:
            raise InputError(
                f"strategy.min_words={self.min_words} leaves {len(rows) - short.sum()} of {len(rows)} rows, "
                f"fewer than the budget of {budget}: lower one of them."
            )
        order = np.argsort(np.where(short, np.inf, -key), kind="stable")[:budget]
        return Selection(rows[order], key[order])

    def _hashed(self, texts: pa.Table) -> Hashed:
        """Of at most CHUNK rows: every distinct word and pair is hashed once."""
        vocabulary: dict[str, int] = {}
        found: list[int] = []
        length = np.zeros(len(texts), dtype=np.int64)
        read = ("prompt", "response") if self.reads == "all" else ("prompt",)
        for row, parts in enumerate(zip(*(texts[name].to_pylist() for name in read), strict=True)):
            words = WORDS.findall(" ".join(part or "" for part in parts).lower())
            found += [vocabulary.setdefault(word, len(vocabulary)) for word in words]
            length[row] = len(words)
        grams, word = list(vocabulary), np.array(found, dtype=np.int64)
        text = np.repeat(np.arange(len(texts)), length)
        code = (word[:-1] * len(grams) + word[1:])[text[:-1] == text[1:]]
        pair, place = np.unique(code, return_inverse=True)
        first, second = np.divmod(pair, max(1, len(grams)))
        together = [f"{grams[a]} {grams[b]}" for a, b in zip(first, second, strict=True)]
        return Hashed(length, self._buckets(grams)[word], self._buckets(together)[place])

    def _buckets(self, grams: list[str]) -> np.ndarray:
        hashes = (hashlib.sha256(gram.encode()).digest() for gram in grams)
        return np.array([int.from_bytes(one, "big") % self.buckets for one in hashes], dtype=np.uint16)

    def _logs(self, pieces: list[Hashed]) -> np.ndarray:
        """float64[buckets]: the logarithm of each bucket's share."""
        count = np.sum([piece.counts(self.buckets) for piece in pieces], axis=0)
        return np.log(count / max(1, count.sum()) + NONE)


@dataclass(frozen=True)
class Hashed:
    """The buckets of r texts' words and pairs of words, text after text."""

    length: np.ndarray  # int64[r], words of each text
    word: np.ndarray  # uint16[sum of length]
    pair: np.ndarray  # uint16, one fewer in each text that has a word

    def counts(self, buckets: int) -> np.ndarray:
        return np.bincount(self.word, minlength=buckets) + np.bincount(self.pair, minlength=buckets)

    def sums(self, value: np.ndarray) -> np.ndarray:
        """float64[r] of a value for each bucket."""
        texts = np.arange(len(self.length))
        of_words, of_pairs = (
            np.bincount(np.repeat(texts, times), weights=value[found], minlength=len(texts))
            for found, times in ((self.word, self.length), (self.pair, np.maximum(self.length - 1, 0)))
        )
        return of_words + of_pairs


def _pieces(texts: pa.Table) -> Iterator[pa.Table]:
    return (texts.slice(start, CHUNK) for start in range(0, len(texts), CHUNK))
