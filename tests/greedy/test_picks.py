"""A long selection killed half-way goes on from its checkpoint to the result it would have had."""

from __future__ import annotations

import numpy as np
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import FacilityLocation, GraphCut, LogDet
from smartdpp.greedy import maximize
from smartdpp.greedy.picks import Picks

X = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (FacilityLocation(X), {}),
        (GraphCut(X), {}),
        (LogDet(X), {"start": [3, 9]}),
        (LogDet(X, kernel="vmf"), {"groups": np.arange(400) % 4, "limits": [30, 5, 30, 30]}),
        (GraphCut(X), {"costs": 1 + np.arange(400) % 7}),
        (FacilityLocation(X), {"method": "stochastic", "epsilon": 0.1, "seed": 5}),
    ],
)
def test_a_killed_run_resumes_to_the_same_result(function, arguments, tmp_path, monkeypatch):
    whole = maximize(function, 60, **arguments)
    append = Picks.append

    def killed(self, j, gain):
        append(self, j, gain)
        if len(self.index) == 20:
            self.save()
        if len(self.index) == 27:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Picks, "append", killed)
        with pytest.raises(Killed):
            maximize(function, 60, checkpoint=tmp_path / "picks.npz", **arguments)
    resumed = maximize(function, 60, checkpoint=tmp_path / "picks.npz", **arguments)
    np.testing.assert_array_equal(resumed.index, whole.index)
    np.testing.assert_allclose(resumed.gain, whole.gain, rtol=1e-5)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_keeps_the_picks(tmp_path, monkeypatch):
    append = Picks.append

    def interrupted(self, j, gain):
        append(self, j, gain)
        if len(self.index) == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(Picks, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        maximize(GraphCut(X), 60, checkpoint=tmp_path / "picks.npz")
    with np.load(tmp_path / "picks.npz", allow_pickle=False) as stored:
        assert len(stored["index"]) == 12


def test_another_problems_checkpoint_is_refused(tmp_path):
    picks = Picks(5, checkpoint=tmp_path / "picks.npz", problem="another")
    picks.append(1, 1.0)
    picks.save()
    with pytest.raises(InputError, match="another selection"):
        maximize(GraphCut(X), 60, checkpoint=tmp_path / "picks.npz")
    (tmp_path / "picks.npz").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a selection's checkpoint"):
        maximize(GraphCut(X), 60, checkpoint=tmp_path / "picks.npz")
