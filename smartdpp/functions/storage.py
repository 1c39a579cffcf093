"""Room for what a selection keeps: on the device, in memory, or on the disk, where it is taken before it is
written to."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.errors import InputError

if TYPE_CHECKING:
    import torch

FREE_SHARE = 0.5  # of the host's free memory that one array may take
ZEROS = 2**20  # bytes at a time


def storage(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[rows, columns], unset: on the device, or in an unnamed temporary file where memory is too small."""
    import torch

    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device.type != "cpu" or dtype.itemsize * rows * columns <= FREE_SHARE * free:
        return torch.empty((rows, columns), dtype=dtype, device=device)
    with tempfile.TemporaryFile() as file:  # the mapping outlives the handle
        try:
            reserve(file.fileno(), dtype.itemsize * rows * columns)
        except OSError as error:
            raise InputError(
                f"this selection needs {dtype.itemsize * rows * columns / 2**30:.1f} GiB, more than memory "
                "has free, and "
                f"{tempfile.gettempdir()} has no room for it ({error.strerror}): free space, or set TMPDIR "
                "to a folder on a larger disk"
            ) from error
        kind = np.float32 if dtype == torch.float32 else np.float64
        return torch.from_numpy(np.memmap(file, dtype=kind, mode="w+", shape=(rows, columns)))


def reserve(descriptor: int, size: int) -> None:
    """Room for a file's first ``size`` bytes. OSError where there is none: a map into a hole of a full disk
    would end the process."""
    if size <= 0:
        return
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV):
                raise
    at, step = os.fstat(descriptor).st_size, mmap.ALLOCATIONGRANULARITY
    for start in range(0, at, step):  # what is there may be a hole
        os.pwrite(descriptor, os.pread(descriptor, min(step, at - start), start), start)
    zeros = bytes(ZEROS)
    while at < size:
        at += os.pwrite(descriptor, zeros[: size - at], at)
