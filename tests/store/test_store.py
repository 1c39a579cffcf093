"""Artifacts are finished or redone, built once, and never seen half-written."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from smartdpp.errors import InputError
from smartdpp.store import disk, lease, locks
from smartdpp.store.artifact import Artifact, publish
from smartdpp.store.disk import digest, read_json, write_json
from smartdpp.store.locks import Busy, lock
from smartdpp.store.same import once


def artifact(root: Path, **params: object) -> Artifact:
    return Artifact(root, "stage", 1, params, {})


def test_a_finished_artifact_is_not_built_again(tmp_path: Path) -> None:
    builds = []
    one = artifact(tmp_path, x=1)
    assert one.produce(lambda out: builds.append(out) or {"n": 1}) is False
    assert one.produce(lambda out: builds.append(out) or {"n": 2}) is True
    assert len(builds) == 1
    assert one.meta()["facts"] == {"n": 1}
    assert one.meta()["seconds"] >= 0
    assert one.meta()["peak_gib"] > 0


@pytest.mark.parametrize(
    "other", [{"stage": "b"}, {"version": 2}, {"params": {"x": 2}}, {"inputs": {"a": "k"}}]
)
def test_the_key_follows_from_stage_version_parameters_and_inputs(tmp_path: Path, other: dict) -> None:
    base = {"root": tmp_path, "stage": "a", "version": 1, "params": {"x": 1}, "inputs": {}}
    assert Artifact(**base).key == Artifact(**base).key != Artifact(**(base | other)).key


def test_an_interrupted_build_keeps_what_it_left(tmp_path: Path) -> None:
    one = artifact(tmp_path)

    def interrupted(out: Path) -> dict:
        (out / "shard").write_text("done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.produce(interrupted)
    assert not one.finished
    assert not one.path.exists()
    one.produce(lambda out: {"found": (out / "shard").read_text()})
    assert one.meta()["facts"] == {"found": "done"}


def test_a_directory_without_its_last_file_is_unfinished(tmp_path: Path) -> None:
    one = artifact(tmp_path)
    partial = one.path.with_name(one.path.name + ".partial")
    partial.mkdir(parents=True)
    (partial / "half").write_text("half")
    assert not one.finished
    assert one.produce(lambda out: {}) is False


def _slow_build(path: Path, log: Path) -> None:
    def build(out: Path) -> dict:
        time.sleep(0.5)
        with log.open("a") as file:
            file.write("built\n")
        return {}

    publish(path, build)


def test_two_processes_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_slow_build, args=(tmp_path / "x", tmp_path / "log")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_lock_held_elsewhere_is_reported_at_once(tmp_path: Path) -> None:
    with lock(tmp_path / "x"), pytest.raises(Busy), lock(tmp_path / "x", wait=False):
        pass
    with lock(tmp_path / "x", wait=False):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_one_sentence(tmp_path: Path, number: int) -> None:
    def full(out: Path) -> dict:
        raise OSError(number, "as the system puts it", str(out / "file"))

    with pytest.raises(InputError, match=r"cannot write .*file: as the system puts it"):
        artifact(tmp_path).produce(full)
    assert not artifact(tmp_path).finished


def test_json_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", {"x": 1})

    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(disk.os, "fsync", no_room)
    with pytest.raises(OSError, match="full"):
        write_json(tmp_path / "a.json", {"x": 2})
    assert read_json(tmp_path / "a.json") == {"x": 1}


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan"):
        write_json(tmp_path / "a.json", {"x": float("nan")})


def test_the_digest_ignores_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})


@pytest.mark.parametrize("links", [True, False])
def test_what_is_taken_over_is_linked_or_copied(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, wanted = (Artifact(tmp_path, "adapter", 2, {"strategy": name}, {}) for name in ("a", "b"))

    def train(out: Path) -> dict[str, Any]:
        (out / "weights").write_bytes(b"trained")
        return {"spent": {"seconds": 100.0}}

    once(made, lambda: "same", train)
    (tmp_path / "store" / "adapter" / "cut").mkdir()
    (tmp_path / "store" / "adapter" / "cut" / "meta.json").write_text('{"key": ')
    if not links:

        def refused(*args: object) -> None:
            raise OSError("not on this file system")

        monkeypatch.setattr("os.link", refused)
    assert once(wanted, lambda: "same", lambda out: pytest.fail("it was done before")) is False
    assert once(wanted, lambda: pytest.fail("nothing is read of what is finished"), train) is True
    assert (wanted.path / "weights").read_bytes() == b"trained"
    assert (wanted.path / "weights").samefile(made.path / "weights") is links
    assert (wanted.meta()["facts"]["taken_from"], wanted.meta()["seconds"]) == (made.key, 100.0)


def test_whoever_waits_says_for_whom_and_since_when_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(lease, "REMIND", 0.05)
    holder = multiprocessing.get_context("fork").Process(
        target=_slow_build, args=(tmp_path / "x", tmp_path / "log")
    )
    holder.start()
    while not (tmp_path / ".x.lock").is_file() or not (tmp_path / ".x.lock").read_text():
        time.sleep(0.01)
    assert publish(tmp_path / "x", lambda out: pytest.fail("built twice")) is True
    holder.join()
    waits = [record.getMessage() for record in caplog.records if record.getMessage().startswith("waiting: ")]
    assert len(waits) >= 2
    assert f"process {holder.pid} on {socket.gethostname()}, since " in waits[0]
    assert "(0 h 0 min), is working on" in waits[0]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_filesystem_without_locks_gets_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    import fcntl

    real = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        if str(tmp_path / "there") in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        real(descriptor, how)

    for name, seconds in (("POLL", 0.01), ("SETTLE", 0.01), ("REMIND", 0.05)):
        monkeypatch.setattr(lease, name, seconds)
    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "there").mkdir()
    path = tmp_path / "there" / "x"
    # what a library leaves there that has no locks either
    (tmp_path / "there" / ".x.lock").write_text("123\nanother-host\n")
    monkeypatch.setattr(lease, "STALE", 0.1)
    assert publish(path, lambda out: {}) is False
    assert "has no locks" in caplog.text
    monkeypatch.setattr(lease, "STALE", 600)
    with lock(path):
        assert locks.busy(path)
        with pytest.raises(Busy), lock(path, wait=False):
            pass
    assert not locks.busy(path)
    claim = {
        "token": "t",
        "machine": "b",
        "host": "node7",
        "pid": 12,
        "since": time.time() - 3700,
        "beat": time.time(),
    }
    (tmp_path / "there" / ".x.lock").write_text(json.dumps(claim))
    assert locks.busy(path)
    with pytest.raises(Busy), lock(path, wait=False):
        pass
