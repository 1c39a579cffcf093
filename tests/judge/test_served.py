"""A judge behind a real server: transformers' own, with the tiny model."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from smartdpp.judge import Endpoint
from smartdpp.models import Tiny
from smartdpp.types import Question

pytestmark = pytest.mark.skipif(
    find_spec("fastapi") is None or find_spec("uvicorn") is None,
    reason="transformers[serving] is not installed",
)


@pytest.fixture
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", "--host", "127.0.0.1"]
    server = subprocess.Popen([*command, "--port", str(port), "--device", "cpu", str(Tiny().path())])
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def test_it_answers_and_is_not_asked_twice(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(Tiny().path())
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path))
    judge = Endpoint(address, path, reply_tokens=4, pattern="(?s)(A|B|.)")
    questions = [Question(f"Say {i}", "one", "another") for i in range(3)]
    first, again = judge.prepare(), judge.prepare()
    found = first(questions)
    assert all(len(verdict.replies) == 2 for verdict in found)
    assert (first.spent.calls, first.spent.kept) == (6, 0)
    assert first.spent.tokens > 6 * 100
    assert again(questions) == found
    assert (again.spent.calls, again.spent.kept) == (0, 6)
