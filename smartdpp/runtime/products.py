"""A model's float32 products by the faster of torch's two libraries, where both give float32's numbers.

torch asks MKL, which on AMD's processors leaves the widest instructions unused. oneDNN, which torch has as
well, uses them: twice the products a second on a Zen 5. torch takes it for float32 numbers where it is told
that bfloat16's precision would do ("medium"), and what oneDNN makes of that is up to the processor: those
with tiles for bfloat16 round to it, all others multiply float32. So a product is looked at first.

Only while a model works: what is chosen from its numbers is computed by one library wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

ROUNDING = 1e-5  # of float32's products, relative to the largest; bfloat16's have 1e-3


@contextmanager
def quick_products() -> Iterator[None]:
    """As a decorator too. Who has set torch's precision has decided: that holds."""
    import torch

    if torch.get_float32_matmul_precision() != "highest" or not _by_onednn():
        yield
        return
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@cache
def _by_onednn() -> bool:
    """Whether this is a processor of AMD's, no GPU is used, and "medium" still gives float32's numbers."""
    import torch
    from llvmlite.binding import get_host_cpu_name

    if torch.cuda.is_available() or not get_host_cpu_name().startswith("znver"):
        return False
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(128, 128, generator=generator) for _ in range(2))
    torch.set_float32_matmul_precision("medium")
    found = x @ y
    torch.set_float32_matmul_precision("highest")
    exact = x.double() @ y.double()
    return bool((found - exact).abs().max() <= ROUNDING * exact.abs().max())
