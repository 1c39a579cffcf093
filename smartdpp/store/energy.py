"""Energy of the GPUs that this process may use, from the counters that NVIDIA's driver keeps (Volta and
newer).

A counter belongs to the whole device: what another process draws on it meanwhile is in the number.
"""

from __future__ import annotations

import os
from importlib.util import find_spec


def gpu_watt_hours() -> float | None:
    """Watt hours that the visible GPUs have drawn since their driver was loaded; None where none, or no
    counter, can be read.

    Needs the package nvidia-ml-py (the extra ``gpu``). Devices are those of CUDA_VISIBLE_DEVICES, all without
    it.
    """
    if not find_spec("pynvml"):
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver
        return None
    try:
        millijoules = [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in _visible(pynvml)]
    except pynvml.NVMLError:  # an older device, or one that keeps it to itself
        return None
    finally:
        pynvml.nvmlShutdown()
    return sum(millijoules) / 3.6e6 if millijoules else None


def _visible(pynvml):  # type: ignore[no-untyped-def]  # a module without types
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    by_index, by_uuid = pynvml.nvmlDeviceGetHandleByIndex, pynvml.nvmlDeviceGetHandleByUUID
    return [
        by_index(int(name)) if name.isdigit() else by_uuid(name)
        for name in (part.strip() for part in names.split(","))
        if name
    ]
