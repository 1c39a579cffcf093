"""One module in several processes at once: `accelerate launch` over GPUs, `torchrun` over processors.

What the processes work on is handed over as a folder. A component crosses as the configuration that makes it
again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from smartdpp.errors import Diverged, InputError, NotFinite
from smartdpp.logs.terminal import streams
from smartdpp.runtime import threads
from smartdpp.runtime.device import device
from smartdpp.runtime.gpus import visible
from smartdpp.store.disk import read_json, write_json
from smartdpp.store.place import LAUNCHED_BY

REFUSED = "refused.json"  # a process's InputError, on its way to the process that launched it
LOOK = 1.0  # seconds between looks at whether that process lives


# what this process was started with: training in it sets some of these itself
STARTED_WITH = dict(os.environ)
SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # all that accelerate reads
# torchrun's and accelerate's own, also for one process
MARKS = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")


def refuse_other_launchers(environment: Mapping[str, str] | None = None) -> None:
    """InputError if a launcher has started this process as one of several, each of which would do the whole
    run or wait for the others.

    WORLD_SIZE=1 and RANK=0 alone are harmless, and so is what Slurm sets: no library here reads it.
    LOCAL_RANK makes accelerate wait for others even where it is 0, and `accelerate launch` hands over a
    precision that is not the recipe's.
    """
    environment = STARTED_WITH if environment is None else environment
    found = {
        name: environment[name].strip()
        for name in (*SIZES, "RANK", "LOCAL_RANK", *MARKS)
        if name in environment
    }
    harmless = dict.fromkeys(SIZES, ("", "1")) | {"RANK": ("", "0"), "LOCAL_RANK": ("", "-1")}
    if all(value in harmless.get(name, ()) for name, value in found.items()):
        return
    several = next(
        (found[name] for name in SIZES if found.get(name, "1").isdecimal() and found.get(name, "1") != "1"),
        "N",
    )
    raise InputError(
        f"{', '.join(f'{name}={value}' for name, value in found.items())} in the environment: torchrun, "
        "accelerate launch or mpirun would "
        "make every process do the whole run; start it without them, as python run.py ... "
        f"recipe.processes={several}, which launches its "
        f"own (where that is left over from something else: unset {' '.join(found)})"
    )


def too_many(group: str, processes: int) -> list[str]:
    """A problem if there are GPUs, but not one for each process."""
    if processes == 1 or (gpus := len(visible()) or processes) >= processes:
        return []
    return [
        f"{group}.processes={processes}: each process has a GPU of its own, and {gpus} are visible here: "
        f"choose at most {gpus}"
    ]


def launch(module: str, out: Path, processes: int) -> None:
    """Runs `python -m module out` in that many processes and waits. InputError if one of them refused its
    input."""
    if device() == "cuda":
        launcher = [
            "accelerate.commands.launch",
            "--multi_gpu",
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
        ]
        launcher += ["--num_processes", str(processes)]
    else:  # accelerate's launcher for processors wants MPI; torchrun, which it wraps on GPUs, needs nothing
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    env = {**os.environ, LAUNCHED_BY: str(os.getpid())}
    if not threads.DECIDED:
        env["OMP_NUM_THREADS"] = str(max(1, threads.share() // processes))
    refused = out / REFUSED
    refused.unlink(missing_ok=True)  # of processes whose launcher was killed before it had read it
    done = subprocess.run([sys.executable, "-m", *launcher, "-m", module, str(out)], env=env)
    if refused.is_file():
        found = read_json(refused)
        refused.unlink()
        raise {kind.__name__: kind for kind in (InputError, NotFinite, Diverged)}.get(
            found["kind"], InputError
        )(found["said"])
    if done.returncode:
        raise RuntimeError(
            f"{module} in {processes} processes ended with exit status {done.returncode}; its output stands "
            "above"
        )


@contextmanager
def refusals(out: Path) -> Iterator[None]:
    """In a launched process: an InputError is one sentence there as here, and no work goes on once the
    process that launched it is gone."""
    streams()
    threading.Thread(target=_follow, args=(int(os.environ[LAUNCHED_BY]),), daemon=True).start()
    try:
        yield
    except InputError as error:
        write_json(out / REFUSED, {"kind": type(error).__name__, "said": str(error)})
        raise SystemExit(1) from None


def _follow(pid: int) -> None:
    """Ends this process after that one: killed, it cannot end those it launched, and the same command given
    again would meet them."""
    import psutil

    try:
        launcher = psutil.Process(pid)
        while launcher.is_running() and launcher.status() != psutil.STATUS_ZOMBIE:
            time.sleep(LOOK)
    except psutil.NoSuchProcess:
        pass
    os._exit(1)


def as_config(component: Any) -> dict[str, Any]:
    """A frozen dataclass, with those inside it, as the dictionary that ``hydra.utils.instantiate`` makes it
    from."""
    values = {field.name: getattr(component, field.name) for field in fields(component)}
    parameters = {name: as_config(value) if is_dataclass(value) else value for name, value in values.items()}
    return {"_target_": f"{type(component).__module__}.{type(component).__qualname__}"} | parameters


def rank() -> int:
    """This process's number among the launched ones; chooses its GPU, where there are any."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return int(os.environ["RANK"])
