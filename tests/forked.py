"""The command line in processes of their own that find its libraries imported: each is forked from a server
that did nothing but import them, which takes a new interpreter longer than most of what is tested here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAIN = "from smartdpp.main import main\nmain()\n"
LIBRARIES = """
    datasets lm_eval.api.task pandas peft rouge_score.rouge_scorer scipy.stats sklearn.decomposition
    sklearn.feature_extraction.text smartdpp.evaluation.harness smartdpp.functions.loops smartdpp.main
    transformers.models.llama.modeling_llama trl.trainer.sft_trainer
"""
_server = get_context("forkserver")
_server.set_forkserver_preload(LIBRARIES.split())


class Forked:
    """``code`` as a program, in the checkout; what it says is read when it has ended."""

    def __init__(self, *arguments: str, code: str = MAIN, environment: Mapping[str, str] | None = None):
        self._said = [_empty_file(), _empty_file()]
        given = (code, arguments, dict(os.environ | (environment or {})), *map(str, self._said))
        self._process = _server.Process(target=_program, args=given)
        self._process.start()

    @property
    def sentinel(self) -> int:
        return self._process.sentinel

    @property
    def running(self) -> bool:
        return self._process.exitcode is None

    def kill(self) -> None:
        self._process.kill()

    def ended(self, within: float = 300) -> Forked:
        self._process.join(within)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        assert self._process.exitcode is not None
        self.returncode = self._process.exitcode
        self.stdout, self.stderr = (path.read_text(encoding="utf-8") for path in self._said)
        for path in self._said:
            path.unlink()
        return self


def anew(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line as a shell starts it, in a new interpreter."""
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )


def _empty_file() -> Path:
    handle, path = tempfile.mkstemp(prefix="said-")
    os.close(handle)
    return Path(path)


def launched(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess:
    """What torchrun does for ``smartdpp.runtime.processes.launch``: a module in several processes, of which
    each knows its number and where the others are; all end once one of them fails."""
    count, (module, out) = int(command[command.index("--nproc_per_node") + 1]), command[-2:]
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    code = f"import runpy\nrunpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
    numbers = [{"RANK": str(i), "LOCAL_RANK": str(i), "WORLD_SIZE": str(count)} for i in range(count)]
    running = [Forked(out, code=code, environment=env | place | number) for number in numbers]
    waiting = {process.sentinel: process for process in running}
    failed = 0
    while waiting:
        for sentinel in wait(list(waiting)):
            done = waiting.pop(sentinel).ended()  # type: ignore[index]
            print(done.stdout, done.stderr)
            if done.returncode and not failed:
                failed = done.returncode
                for other in waiting.values():
                    other.kill()
    return subprocess.CompletedProcess(command, failed)


def _program(code: str, arguments: tuple[str, ...], environment: dict[str, str], out: str, err: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY), stream)
    sys.argv = ["run.py", *arguments]
    exec(compile(code, "run.py", "exec"), {"__name__": "__main__"})
