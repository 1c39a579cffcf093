"""Locks between machines: one holder at a time, renewed while it lives, taken over when it is silent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from smartdpp.store import lease
from smartdpp.store.lease import acquire, busy, holder
from smartdpp.store.remote import opened


class Loose(MemoryFileSystem):
    """Takes a request for exclusive creation and overwrites all the same, as some object stores do."""

    protocol = "loose"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return super()._open(path, mode.replace("x", "w"), **options)


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    fsspec.register_implementation("loose", Loose, clobber=True)
    for name, seconds in (("BEAT", 0.02), ("POLL", 0.01), ("SETTLE", 0.02)):
        monkeypatch.setattr(lease, name, seconds)

    def switch(machine: str) -> None:
        monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / machine))

    switch("a")
    return switch


@pytest.fixture(params=["memory", "file", "loose"])
def run(request: pytest.FixtureRequest, on: Callable[[str], None], tmp_path: Path) -> str:
    """The address to be locked."""
    host = f"{tmp_path}/there" if request.param == "file" else tmp_path.name
    return f"{request.param}://{host}/runs/r"


def left_by(run: str, machine: str, beat: float) -> None:
    fs, at = opened(f"{run.removesuffix('r')}.r.lock")
    fs.makedirs(at.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(
        at, json.dumps({"token": "t", "machine": machine, "host": "elsewhere", "beat": beat}).encode()
    )


def test_one_machine_at_a_time(run: str, on: Callable[[str], None]) -> None:
    held = acquire(run, wait=False)
    assert held
    with held.kept():
        assert busy(run)
        on("b")
        assert acquire(run, wait=False) is None
        assert held.mine()
        on("a")
    assert not busy(run)
    assert holder(run) is None


def test_of_many_who_come_at_once_one_gets_it(run: str, on: Callable[[str], None]) -> None:
    got, start = [], threading.Barrier(4)
    lease._refuses_twice(run)  # as every machine has found out before

    def come(i: int) -> None:
        start.wait()
        got.append(lease._create(lease.Lease(run, f"m{i}", f"t{i}")))

    comers = [threading.Thread(target=come, args=(i,)) for i in range(4)]
    for comer in comers:
        comer.start()
    for comer in comers:
        comer.join()
    if not run.startswith("memory"):  # fsspec's own dictionary is not made for threads
        assert sum(got) == 1


def test_waiting_ends_when_the_holder_lets_go(run: str, on: Callable[[str], None]) -> None:
    left_by(run, "b", time.time())
    fs, at = opened(f"{run.removesuffix('r')}.r.lock")
    threading.Timer(0.1, fs.rm_file, [at]).start()
    began = time.monotonic()
    assert acquire(run, wait=True)
    assert time.monotonic() - began >= 0.08


def test_a_live_holder_is_renewed_and_a_silent_one_loses_it(run: str, on: Callable[[str], None]) -> None:
    held = acquire(run, wait=False)
    assert held
    first = holder(run)
    with held.kept():
        time.sleep(0.1)
        assert holder(run)["beat"] > first["beat"]
        left_by(run, "b", time.time() - lease.STALE - 1)
        assert not busy(run)
        assert not held.mine()
        new = acquire(run, wait=False)
        assert new
        assert new.mine()
    assert new.mine(), "whoever lost it does not take it away"


def test_a_machine_takes_its_own_back_at_once(run: str, on: Callable[[str], None]) -> None:
    left_by(run, lease.machine(), time.time())
    assert acquire(run, wait=False)


def test_a_lock_that_never_changes_is_stale_whatever_the_clocks_say(
    run: str, on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by(run, "b", time.time() + 1e6)
    assert acquire(run, wait=False) is None
    monkeypatch.setattr(lease, "STALE", 0.1)
    assert acquire(run, wait=True)


def test_exclusive_creation_is_found_out_by_trying(run: str, on: Callable[[str], None]) -> None:
    lease._exclusive.clear()
    assert lease._refuses_twice(run) is (not run.startswith("loose"))
    fs, at = opened(run.rpartition("/")[0])
    assert fs.find(at) == []
