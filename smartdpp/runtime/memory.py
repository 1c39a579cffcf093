"""What statements of peak memory share: how far a process will rise above what it holds when a stage begins,
told before it runs.

Only numbers come in here: what grows with them is stated by the component, or the room, that holds it, in a
method or function ``memory`` that gives bytes. LIBRARIES stands for what a stage may have to import first.
"About" is meant: a statement should be reached, and not exceeded.
"""

from __future__ import annotations

from dataclasses import dataclass

LIBRARIES = 2**29  # torch, transformers, numba, scikit-learn: whatever of them was not imported before
BLOCKS = 2**27  # of temporary rows, in several threads
COPY = 2**28  # a normalised copy of the features is no larger
PACKED = 2  # weights, and on processors a copy of them as products without weight gradients want it
# what the allocator holds of a backward pass's buffers, over what is in use: measured at 100 to 300 tokens
SPARE = 1.1


@dataclass(frozen=True)
class Need:
    """Bytes above the stage's start, at its peak; ``where`` it is ``memory`` or ``GPU memory``."""

    bytes: float
    where: str = "memory"

    def __str__(self) -> str:
        return f"about {self.bytes / 2**30:,.1f} GiB of {self.where}"

    def too_large(self) -> str | None:
        """A sentence if this machine has not so much."""
        import psutil

        there, what = psutil.virtual_memory().total, "memory"
        if self.where.startswith("GPU"):
            import torch

            there, what = torch.cuda.get_device_properties(0).total_memory, "GPU memory"
        if self.bytes <= there:
            return None
        return (
            f"needs {self} above what it starts with, and this machine has {there / 2**30:,.1f} GiB of "
            f"{what}: the system may end it"
        )


def features(n: int, d: int) -> float:
    """Rows read from the disk's map, a copy in the order of their ids, normalised copies where they are
    moderate, numbers of each row."""
    return 2 * n * d * 4 + sum(n * d * wide for wide in (4, 8) if n * d * wide <= COPY) + 256 * n


def selection(n: int, d: int) -> float:
    """Of n rows, by what keeps neither a kernel nor a factor and reads the features."""
    return features(n, d) + min(BLOCKS, 40 * n * d)


def vectors(n: int, d: int, text: float) -> float:
    """What n vectors take that are made of so many bytes of text."""
    return 2 * text + 300 * n + n * d * 4
