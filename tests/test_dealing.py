"""Rows are dealt out so that every step has the rows that one process would take, whatever divides what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smartdpp.dealing import Deal

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
