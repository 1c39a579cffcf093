"""Submodular mutual information: what a selection A says about a query Q, examples of what it is to be good
for.

I(A; Q) = f(A) + f(Q) - f(A ∪ Q) (Iyer, Khargoankar, Bilmes and Asanani 2021, "Submodular combinatorial
information measures"); its instances for selecting training data towards a target are those of PRISM (arXiv
2103.00128) and SIMILAR (arXiv 2107.00717):

| function | I(A; Q) | | |---|---|---| | FLQMI | Σ_{q∈Q} max_{j∈A} s_qj + η Σ_{j∈A} max_{q∈Q} s_qj | every
query has a chosen example close by, and every example a query | | FLVMI | Σ_{i∈V} min(max_{j∈A} s_ij, η
max_{q∈Q} s_iq) | the pool V is covered, each part as far as it concerns the query | | GCMI | 2λ Σ_{j∈A}
Σ_{q∈Q} s_qj | close to the whole query; modular, so that copies do not count against each other |

s is the cosine similarity. In FLQMI and FLVMI a negative one counts as 0, as in facility location; all three
are then submodular, the first two monotone. No kernel is kept: rows of it are made in float64 from the
features when they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.features import Features
from smartdpp.functions.graph_cut import GraphCut, GraphCutState
from smartdpp.functions.order import checked
from smartdpp.functions.point_coverage import PointCoverage

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class FLQMI:
    """X (n, d) and Q (m, d), numpy or torch, on one device. ``normalize`` divides rows by their norm; without
    it s is the inner product.

    ``eta`` >= 0 weighs how near each chosen example is to the query against how well the query is covered; at
    0 nothing more can be gained once every query has its nearest example. Raises InputError for eta at once,
    for features that do not fit when they are first used.
    """

    X: Any
    Q: Any
    eta: float = 1.0
    normalize: bool = True

    def __post_init__(self) -> None:
        _at_least_0("eta", self.eta)

    @cached_property
    def features(self) -> Features:
        return Features(self.X, self.normalize)

    @cached_property
    def query(self) -> Features:
        return query_of(self.Q, self.features)

    @cached_property
    def bonus(self) -> torch.Tensor:
        """float64[n]: η max_q s_qj."""
        return self.eta * nearest(self.features, self.query)

    def __len__(self) -> int:
        return self.features.shape[0]

    def identity(self) -> list[Any]:
        return ["flqmi", self.eta, *self.query.identity(), *self.features.identity()]

    def gains(self, order: Any) -> np.ndarray:
        """float64[k]: the marginal gain of each item of ``order`` (int[k], distinct) given those before
        it."""
        return self.state(0).prescribed(checked(order, len(self)))

    def value(self, index: Any) -> float:
        """f of the chosen rows ``index`` (int[k], distinct)."""
        return float(self.gains(index).sum())

    def state(self, budget: int) -> PointCoverage:
        """A greedy run's state: see smartdpp.functions.state."""
        return PointCoverage(self.features, self.query, bonus=self.bonus)


