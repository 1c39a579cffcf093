"""Which runtime is in use, and that this process is one."""

from __future__ import annotations

import pytest

from smartdpp.errors import InputError
from smartdpp.run.cell import Run
from smartdpp.runtime import current, using
from smartdpp.runtime.cluster import Ray
from smartdpp.runtime.local import Local


def test_this_process_unless_another_is_said():
    assert current() == Local()
    with using(Ray(cpus=2)):
        assert current() == Ray(cpus=2)
    assert current() == Local()


def test_results_come_in_the_order_of_the_pieces():
    assert Local().map(lambda a, b: a * b, lambda i: (i, 10), [1, 5, 3], "work") == [0, 10, 20]


def test_it_is_how_a_run_is_run_and_not_what_it_is(small_run, monkeypatch):
    monkeypatch.setattr(Ray, "check", lambda self: [])  # the package need not be installed for this
    runs: list[Run] = [small_run(), small_run("runtime=ray"), small_run("runtime=ray", "runtime.cpus=2")]
    assert len({run.slug for run in runs}) == 1
    assert len({run.embedding.key for run in runs}) == 1


@pytest.mark.parametrize("wrong", [{"cpus": -1.0}, {"gpus": -0.5}, {"retries": -1}, {"rows_per_task": 0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match=f"runtime.{next(iter(wrong))}"):
        Ray(**wrong)
