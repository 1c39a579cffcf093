"""One module in several processes at once: `accelerate launch` over GPUs, `torchrun` over processors.

What the processes work on is handed over as a folder. A component crosses as the configuration that makes it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from smartdpp.errors import InputError
from smartdpp.store import write_text

REFUSED = "refused.txt"  # a process's InputError, on its way to the process that launched it


def launch(module: str, out: Path, processes: int) -> None:
    """Runs `python -m module out` in that many processes and waits. InputError if one of them refused its input."""
    from smartdpp.device import device

    if device() == "cuda":
        launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launcher += ["--num_processes", str(processes)]
    else:  # accelerate's launcher for processors wants MPI; torchrun, which it wraps on GPUs, needs nothing
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    done = subprocess.run([sys.executable, "-m", *launcher, "-m", module, str(out)], env={"OMP_NUM_THREADS": threads, **os.environ})
    refused = out / REFUSED
    if refused.is_file():
        reason = refused.read_text(encoding="utf-8")
        refused.unlink()
        raise InputError(reason)
    if done.returncode:
        raise RuntimeError(f"{module} in {processes} processes ended with exit status {done.returncode}; its output stands above")


@contextmanager
def refusals(out: Path) -> Iterator[None]:
    """In a launched process: an InputError is one sentence there as here."""
    try:
        yield
    except InputError as error:
        write_text(out / REFUSED, str(error))
        raise SystemExit(1) from None


def as_config(component: Any) -> dict[str, Any]:
    """A frozen dataclass, with those inside it, as the dictionary that ``hydra.utils.instantiate`` makes it from."""
    values = {field.name: getattr(component, field.name) for field in fields(component)}
    parameters = {name: as_config(value) if is_dataclass(value) else value for name, value in values.items()}
    return {"_target_": f"{type(component).__module__}.{type(component).__qualname__}"} | parameters


def rank() -> int:
    """This process's number among the launched ones; chooses its GPU, where there are any."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return int(os.environ["RANK"])
