"""Which rows of an optimiser step each process trains on: the rows and the order of one process, none twice, whatever divides what.

A step's rows, the next ``batch_size`` of the epoch's order (fewer in its last step), are cut into micro-batches, which go to the processes
in turn. All processes must make equally many passes, as they wait for each other in each: one that is left without rows is given none,
which its trainer fills with a row that has no labels and so no part in the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Deal:
    """``micro_batch_size`` is the most rows of one pass; fewer where all the processes can have some of a step only so."""

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


def by_length(lengths: Sequence[int], batch_size: int, seed: int) -> Any:
    """transformers' order of rows with those of similar length together. It can be had again from the middle of a later epoch."""
    import torch
    from transformers.trainer_pt_utils import LengthGroupedSampler

    class ByLength(LengthGroupedSampler):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[int]:
            # the first epoch draws from the global generator, which is then as the training's seed has left it, also after a kill
            self.generator = torch.Generator().manual_seed(seed + self.epoch) if self.epoch else None
            return super().__iter__()

    return ByLength(batch_size, lengths=list(lengths))


def loader(dataset: Any, order: Any, deal: Deal, rank: int, collate: Any, seed: int) -> Any:
    """What process ``rank``'s trainer iterates over: an accelerate data loader over ``dataset`` (n rows) in the sampler's ``order``.

    ``collate`` gets the rows of a micro-batch, none where there are none left. A `RandomSampler` is seeded with ``seed`` and the epoch.
    """
    from accelerate.data_loader import prepare_data_loader
    from accelerate.utils import broadcast_object_list
    from torch.utils.data import BatchSampler, DataLoader

    class Dealt(BatchSampler):
        """The attributes are those that accelerate looks for: it sets ``sampler``, and would take n % batch_size rows for padding."""

        batch_size, drop_last = 1, False

        def __init__(self) -> None:
            self.sampler = order

        def __iter__(self) -> Iterator[list[int]]:
            rows = list(self.sampler)
            if deal.processes > 1:  # their generators may differ by now: dropout draws as many numbers as a process has tokens
                (rows,) = broadcast_object_list([rows])
            yield from deal(rows, rank)

        def __len__(self) -> int:
            return deal.length(len(dataset))

    whole = DataLoader(dataset, batch_sampler=Dealt(), collate_fn=collate)
    # as for one process: the rows are dealt out already
    return prepare_data_loader(whole, num_processes=1, process_index=0, use_seedable_sampler=True, data_seed=seed)
