"""Where independent pieces of work are done: in this process, or over the machines of a Ray cluster.

A runtime is how a run is run, not what it is: results are the same bytes under every one of them, and it
enters no identity. The pipeline says which one is in use; whoever has pieces of work asks for it here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from smartdpp.runtime.local import Local
from smartdpp.types import Runtime

_current: ContextVar[Runtime] = ContextVar("runtime", default=Local())  # noqa: B039  # frozen


def current() -> Runtime:
    """The runtime in use here; without any said, this process."""
    return _current.get()


@contextmanager
def using(runtime: Runtime) -> Iterator[None]:
    token = _current.set(runtime)
    try:
        yield
    finally:
        _current.reset(token)
