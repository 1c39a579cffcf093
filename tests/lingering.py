"""What tests.runtime.test_launch launches: leaves its process's number and does not end by itself."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from smartdpp.runtime.processes import launch, refusals

if __name__ == "__main__":
    out = Path(sys.argv[1])
    if "RANK" not in os.environ:
        launch("tests.lingering", out, 2)
    with refusals(out):
        (out / f"{os.getpid()}.pid").touch()
        time.sleep(600)
