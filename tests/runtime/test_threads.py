"""Processes that work at once share the machine's cores: each counts those that hold a lock, and nobody
counts the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smartdpp.runtime import threads
from smartdpp.runtime.threads import Sharing, cores, settle, working

OTHER = (
    "import time\nfrom smartdpp.runtime import threads\nthreads.working(lambda: (print('works', "
    "flush=True), time.sleep(600)))"
)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of four cores, with nobody else on it, and nobody's wish for threads."""
    import torch

    monkeypatch.setattr(threads, "DECIDED", False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr(threads, "_folder", lambda: tmp_path)
    monkeypatch.setattr(Sharing, "threads", None)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started = []

    def start() -> subprocess.Popen[str]:
        code = (
            "from pathlib import Path\nfrom smartdpp.runtime import threads\nthreads._folder = lambda: "
            f"Path({str(tmp_path)!r})\n{OTHER}"
        )
        env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def taken() -> int:
    import torch

    return torch.get_num_threads()


def test_one_process_has_all_cores_and_two_have_half_each(other: Callable[[], subprocess.Popen[str]]) -> None:
    assert working(taken) == 4
    other()
    assert working(taken) == 2


def test_long_work_takes_its_share_anew_when_others_come_and_go(
    other: Callable[[], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LOOK", 0.0)

    def steps() -> list[int]:
        found = [taken()]
        others = [other(), other()]
        settle()
        found.append(taken())
        for process in others:
            process.send_signal(signal.SIGKILL)
            process.wait()
        settle()
        return [*found, taken()]

    alone, among_three, again = steps_of = working(steps)
    assert (alone, again) == (4, 4), steps_of
    assert among_three in (1, 2)  # of four cores one of the three has two


def test_a_look_costs_nothing_between_looks_and_outside_of_work(
    other: Callable[[], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    monkeypatch.setattr(threads, "_working", lambda: looks.append(1) or [])
    settle()
    assert looks == []
    working(lambda: [settle() for _ in range(100)])
    assert looks == [1]


def test_what_the_work_is_the_first_to_import_takes_its_share_too(
    other: Callable[[], subprocess.Popen[str]],
) -> None:
    def read_at_import() -> str:
        return os.environ["OMP_NUM_THREADS"]

    assert working(read_at_import) == "4"
    other()
    assert working(read_at_import) == "2"
    assert "OMP_NUM_THREADS" not in os.environ  # it would decide for what this process starts


def test_who_has_set_the_threads_has_decided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(threads, "DECIDED", True)
    before = taken()
    assert working(taken) == before
    assert list(tmp_path.iterdir()) == []


def test_work_that_fails_is_not_counted_any_more(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        working(lambda: 1 / 0)
    assert list(tmp_path.glob("*.lock")) == []


def test_the_cores_are_those_that_the_process_may_use() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
