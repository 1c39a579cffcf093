"""When a pilot has seen enough. It looks at its results several times, and each look spends its part of the
error that all of them may make together.

A way is better than random where the paired difference over seeds and documents is clear of zero at 0.05
shared out evenly among all looks and all ways (Bonferroni over both): so the chance that anything is called
better where nothing is, whatever the looks, is at most 0.05. Random is as good where for no way a gain of
``matters`` is left in its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from smartdpp.evaluation.intervals import Difference

LOOKS = (5, 8, 12, 16)  # after so many seeds
ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    state: Literal["select", "random", "undecided"]
    better: tuple[str, ...] = ()  # ways, the largest gain first


def verdict(gains: Mapping[str, Difference], matters: float) -> Verdict:
    """gains: each way's over random, positive where it is better; the bound's is not among them."""
    level = ALPHA / (len(LOOKS) * len(gains))
    better = [name for name, gain in gains.items() if gain.mean > 0 and gain.p < level]
    if better:
        return Verdict("select", tuple(sorted(better, key=lambda name: -gains[name].mean)))
    left = [gain.mean + gain.half for gain in gains.values()]
    if all(np.isfinite(left)) and max(left) < matters:
        return Verdict("random")
    return Verdict("undecided")


def as_good(gains: Mapping[str, Difference], better: tuple[str, ...], seconds: Mapping[str, float]) -> str:
    """The cheapest of the better ways whose interval reaches the largest gain among them."""
    best = gains[better[0]]
    near = [name for name in better if gains[name].mean + gains[name].half >= best.mean]
    return min(near, key=lambda name: seconds[name])
