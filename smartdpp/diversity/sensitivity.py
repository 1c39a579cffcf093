"""What a log determinant distance hangs on: how values and ranking of datasets move with each choice that the
measure leaves open.

One choice is varied at a time, the others stay: the reference, γ, n (where the curves are read, the same for
all sets) and the truncation. The ranking under each is compared with the ranking under the choices that stay,
by Kendall's τ: 1 is the same order, -1 the reverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.diversity.log_det import ldd_curves
from smartdpp.diversity.references import Kernel, Reference, greedy_gains, name, reference_gains
from smartdpp.errors import InputError
from smartdpp.functions import LogDet

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Setting:
    """The choices behind one reading of the distance."""

    reference: Reference
    gamma: float
    truncate: float
    n: int | None  # None: the largest that all sets reach


def sensitivity(
    sets: Mapping[str, np.ndarray],
    *,
    kernel: Kernel = "vmf",
    gamma: float = 1.0,
    n: int | None = None,
    truncate: float = -7.0,
    references: Sequence[Reference] = ("sphere", "shuffled"),
    gammas: Sequence[float] = (0.1, 1.0, 10.0),
    truncations: Sequence[float] = (-5.0, -7.0, -10.0, -np.inf),
    shares: Sequence[float] = (0.1, 0.25, 0.5, 1.0),
    reference_seeds: tuple[int, ...] = (0, 1, 2),
) -> pd.DataFrame:
    """One line per setting and set: varied, setting, n, set, value (nats per example), rank (1: most
    diverse), tau.

    sets: at least two matrices (N, d), of one d. ``references[0]`` stays while the rest varies; ``shares``
    are the parts of the largest common n at which the curves are read too. Raises InputError for fewer than
    two sets, or an n that a set does not reach.
    """
    import pandas as pd
    from scipy.stats import kendalltau, rankdata

    if len(sets) < 2:
        raise InputError(f"sensitivity compares datasets: give at least two, not {len(sets)}.")
    gains: dict[tuple[str, float], np.ndarray] = {}
    theirs: dict[tuple[str, str, float], list[np.ndarray]] = {}

    def curves(setting: Setting) -> list[np.ndarray]:
        found = []
        for label, X in sets.items():
            mine = (label, setting.gamma)
            if mine not in gains:
                gains[mine] = greedy_gains(LogDet(X, kernel=kernel, gamma=setting.gamma, ridge=0.0), len(X))
            key = (label, name(setting.reference), setting.gamma)
            if key not in theirs:
                theirs[key] = reference_gains(
                    setting.reference, X, reference_seeds, len(X), kernel, setting.gamma, len(X)
                )
            found.append(ldd_curves(gains[mine], theirs[key], setting.truncate)[0].mean(axis=0))
        return found

    usual = Setting(references[0], gamma, truncate, n)
    whole = min(map(len, curves(usual)))
    if n is not None and n > whole:
        raise InputError(f"n is {n}, but not every set keeps that many: choose at most {whole}.")
    varied = [("none", "as measured", usual)]
    varied += [("reference", name(r), Setting(r, gamma, truncate, n)) for r in references]
    varied += [("gamma", f"{g:g}", Setting(references[0], g, truncate, n)) for g in gammas]
    varied += [
        ("truncation", "none" if t == -np.inf else f"{t:g}", Setting(references[0], gamma, t, n))
        for t in truncations
    ]
    varied += [
        ("n", str(m), Setting(references[0], gamma, truncate, m))
        for m in dict.fromkeys(max(2, round(s * whole)) for s in shares)
    ]

    lines, ranking = [], np.empty(0)
    for what, label, setting in varied:
        found = curves(setting)
        longest = min(map(len, found))
        at = min(setting.n or longest, longest)
        if not at:
            continue  # nothing is left of a set under this truncation: there is no distance to read
        values = np.array([curve[at - 1] for curve in found])
        ranks = rankdata(values, method="min")
        ranking = ranks if what == "none" else ranking
        tau = kendalltau(ranking, ranks).statistic
        lines += [
            {"varied": what, "setting": label, "n": at, "set": s, "value": v, "rank": int(r), "tau": tau}
            for s, v, r in zip(sets, values, ranks, strict=True)
        ]
    return pd.DataFrame(lines)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """``sensitivity``'s table with one line per setting: tau, the furthest any set moves in rank, and the
    range of the values."""
    import pandas as pd

    usual = table[table["varied"] == "none"].set_index("set")["rank"]
    lines = []
    for (what, setting), group in table.groupby(["varied", "setting"], sort=False):
        moves = (group.set_index("set")["rank"] - usual).abs()
        lines.append(
            {
                "varied": what,
                "setting": setting,
                "n": int(group["n"].iloc[0]),
                "Kendall τ with the ranking as measured": round(float(group["tau"].iloc[0]), 3),
                "largest move in rank": f"{int(moves.max())} ({moves.idxmax()})" if moves.max() else "0",
                "smallest distance": round(float(group["value"].min()), 3),
                "largest distance": round(float(group["value"].max()), 3),
            }
        )
    return pd.DataFrame(lines)
