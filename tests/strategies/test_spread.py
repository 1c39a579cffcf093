"""The same selection, to the last bit of its gains, wherever the runtime has it made; and a line where it
cannot be spread."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.functions.lazy import LazyRows
from smartdpp.greedy import partitions
from smartdpp.runtime import using
from smartdpp.runtime.local import Local, here
from smartdpp.strategies.dpp import Dpp
from smartdpp.strategies.smart import Smart
from smartdpp.strategies.spread import choose
from smartdpp.strategies.submodular import Submodular
from smartdpp.strategies.two_rounds import TwoRounds
from smartdpp.types import Ask, Pool
from tests.greedy.test_maximize import features


@dataclass(frozen=True)
class Elsewhere(Local):
    """Three machines in one process: what they are sent has been pickled."""

    def map(
        self,
        work: Callable[..., Any],
        arguments: Callable[[int], tuple[Any, ...]],
        sizes: Sequence[int],
        what: str,
    ) -> list[Any]:
        return super().map(work, lambda i: pickle.loads(pickle.dumps(arguments(i))), sizes, what)

    def parts(self, n: int) -> int:
        return min(3, n)

    @contextmanager
    def shares(self, makes: Sequence[Callable[[], partitions.Share]]) -> Iterator[Ask[partitions.Share]]:
        yield here([pickle.loads(pickle.dumps(make))() for make in makes])


def stored(X: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r", allow_pickle=False)


def pool_of(X: np.ndarray) -> Pool:
    n, rng = len(X), np.random.default_rng(4)
    ids = np.array([f"{i:05d}" for i in rng.permutation(n)])
    return Pool(ids, X, rng.integers(5, size=n), list("abcde"), np.ones(n, int), quality=rng.uniform(1, 9, n))


STRATEGIES = [
    Submodular(GraphCut),
    Submodular(partial(LogDet, ridge=1e-3)),
    Submodular(FacilityLocation),
    Dpp(kernel="linear", theta=0.2, ridge=0.1),
    Dpp(kernel="linear"),  # ends at its rank: copies fill the budget
    Dpp(),
    Smart(instances=LogDet),
    TwoRounds(parts=4, witnesses=200),
    TwoRounds(partial(LogDet, kernel="vmf"), parts=3),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("on_disk", [True, False])
def test_a_strategy_gives_the_same_bytes_here_and_elsewhere(
    strategy: Any, on_disk: bool, tmp_path: Path
) -> None:
    X = features(0, 900, 12, "clustered").astype(np.float32)
    pool = pool_of(stored(X, tmp_path) if on_disk else X)
    here = strategy.select(pool, 60, np.random.default_rng(0))
    with using(Elsewhere()):
        there = strategy.select(pool, 60, np.random.default_rng(0))
    assert here.index.tobytes() == there.index.tobytes()
    assert here.gain.tobytes() == there.gain.tobytes()


def test_rows_on_disk_travel_as_their_numbers(tmp_path: Path) -> None:
    X = stored(features(1, 5000, 40, "gaussian").astype(np.float32), tmp_path)
    index = np.random.default_rng(0).permutation(5000)[:300]
    sent = pickle.dumps(LazyRows(X, index))
    assert len(sent) < 8 * 300 + 500
    np.testing.assert_array_equal(pickle.loads(sent).read(), X[index])
    part = pickle.dumps(LazyRows(X[100:], index[index < 4900]))  # a part of the file is not the file
    np.testing.assert_array_equal(pickle.loads(part).read(), X[100:][index[index < 4900]])
    assert isinstance(pickle.loads(pickle.dumps(LazyRows(X, np.arange(10, 90)))).read(), np.memmap)
    (tmp_path / "X.npy").unlink()
    with pytest.raises(InputError, match="not there on a machine of the cluster"):
        pickle.loads(sent).read()


@pytest.mark.parametrize(
    ("make", "start", "said"),
    [
        (
            FacilityLocation,
            [],
            "FacilityLocation is not chosen exactly from shares of a pool: it needs every pair",
        ),
        (partial(LogDet, kernel="rbf"), [], "kernel=rbf is not chosen exactly"),
        (lambda X: GraphCut(X), [], "lambda"),
        (GraphCut, [3], "continues what was chosen before"),
        (GraphCut, [], "chosen from 3 shares"),
    ],
)
def test_what_is_not_spread_is_chosen_here_which_is_said(
    make: Any, start: list[int], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    X, rows = features(2, 200, 6, "gaussian"), np.arange(200)[::-1]
    whole = choose(make, X, rows, 20, start=start)
    with using(Elsewhere()), caplog.at_level(logging.INFO):
        there = choose(make, X, rows, 20, start=start)
    assert there.index.tolist() == whole.index.tolist()
    assert said in caplog.text
    assert len(caplog.records) == 1