@dataclass(frozen=True, eq=False)
class FLVMI:
    """As `FLQMI`, but ``eta`` >= 0 is how much of the pool the query concerns: i is covered where η max_q
    s_iq is reached.

    A large eta is facility location; a small one is soon exhausted: then nothing is left to gain. Time grows
    with n², memory does not. With ``witnesses`` (int[w], distinct rows) only these are to be covered: drawn
    at random they stand for the pool, in n · w. Similarities to them are kept where that takes 0.75 GiB at
    most (1,000 of 100,000 rows).
    """

    X: Any
    Q: Any
    eta: float = 1.0
    normalize: bool = True
    witnesses: np.ndarray | None = None

    def __post_init__(self) -> None:
        _at_least_0("eta", self.eta)

    @cached_property
    def features(self) -> Features:
        return Features(self.X, self.normalize)

    @cached_property
    def query(self) -> Features:
        return query_of(self.Q, self.features)

    @cached_property
    def points(self) -> Features:
        """What is to be covered, (n, d) or (w, d)."""
        if self.witnesses is None:
            return self.features
        return Features(self.features.subset(checked(self.witnesses, len(self))), self.normalize)

    @cached_property
    def cap(self) -> torch.Tensor:
        """float64[n] or [w]: η max_q s_iq."""
        return self.eta * nearest(self.points, self.query)

    def __len__(self) -> int:
        return self.features.shape[0]

    def identity(self) -> list[Any]:
        only = [] if self.witnesses is None else [self.witnesses]
        return ["flvmi", self.eta, *self.query.identity(), *self.features.identity(), *only]

    def gains(self, order: Any) -> np.ndarray:
        """float64[k]: the marginal gain of each item of ``order`` (int[k], distinct) given those before
        it."""
        return self.state(0).prescribed(checked(order, len(self)))

    def value(self, index: Any) -> float:
        """f of the chosen rows ``index`` (int[k], distinct)."""
        return float(self.gains(index).sum())

    def state(self, budget: int) -> PointCoverage:
        """A greedy run's state: see smartdpp.functions.state."""
        few = self.witnesses is not None
        return PointCoverage(self.features, self.points, cap=self.cap, keep=few)


@dataclass(frozen=True, eq=False)
class GCMI:
    """X (n, d) and Q (m, d) as for `FLQMI`; ``lam`` > 0 is λ. With ``redundancy`` ν > 0 the function is

    2λ Σ_{j∈A} Σ_{q∈Q} s_qj - ν Σ_{i,j∈A} s_ij,

    graph cut with the query in the place of the pool: no mutual information any more, but copies of what is
    chosen lose their appeal.
    """

    X: Any
    Q: Any
    lam: float = 0.5
    redundancy: float = 0.0
    normalize: bool = True

    def __post_init__(self) -> None:
        _at_least_0("redundancy", self.redundancy)
        if not (np.isfinite(self.lam) and self.lam > 0):
            raise InputError(f"lam is {self.lam}; it must be a finite number above 0.")

    @cached_property
    def cut(self) -> GraphCut:
        """Graph cut, told that the pool's sum is the query's."""
        cut = GraphCut(self.X, lam=self.redundancy, normalize=self.normalize)
        cut.features.total = 2 * self.lam * query_of(self.Q, cut.features).total
        return cut

    def __len__(self) -> int:
        return len(self.cut)

    def identity(self) -> list[Any]:
        return ["gcmi", self.lam, *self.cut.identity()]

    def gains(self, order: Any) -> np.ndarray:
        """float64[k]: the marginal gain of each item of ``order`` (int[k], distinct) given those before
        it."""
        return self.cut.gains(order)

    def value(self, index: Any) -> float:
        """f of the chosen rows ``index`` (int[k], distinct)."""
        return self.cut.value(index)

    def state(self, budget: int) -> GraphCutState:
        """A greedy run's state: see smartdpp.functions.state."""
        return self.cut.state(budget)


def nearest(features: Features, query: Features) -> torch.Tensor:
    """float64[n]: max_q s_iq for every row of the features, 0 where all are negative."""
    import torch

    Q = query.rows(slice(None)).T
    return torch.cat([(features.rows(piece) @ Q).amax(1) for piece in features.blocks()]).clamp_(min=0)


def query_of(Q: Any, features: Features) -> Features:
    """Q (m, d), normalised as the features are. InputError where the two do not fit."""
    query = Features(Q, features.unit)
    if query.shape[1] != features.shape[1]:
        raise InputError(
            f"Q has {query.shape[1]} columns where X has {features.shape[1]}: both must come from one "
            "embedding."
        )
    if query.device != features.device:
        raise InputError(f"Q lies on {query.device} and X on {features.device}: move them to one device.")
    return query


def _at_least_0(name: str, value: float) -> None:
    if not (np.isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value}; it must be a finite number of at least 0.")
