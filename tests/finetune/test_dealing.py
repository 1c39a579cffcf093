"""Rows are dealt out so that every step has the rows that one process would take, whatever divides what."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import trainer_pt_utils
from transformers.trainer_pt_utils import get_length_grouped_indices

from smartdpp.finetune.steps import Deal, order

COUNT = st.integers(1, 12)


@given(st.integers(1, 60), COUNT, COUNT, COUNT)
def test_every_step_has_its_rows_once_and_every_process_as_many_passes(
    rows: int, batch_size: int, micro_batch_size: int, processes: int
) -> None:
    deal = Deal(batch_size, micro_batch_size, processes)
    order = list(range(100, 100 + rows))
    dealt = [list(deal(order, rank)) for rank in range(processes)]
    assert {len(batches) for batches in dealt} == {deal.length(rows)}
    assert max(len(batch) for batches in dealt for batch in batches) <= micro_batch_size
    for start in range(0, rows, batch_size):
        passes = deal.passes(min(batch_size, rows - start))
        assert passes <= deal.passes(batch_size)
        done = start // batch_size * deal.passes(batch_size)
        turns = zip(*(batches[done : done + passes] for batches in dealt), strict=True)
        assert [row for turn in turns for batch in turn for row in batch] == order[start : start + batch_size]


@given(st.integers(1, 60), COUNT, st.integers(1, 4))
def test_one_process_takes_plain_micro_batches(rows: int, micro_batch_size: int, accumulated: int) -> None:
    order = list(range(rows))
    dealt = list(Deal(micro_batch_size * accumulated, micro_batch_size, 1)(order, 0))
    assert dealt == [order[i : i + micro_batch_size] for i in range(0, rows, micro_batch_size)]


def test_a_micro_batch_is_split_before_a_process_stays_idle() -> None:
    assert [list(Deal(8, 8, 2)(range(8), rank)) for rank in range(2)] == [[[0, 1, 2, 3]], [[4, 5, 6, 7]]]


@given(st.integers(1, 60), COUNT, st.booleans(), st.integers(0, 2**40))
def test_an_epoch_has_every_row_once_and_can_be_had_again(
    rows: int, batch_size: int, grouped: bool, seed: int
) -> None:
    lengths = [random.Random(i).randint(1, 99) for i in range(rows)]
    drawn = order(lengths, batch_size, seed, 3, grouped=grouped)
    assert sorted(drawn) == list(range(rows))
    assert drawn == order(lengths, batch_size, seed, 3, grouped=grouped)


def batches(drawn: list[int], size: int) -> list[list[int]]:
    return [drawn[i : i + size] for i in range(0, len(drawn), size)]


def test_batches_of_similar_length_come_in_an_order_of_the_seeds_own() -> None:
    lengths, size = [i * 7919 % 1009 for i in range(60)], 4

    def padding(drawn: list[int]) -> int:
        return sum(
            max(lengths[i] for i in batch) * size - sum(lengths[i] for i in batch)
            for batch in batches(drawn, size)
        )

    made = [order(lengths, size, seed, 0, grouped=True) for seed in range(20)]
    longest = [[max(lengths[i] for i in batch) for batch in batches(drawn, size)] for drawn in made]
    assert len({tops.index(max(tops)) for tops in longest}) > 5, (
        "as the rows are grouped, the longest batch is always the first"
    )
    down = [sum(a > b for a, b in pairwise(tops)) for tops in longest]
    assert 5 < sum(down) / len(down) < 8, (
        "half of the 14 turns go down, where the groups alone go down in ten or more"
    )
    assert len(set(map(tuple, made))) == 20
    assert order(lengths, size, 0, 1, grouped=True) != made[1], (
        "a seed's second epoch is not the next seed's first"
    )
    assert sum(map(padding, made)) < 0.5 * sum(
        padding(order(lengths, size, seed, 0, grouped=False)) for seed in range(20)
    )


def test_the_batches_are_those_of_the_grouping(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, size, grouped = [i * 7919 % 1009 for i in range(60)], 4, []  # no length twice

    def kept(some: list[int], batch_size: int, generator: object) -> list[int]:
        near = get_length_grouped_indices(some, batch_size, generator=generator)
        grouped.extend(frozenset(some[i] for i in batch) for batch in batches(near, size))
        return near

    monkeypatch.setattr(trainer_pt_utils, "get_length_grouped_indices", kept)
    drawn = [
        frozenset(lengths[i] for i in batch)
        for batch in batches(order(lengths, size, 0, 0, grouped=True), size)
    ]
    assert drawn != grouped
    assert set(drawn) == set(grouped)


def test_rows_that_fill_no_batch_are_of_any_length() -> None:
    lengths = list(range(62))
    rest = [lengths[i] for seed in range(40) for i in order(lengths, 4, seed, 0, grouped=True)[60:]]
    assert 24 < sum(rest) / len(rest) < 38
