"""A server that speaks OpenAI's protocol as badly as a test asks it to."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """Of one request: the body as it is sent, after ``wait`` seconds; ``length`` is what its header says."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    wait: float = 0.0
    length: int | None = None


def said(text: Any, **more: Any) -> Answer:
    """A proper reply."""
    message = {"role": "assistant", "content": text}
    return Answer(
        json.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": "judge",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100},
            }
        ).encode(),
        **more,
    )


def failed(status: int, message: str = "no", **headers: str) -> Answer:
    body = json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()
    return Answer(body, status, tuple((name.replace("_", "-"), value) for name, value in headers.items()))


class Served:
    """``behave(question, tries)`` answers a question's text at its so many-th try, from 0."""

    def __init__(self, behave: Callable[[str, int], Answer]) -> None:
        self.behave = behave
        self.asked: Counter[str] = Counter()  # by question
        self.answered: Counter[str] = Counter()  # those of them that got a proper reply
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.times: list[float] = []
        self.most = self.now = 0  # under way at once
        self.lock = threading.Lock()
        self.url = ""

    @property
    def calls(self) -> int:
        return self.asked.total()


@contextmanager
def serving(behave: Callable[[str, int], Answer]) -> Iterator[Served]:
    served = Served(behave)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            question = body["messages"][-1]["content"]
            with served.lock:
                served.bodies.append(body)
                served.keys.add(self.headers["Authorization"])
                served.times.append(time.monotonic())
                tries = served.asked[question]
                served.asked[question] += 1
                served.now += 1
                served.most = max(served.most, served.now)
            answer = served.behave(question, tries)
            time.sleep(answer.wait)
            with suppress(OSError):  # who waited is gone
                self.send_response(answer.status)
                for name, value in (("Content-Type", "application/json"), *answer.headers):
                    self.send_header(name, value)
                self.send_header("Content-Length", str(answer.length or len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                if answer.length:
                    self.close_connection = True
            with served.lock:
                served.now -= 1
                served.answered[question] += b'"choices": [{' in answer.body and answer.status == 200

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
