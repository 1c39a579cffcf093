"""Pieces of work as tasks of a Ray cluster. Ray places them, ships their arguments and starts them again when
a worker dies.

Every machine needs the same Python packages, and must see the root, or $SMARTDPP_CACHE where the root is an
address, and a local model's folder under the same path.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, wraps
from importlib.util import find_spec
from itertools import islice
from typing import Any, TypeVar

from smartdpp.errors import InputError, Shrunk
from smartdpp.types import Ask

S = TypeVar("S")
T = TypeVar("T")
PATIENCE = 30.0  # seconds between looks at whether what is waited for can still come
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ray:
    """``cpus`` and ``gpus`` of each task; two tasks with ``gpus`` 0.5 share a GPU, one with 0 sees none.
    Threads of a task follow ``cpus``.

    ``retries`` is how often a task is started again after its worker died. ``rows_per_task``: how many rows
    one task embeds or measures, loading the model once; what it has finished when its worker dies is kept. A
    pool is chosen from in shares of at least so many rows.
    """

    address: str | None = None  # of a running cluster ("auto", "host:6379"); None starts one on this machine
    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 3
    rows_per_task: int = 16_384

    def __post_init__(self) -> None:
        if not (self.cpus >= 0 and self.gpus >= 0):
            raise InputError(
                f"runtime.cpus is {self.cpus} and runtime.gpus is {self.gpus}: neither may be below 0."
            )
        if not (self.cpus or self.gpus):
            raise InputError("runtime.cpus and runtime.gpus are both 0: a task needs one of them.")
        if self.retries < 0:
            raise InputError(f"runtime.retries is {self.retries}: it must be at least 0.")
        if self.rows_per_task < 1:
            raise InputError(f"runtime.rows_per_task is {self.rows_per_task}: it must be at least 1.")

    def check(self) -> list[str]:
        if not find_spec("ray"):
            return ["runtime=ray needs the package ray: pip install 'smartdpp[ray]'"]
        host, colon, port = (self.address or "").rpartition(":")
        if not (colon and port.isdecimal()) or "/" in host:  # none, auto, or an address that Ray reads itself
            return []
        try:  # Ray would go on trying for a quarter of an hour
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError as error:
            return [
                f"runtime.address={self.address}: no Ray cluster answers there ({error}): start one or "
                "correct it"
            ]
        return []

    def map(
        self,
        work: Callable[..., T],
        arguments: Callable[[int], tuple[Any, ...]],
        sizes: Sequence[int],
        what: str,
    ) -> list[T]:
        import ray
        from tqdm import tqdm

        results: list[Any] = [None] * len(sizes)
        with self.connected():
            task = ray.remote(work if self.gpus else on_processor(work)).options(
                num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries
            )
            room = self.slots() + 2  # tasks whose arguments are made: those at work and the next ones
            order = iter(sorted(range(len(sizes)), key=lambda i: -sizes[i]))
            pending: dict[Any, int] = {}
            with tqdm(total=sum(sizes), desc=what, unit="row", unit_scale=True) as bar:
                while True:
                    pending |= {task.remote(*arguments(i)): i for i in islice(order, room - len(pending))}
                    if not pending:
                        return results
                    for done in ray.wait(list(pending))[0]:
                        i = pending.pop(done)
                        (results[i],) = answers([done])
                        bar.update(sizes[i])

    def slots(self) -> int:
        """How many tasks the connected cluster runs at once. All that a task asks for is of one machine, a
        part of a GPU of one GPU."""
        import ray

        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        slots = sum(self._fit(machine.get("CPU", 0.0), int(machine.get("GPU", 0))) for machine in machines)
        if not slots:
            cpus, gpus = (
                max((machine.get(kind, 0.0) for machine in machines), default=0.0) for kind in ("CPU", "GPU")
            )
            raise InputError(
                f"a task asks for {self.cpus:g} CPUs and {self.gpus:g} GPUs, and no machine of the Ray "
                "cluster has both "
                f"(at most {cpus:g} and {gpus:g}): lower runtime.cpus or runtime.gpus, or add machines."
            )
        return slots

    def _fit(self, cpus: float, gpus: int) -> int:
        """Tasks that a machine of so many has room for."""
        room = [int(cpus / self.cpus + 1e-9)] if self.cpus else []
        if self.gpus:
            room.append(int(gpus / self.gpus + 1e-9) if self.gpus >= 1 else gpus * int(1 / self.gpus + 1e-9))
        return min(room)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connects this process, unless it is already; a cluster that was started here ends with the
        process."""
        import ray

        if not ray.is_initialized():
            try:
                ray.init(
                    address=self.address or "local",
                    log_to_driver=False,
                    include_dashboard=None if self.address else False,
                )
            except (ConnectionError, ValueError) as error:
                raise InputError(
                    f"runtime.address={self.address}: no Ray cluster answers there ({error})."
                ) from None
        yield

    def parts(self, n: int) -> int:
        with self.connected():
            return max(1, min(self.slots(), n // self.rows_per_task))

    @contextmanager
    def shares(self, makes: Sequence[Callable[[], S]]) -> Iterator[Ask[S]]:
        """Shares of a pool, each made and kept by a process of its own.

        A process that dies is started again, makes its share anew and answers the question it died of. Room
        is had for all shares or for none, so that of two runs on one cluster the second waits for the first;
        what others hold is waited for too, and told. Raises Shrunk when a machine is gone for good.
        """
        import ray
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        with self.connected():
            bundle = {kind: count for kind, count in (("CPU", self.cpus), ("GPU", self.gpus)) if count}
            room = placement_group([bundle] * len(makes), strategy="SPREAD")
            actors: list[Any] = []

            def refuse_if_shrunk() -> None:
                if (slots := self.slots()) < len(makes):
                    raise Shrunk(f"the cluster has room for {slots} of {len(makes)} shares")

            def ask(question: Callable[[S], T], which: Sequence[int] | None = None) -> list[T]:
                pending = [
                    actors[i].ask.remote(question) for i in (range(len(actors)) if which is None else which)
                ]
                while pending and len(ray.wait(pending, num_returns=len(pending), timeout=PATIENCE)[0]) < len(
                    pending
                ):
                    refuse_if_shrunk()
                return answers(pending)

            try:
                while not room.wait(PATIENCE):
                    log.info("waiting for room for %d shares of the pool on the cluster", len(makes))
                    refuse_if_shrunk()
                kept = ray.remote(
                    num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=self.retries, max_task_retries=-1
                )(Kept)
                # for those that start again
                kept_makes = [ray.put(make if self.gpus else on_processor(make)) for make in makes]
                for i, make in enumerate(kept_makes):
                    place = PlacementGroupSchedulingStrategy(room, placement_group_bundle_index=i)
                    actors.append(kept.options(scheduling_strategy=place).remote(make))
                yield ask
            finally:
                for actor in actors:
                    ray.kill(actor)
                remove_placement_group(room)


class Kept:
    """A share in a process of its own."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    @cached_property
    def share(self) -> Any:
        """Made for the first question, which a refusal then answers."""
        return self.make()

    def ask(self, question: Callable[[Any], T]) -> T:
        return question(self.share)


def on_processor(work: Callable[..., T]) -> Callable[..., T]:
    """The same where no GPU is seen: Ray shows one that asked for none all that the machine has."""

    @wraps(work)
    def working(*arguments: Any) -> T:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return work(*arguments)

    return working


def answers(pending: list[Any]) -> list[Any]:
    """What these tasks return. An InputError of one of them is raised as it was there."""
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(pending)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
