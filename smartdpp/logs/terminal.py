"""What the terminal shows: one line per stage, the plan, and the closing table.

Nothing that is only shown can end a run: what the terminal's encoding lacks is written as its number, and
where nobody reads any more (``| head``, a terminal that was closed) the run goes on in silence; its files
tell what it said. No secret is shown.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import select
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from smartdpp.logs.redact import redact

log = logging.getLogger("smartdpp")


class Lasting(io.FileIO):
    """A descriptor that goes on as /dev/null once it cannot be written, for this process and those it
    starts."""

    def write(self, data: Any) -> int:
        try:
            # a full pipe whose reader has set it not to block
            while (written := super().write(data)) is None:
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            # a full disk, say
            if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF) and self.fileno() == 1:
                print(
                    f"warning: standard output cannot be written ({error.strerror}); the run goes on without",
                    file=sys.stderr,
                )
            return memoryview(data).nbytes


class Stream(io.TextIOWrapper):
    """Standard output or error without secrets."""

    def write(self, text: str) -> int:
        super().write(redact(text))
        if self.write_through:  # as Python's own, where PYTHONUNBUFFERED is set: there is a buffer below
            self.flush()
        return len(text)


def streams() -> None:
    """Standard output and error as described above. Idempotent; leaves what a test or a notebook has put in
    their place."""
    # closed ones are opened: the next file would become standard output
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(spare)
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        number = 1 if name == "stdout" else 2
        if stream is None:  # it was closed when Python started
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        elif stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue
        with suppress(OSError):
            stream.flush()
        lasting: Any = io.BufferedWriter(Lasting(number, "wb", closefd=False))
        through = stream.write_through or name == "stderr"
        setattr(
            sys,
            name,
            Stream(
                lasting,
                stream.encoding,
                "backslashreplace",
                line_buffering=stream.line_buffering,
                write_through=through,
            ),
        )


def start() -> None:
    """Our own messages on standard output, libraries' chatter off; their warnings still reach run.log.
    Idempotent."""
    streams()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module=r"transformers|trl|peft|torch|lm_eval|datasets"
    )
    logging.captureWarnings(True)
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(Short())
        log.addHandler(handler)
        log.setLevel(logging.INFO)


class Redacted(logging.Formatter):
    """Whatever is logged, without the secrets of the environment."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class Short(Redacted):
    """The message alone; a warning says that it is one."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"warning: {text}" if record.levelno >= logging.WARNING else text


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Everything logged meanwhile, by libraries too, goes to this file with its time."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(Redacted("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    except BaseException as error:
        log.debug("stopped by %s", type(error).__name__, exc_info=True)
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
