"""When a pilot has seen enough. It looks at its results several times, and each look spends its part of the
error that all of them may make together.

A way is better than random where the paired difference over seeds and documents is above zero at the look's
part of 0.05, shared out evenly among the ways (one-sided: nothing is ever called worse). By look k of K seeds
0.05 (k/K)^1.5 are spent (Kim and DeMets 1987, Biometrika 74): most at the end, where a gain as large as the
worlds' differences is still open, and enough at the first look for a large one. The parts add up to 0.05, so
the chance that anything is called better where nothing is, whatever the looks, is at most that. Random is as
good where for no way a gain of ``matters`` is left in its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from smartdpp.evaluation.intervals import Difference

LOOKS = (5, 8, 12, 16, 24)  # after so many seeds
ALPHA = 0.05
POWER = 1.5


@dataclass(frozen=True)
class Verdict:
    state: Literal["select", "random", "undecided"]
    better: tuple[str, ...] = ()  # ways, the largest gain first


def level(seeds: int) -> float:
    """What the look after so many seeds may spend; 0 where there is none."""
    if seeds not in LOOKS:
        return 0.0
    before = max((look for look in LOOKS if look < seeds), default=0)
    return float(ALPHA * (seeds**POWER - before**POWER) / LOOKS[-1] ** POWER)


def verdict(gains: Mapping[str, Difference], matters: float) -> Verdict:
    """gains: each way's over random, positive where it is better; the bound's is not among them."""
    better = [
        name for name, gain in gains.items() if gain.mean > 0 and gain.p / 2 < level(gain.seeds) / len(gains)
    ]
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
