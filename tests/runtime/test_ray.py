"""Several nodes on this machine: the bytes and the picks are those of one process, also after a worker was
killed in the middle."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from smartdpp.embedding.tfidf import Tfidf
from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.greedy import maximize, partitions
from smartdpp.runtime import using
from smartdpp.runtime.cluster import Ray
from smartdpp.runtime.shards import run
from smartdpp.strategies import spread
from smartdpp.strategies.dpp import Dpp
from smartdpp.strategies.smart import Smart
from smartdpp.strategies.submodular import Submodular
from smartdpp.strategies.two_rounds import TwoRounds
from smartdpp.types import Pool
from tests.greedy.test_maximize import features
from tests.runtime.pieces import Mortal, pid, refuse, share, visible_gpus

pytestmark = pytest.mark.ray
ROWS = pa.table(
    {
        "id": [str(i) for i in range(60)],
        "prompt": [f"how many are {i} and {i % 7} of {'abcde'[i % 5]}" for i in range(60)],
    }
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes with one CPU each; tests connect to it."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # the workers import this checkout, as installed packages are on a real cluster
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        )
        memory = 100 * 2**20
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False},
        )
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=memory)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def nodes(cluster: Any) -> Ray:
    return Ray(address=cluster.address, rows_per_task=16)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smartdpp.runtime.cluster.PATIENCE", 1.0)


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
        makes = [partial(share, function, piece) for piece in partitions.pieces(len(X), 3)]
        with nodes.shares(makes) as ask:
            pids, asked = ask(pid), [0]

            def ask_and_kill(question: Any, which: Any = None, ask=ask, pids=pids, asked=asked) -> list[Any]:
                asked[0] += 1
                if asked[0] == 5:
                    os.kill(pids[1], signal.SIGKILL)
                return ask(question, which)

            chosen = partitions.maximize(ask_and_kill, 300)
            assert [before == after for before, after in zip(pids, ask(pid), strict=True)] == [
                True,
                False,
                True,
            ]
        assert chosen.index.tolist() == whole.index.tolist()
        np.testing.assert_allclose(chosen.gain, whole.gain, rtol=1e-9)


def test_strategies_choose_the_same_to_the_last_bit_of_their_gains(
    nodes: Ray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.save(tmp_path / "X.npy", features(1, 120, 6, "clustered"))
    X, task = np.load(tmp_path / "X.npy", mmap_mode="r"), np.repeat(np.arange(6), 20)
    pool = Pool(
        ids=np.array([f"{i:03d}" for i in range(120)]),
        X=X,
        task=task,
        names=[f"task {i}" for i in range(6)],
        cost=np.ones(120, int),
    )

    def choose() -> list[tuple[list[int], list[float]]]:
        strategies = [
            Smart(),
            Submodular(GraphCut),
            Submodular(FacilityLocation),
            Dpp(kernel="linear", ridge=0.1),
            TwoRounds(parts=3),
        ]
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
    with pytest.raises(
        InputError, match=r"asks for 1.5 CPUs and 0 GPUs, and no machine .* \(at most 1 and 0\)"
    ):
        Ray(cpus=1.5).map(refuse, lambda i: ("row",), [1], "reading")


def test_a_run_waits_until_there_is_room_for_all_its_shares(
    nodes: Ray, caplog: pytest.LogCaptureFixture, impatient: None
) -> None:
    function = GraphCut(features(0, 300, 8, "clustered"))
    makes = [partial(share, function, piece) for piece in partitions.pieces(300, 3)]
    with caplog.at_level(logging.INFO), ThreadPoolExecutor() as pool:
        with nodes.shares(makes[:1]) as ask:
            ask(pid)
            other = pool.submit(lambda: ends_of(nodes, makes))
            while "waiting for room for 3 shares" not in caplog.text and not other.done():
                time.sleep(0.1)
            assert not other.done()
        assert other.result() == [100, 200, 300]


def ends_of(nodes: Ray, makes: list[Any]) -> list[int]:
    with nodes.shares(makes) as ask:
        return [end for _, end, *_ in ask(partitions.Share.about)]


def test_a_task_that_asked_for_no_gpu_sees_none(nodes: Ray) -> None:
    assert nodes.map(visible_gpus, lambda i: (), [1], "asking") == [""]
    with nodes.shares([partial(share, GraphCut(np.eye(4)), slice(0, 4))]) as ask:
        ask(pid)
        assert ask(visible_gpus) == [""]


def test_when_a_machine_is_gone_fewer_shares_are_chosen_from(
    cluster: Any,
    nodes: Ray,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    impatient: None,
) -> None:
    X, heads, asked = features(0, 2000, 8, "clustered"), partitions._heads, [0]
    whole = spread.choose(GraphCut, X, np.arange(2000), 150)

    def lose_one(*arguments: Any) -> Any:
        asked[0] += 1
        if asked[0] == 2:
            cluster.remove_node(next(iter(cluster.worker_nodes)))
        return heads(*arguments)

    monkeypatch.setattr(partitions, "_heads", lose_one)
    with using(nodes), caplog.at_level(logging.INFO):
        chosen = spread.choose(GraphCut, X, np.arange(2000), 150)
    assert "the cluster has room for 2 of 3 shares: choosing anew from 2" in caplog.text
    assert (chosen.index.tolist(), chosen.gain.tolist()) == (whole.index.tolist(), whole.gain.tolist())


def test_an_address_where_nothing_answers_is_told_before_anything_starts(nodes: Ray) -> None:
    assert nodes.check() == Ray().check() == Ray(address="auto").check() == []
    (problem,) = Ray(address="localhost:1").check()
    assert problem.startswith("runtime.address=localhost:1: no Ray cluster answers there")


def test_what_a_task_asks_for_is_of_one_machine() -> None:
    assert [Ray(cpus=2)._fit(cpus, 0) for cpus in (1, 3, 4)] == [0, 1, 2]
    assert [Ray(cpus=1, gpus=gpus)._fit(16, 2) for gpus in (0.6, 0.5, 0.1, 1, 2, 3)] == [2, 4, 16, 2, 1, 0]
    assert Ray(cpus=0.1)._fit(1, 0) == 10
    with pytest.raises(InputError, match="are both 0"):
        Ray(cpus=0)
