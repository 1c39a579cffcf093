"""Several nodes on this machine: the bytes and the picks are those of one process, also after a worker was killed in the middle."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from smartdpp.embedding.tfidf import Tfidf
from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.greedy import maximize, partitions, spread
from smartdpp.runtime import using
from smartdpp.runtime.cluster import Ray
from smartdpp.shards import run
from smartdpp.strategies.dpp import Dpp
from smartdpp.strategies.smart import Smart
from smartdpp.strategies.submodular import Submodular
from smartdpp.strategies.two_rounds import TwoRounds
from smartdpp.types import Pool
from tests.greedy.test_maximize import features
from tests.runtime.pieces import Mortal, pid, refuse, share

pytestmark = pytest.mark.ray
ROWS = pa.table({"id": [str(i) for i in range(60)], "prompt": [f"how many are {i} and {i % 7} of {'abcde'[i % 5]}" for i in range(60)]})


@pytest.fixture(scope="module")
def nodes() -> Iterator[Ray]:
    """A cluster of three nodes with one CPU each; tests connect to it."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:  # the workers import this checkout, as installed packages are on a real cluster
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
        memory = 100 * 2**20
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=memory)
        ray.init(address=cluster.address, log_to_driver=False)
        yield Ray(address=cluster.address, rows_per_task=16)
        ray.shutdown()
        cluster.shutdown()


def test_an_embedding_has_the_same_bytes_also_after_a_worker_died(nodes: Ray, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("here", "there", "mortal")]
    for place in places:
        place.mkdir()
    run(Tfidf(dim=8), ROWS, places[0], "embedding", shard=4)
    with using(nodes):
        run(Tfidf(dim=8), ROWS, places[1], "embedding", shard=4)
        run(Mortal(Tfidf(dim=8), str(tmp_path / "grave")), ROWS, places[2], "embedding", shard=4)
    assert (tmp_path / "grave").exists()
    assert len({(place / "X.npy").read_bytes() for place in places}) == 1
    assert sorted(path.name for path in places[1].iterdir()) == ["X.npy", "manifest.json"]


def test_selection_over_shares_has_the_same_picks_also_after_a_worker_died(nodes: Ray) -> None:
    X = features(0, 4000, 16, "clustered")
    for function in (GraphCut(X), LogDet(X)):
        whole = maximize(function, 300)
        makes = [partial(share, function, piece) for piece in partitions.cut(len(X), 3)]
        with nodes.shares(makes) as ask:
            pids, asked = ask(pid), [0]

            def ask_and_kill(question: Any, which: Any = None, ask=ask, pids=pids, asked=asked) -> list[Any]:
                asked[0] += 1
                if asked[0] == 5:
                    os.kill(pids[1], signal.SIGKILL)
                return ask(question, which)

            chosen = partitions.maximize(ask_and_kill, 300)
            assert [before == after for before, after in zip(pids, ask(pid), strict=True)] == [True, False, True]
        assert chosen.index.tolist() == whole.index.tolist()
        np.testing.assert_allclose(chosen.gain, whole.gain, rtol=1e-9)


def test_strategies_choose_the_same_to_the_last_bit_of_their_gains(nodes: Ray, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "X.npy", features(1, 120, 6, "clustered"))
    X, task = np.load(tmp_path / "X.npy", mmap_mode="r"), np.repeat(np.arange(6), 20)
    pool = Pool(
        ids=np.array([f"{i:03d}" for i in range(120)]), X=X, task=task, names=[f"task {i}" for i in range(6)], cost=np.ones(120, int)
    )

    def choose() -> list[tuple[list[int], list[float]]]:
        strategies = [Smart(), Submodular(GraphCut), Submodular(FacilityLocation), Dpp(kernel="linear", ridge=0.1), TwoRounds(parts=3)]
        chosen = [strategy.select(pool, 30, np.random.default_rng(0)) for strategy in strategies]
        return [(selection.index.tolist(), selection.gain.tolist()) for selection in chosen]

    here = choose()
    with using(nodes), caplog.at_level(logging.INFO):
        assert choose() == here
    assert caplog.text.count("chosen from 3 shares of the pool") == 2
    assert caplog.text.count("chosen by the process that was started") == 1


def test_a_refusal_arrives_as_the_sentence_it_is_and_too_few_processors_too(nodes: Ray) -> None:
    with pytest.raises(InputError, match=r"^row 2 cannot be read$"):
        nodes.map(refuse, lambda i: (f"row {i + 2}",), [1], "reading")
    with pytest.raises(InputError, match="rows that are not zero: 1 of 16"), using(nodes):
        spread.choose(GraphCut, np.eye(48, 47), np.arange(48), 3)  # its last row is zero
    with pytest.raises(InputError, match="has 3 CPUs"):
        Ray(cpus=50).map(refuse, lambda i: ("row",), [1], "reading")
