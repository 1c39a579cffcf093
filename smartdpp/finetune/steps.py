"""Which rows of an optimiser step each process trains on: the rows and the order of one process, none twice,
whatever divides what.

A step's rows, the next ``batch_size`` of the epoch's order (fewer in its last step), are cut into
micro-batches, which go to the processes in turn. All processes must make equally many passes, as they wait
for each other in each: one that is left without rows is given none, which its trainer fills with a row that
has no labels and so no part in the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Deal:
    """``micro_batch_size`` is the most rows of one pass; fewer where all the processes can have some of a
    step only so."""

    batch_size: int
    micro_batch_size: int
    processes: int

    def passes(self, rows: int) -> int:
        """How many micro-batches every process makes of a step of so many rows."""
        return math.ceil(rows / (self._size(rows) * self.processes))

    def __call__(self, order: Sequence[int], rank: int) -> Iterator[list[int]]:
        """Process ``rank``'s micro-batches of an epoch, ``passes`` for each of its steps."""
        for start in range(0, len(order), self.batch_size):
            step = list(order[start : start + self.batch_size])
            size = self._size(len(step))
            for turn in range(self.passes(len(step))):
                first = (turn * self.processes + rank) * size
                yield step[first : first + size]

    def length(self, rows: int) -> int:
        """How many micro-batches every process makes of an epoch."""
        steps, rest = divmod(rows, self.batch_size)
        return steps * self.passes(self.batch_size) + (self.passes(rest) if rest else 0)

    def _size(self, rows: int) -> int:
        return min(self.micro_batch_size, math.ceil(rows / self.processes))


def order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int, *, grouped: bool) -> list[int]:
    """Every row once, in the order of an epoch: drawn from the seed and the epoch alone, so it can be had
    again in any process.

    ``grouped``: rows of similar length share a batch, as transformers groups them, and whole batches come in
    random order; as they leave the grouping, batches run from long to short. The rows that fill no batch are
    drawn from all and come last, as steps are cut.
    """
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    # seed + epoch would give seed 1 the second epoch of seed 0
    (state,) = np.random.SeedSequence([seed, epoch]).generate_state(1)
    generator = torch.Generator().manual_seed(int(state))
    drawn = torch.randperm(len(lengths), generator=generator).tolist()
    full = len(drawn) // batch_size * batch_size
    if not grouped or not full:
        return drawn
    whole = drawn[:full]
    near = get_length_grouped_indices([lengths[i] for i in whole], batch_size, generator=generator)
    turns = torch.randperm(full // batch_size, generator=generator).tolist()
    return [whole[i] for turn in turns for i in near[turn * batch_size : (turn + 1) * batch_size]] + drawn[
        full:
    ]


def peak_share(scheduler: str, warmup: float, steps: int, t: int) -> float:
    """The learning rate of step t (from 0) of ``steps``, as a share of the recipe's: above 0 in every step,
    also the first and the last.

    The first w = round(warmup * steps) steps rise evenly, (t + 1)/(w + 1). The other m = steps - w begin at
    1: step i of them has 1 (constant), 1 - i/m (linear) or (1 + cos(pi i/m))/2 (cosine), which would be 0 in
    the step after the last.
    """
    w = round(warmup * steps)
    if t < w:
        return (t + 1) / (w + 1)
    done = min(1.0, (t - w) / max(1, steps - w))
    return {"constant": 1.0, "linear": 1.0 - done, "cosine": (1.0 + math.cos(math.pi * done)) / 2.0}[
        scheduler
    ]


def loader(dataset: Any, drawn: Callable[[int], list[int]], deal: Deal, rank: int, collate: Any) -> Any:
    """What process ``rank``'s trainer iterates over: an accelerate data loader over ``dataset`` (n rows) in
    the order ``drawn(epoch)``.

    ``collate`` gets the rows of a micro-batch, none where there are none left.
    """
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import BatchSampler, DataLoader, Sampler

    class Drawn(Sampler[int]):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[int]:
            return iter(drawn(self.epoch))

        def __len__(self) -> int:
            return len(dataset)

    class Dealt(BatchSampler):
        """The attributes are those that accelerate looks for: it sets ``sampler``, and would take n %
        batch_size rows for padding."""

        batch_size, drop_last = 1, False

        def __init__(self) -> None:
            self.sampler = Drawn()

        def __iter__(self) -> Iterator[list[int]]:
            yield from deal(list(self.sampler), rank)

        def __len__(self) -> int:
            return deal.length(len(dataset))

    whole = DataLoader(dataset, batch_sampler=Dealt(), collate_fn=collate)
    # as for one process: the rows are dealt out already
    return prepare_data_loader(whole, num_processes=1, process_index=0)
