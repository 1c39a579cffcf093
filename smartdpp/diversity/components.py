"""Measures as components of a run: what conf/diversity chooses, and what lands in diversity.json.

Numbers go to the run's row as ``diversity_<name>``; curves stay in the file. Every measure sees the mixture
in the probe embedding, the same for all strategies, in selection order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from smartdpp.bounds import Seed
from smartdpp.diversity.coverage import coverage
from smartdpp.diversity.distances import knn_distance, mean_pairwise_distance, radius
from smartdpp.diversity.entropy import cluster_entropy, task_entropy
from smartdpp.diversity.log_det import log_det_distance
from smartdpp.diversity.novelsum import novelsum
from smartdpp.diversity.references import Kernel
from smartdpp.diversity.vendi import vendi_score
from smartdpp.errors import InputError
from smartdpp.functions import LogDet
from smartdpp.runtime.memory import selection


@dataclass(frozen=True)
class LogDetDistance:
    """The log determinant distance of a mixture in the probe embedding; parameters as in
    ``log_det_distance``."""

    kernel: Kernel = "vmf"
    gamma: float = 1.0
    n: int | None = None
    reference_seeds: tuple[int, ...] = (0, 1, 2)
    reference_size: int | None = None
    truncate: float = -7.0
    whole: bool | None = None
    reference: Literal["sphere", "shuffled"] = "sphere"

    def __post_init__(self) -> None:
        if not 0 < self.gamma < np.inf:
            raise InputError(f"diversity.gamma is {self.gamma}: the kernel needs a positive number.")
        if self.n is not None and self.n < 2:
            raise InputError(
                f"diversity.n is {self.n}: give 2 examples or more (of one, every set reads 0), or null for "
                "the largest."
            )
        if len(self.reference_seeds) == 0 or min(self.reference_seeds) < 0:
            raise InputError(
                f"diversity.reference_seeds is {list(self.reference_seeds)}: give at least one seed, none "
                "negative."
            )
        if self.reference_size is not None and self.reference_size < 1:
            raise InputError(
                f"diversity.reference_size is {self.reference_size}: give a positive number of points, or "
                "null."
            )
        if self.n is not None and self.reference_size is not None and self.reference_size < self.n:
            raise InputError(
                f"diversity.reference_size is {self.reference_size}, less than diversity.n={self.n}: give "
                "the reference at least n points."
            )
        if not self.truncate < 0:
            raise InputError(
                f"diversity.truncate is {self.truncate}: log residuals lie below 0, so a threshold must too "
                "(the paper's is -7)."
            )

    def check(self) -> list[str]:
        return []

    def measure(
        self, X: np.ndarray, pool: np.ndarray | None = None, task: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Named numbers for the report, None where they are not known, and the two curves. A mixture of no
        examples has none."""
        if len(X) == 0:
            return {}
        result = log_det_distance(
            X,
            kernel=self.kernel,
            gamma=self.gamma,
            n=self.n,
            reference_seeds=tuple(self.reference_seeds),
            reference_size=self.reference_size,
            truncate=self.truncate,
            whole=self.whole,
            reference=self.reference,
        )
        return {
            "ldd": result.value,
            "ldd_sd": None if np.isnan(result.sd) else result.sd,
            "ldd_n": result.n,
            "ldd_untruncated": None if np.isnan(result.untruncated) else result.untruncated,
            "ldd_untruncated_n": result.untruncated_n,
            "kept": result.kept if result.all_kept_known else None,
            "size": result.size,
            "kept_share": result.kept_share if result.all_kept_known else None,
            "duplicate_share": result.duplicate_share,
            "kernel": result.kernel,
            "gamma": result.gamma,
            "truncate": result.truncate,
            "reference_seeds": list(result.reference_seeds),
            "reference_size": result.reference_size,
            "reference_kept": list(result.reference_kept),
            "curve": result.curve.tolist(),
            "curve_sd": [] if np.isnan(result.sd) else result.curve_sd.tolist(),
            "log_gains": result.log_gains.tolist(),
        }


@dataclass(frozen=True)
class AllMeasures:
    """The log determinant distance and the companions beside it, so that reports can say which of them
    predicts performance."""

    log_det: LogDetDistance = field(default_factory=LogDetDistance)
    vendi_q: float = 1.0
    neighbors: int = 10
    clusters: int = 100
    seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.vendi_q >= 0:
            raise InputError(
                f"diversity.vendi_q is {self.vendi_q}: the order of the Vendi score is 0 or more."
            )
        if self.neighbors < 1:
            raise InputError(f"diversity.neighbors is {self.neighbors}: a row needs at least 1 neighbour.")
        if self.clusters < 1:
            raise InputError(f"diversity.clusters is {self.clusters}: there must be at least 1.")

    def check(self) -> list[str]:
        return []

    def measure(
        self, X: np.ndarray, pool: np.ndarray | None = None, task: np.ndarray | None = None
    ) -> dict[str, Any]:
        """What ``log_det`` measures, and the companions'. Those that need the pool (m, d) or a task per row
        are left out without it."""
        if len(X) == 0:
            return {}
        return self.log_det.measure(X) | self.companions(X, pool, task)

    def companions(
        self, X: np.ndarray, pool: np.ndarray | None = None, task: np.ndarray | None = None
    ) -> dict[str, float]:
        """The companions alone, by name."""
        found = {
            "vendi": vendi_score(X, q=self.vendi_q),
            "novelsum": novelsum(X, k=self.neighbors),
            "mean_distance": mean_pairwise_distance(X),
            "knn_distance": knn_distance(X, k=self.neighbors),
            "radius": radius(X),
            "cluster_entropy": cluster_entropy(X, pool=pool, clusters=self.clusters, seed=self.seed),
        }
        if pool is not None:
            found["coverage"] = coverage(X, pool=pool)
        if task is not None:
            found["task_entropy"] = task_entropy(task)
        return found


@dataclass(frozen=True)
class NoMeasure:
    """Measures nothing."""

    def check(self) -> list[str]:
        return []

    def measure(
        self, X: np.ndarray, pool: np.ndarray | None = None, task: np.ndarray | None = None
    ) -> dict[str, Any]:
        return {}


def memory(n: int, d: int, pool: int) -> float:
    """Bytes of log determinants of a mixture of n rows, all of them picked, and of reference sets as large;
    companions read the pool."""
    return 4 * pool * d + selection(n, d) + LogDet.keeps(n, d, n, kernel="vmf") + 16 * n * n


def describe(facts: dict[str, Any]) -> str:
    """What was measured, in one line, of a measure's numbers; empty where there is none. What greedy stopped
    too early to know of the log determinant distance is said to be unknown."""
    if facts.get("ldd") is None:
        return ", ".join(
            f"{name} {value:.4g}" for name, value in facts.items() if isinstance(value, (int, float))
        )
    sd, kept, untruncated = (facts.get(name) for name in ("ldd_sd", "kept", "ldd_untruncated"))
    spread = "one reference set" if sd is None else f"± {sd:.3f} over reference sets"
    share = (
        f"kept {kept} of {facts['size']}"
        if kept is not None
        else f"kept at least {facts['ldd_n']} of {facts['size']}"
    )
    whole = f"untruncated {untruncated:.3f}" if untruncated is not None else "untruncated unknown"
    return (
        f"log determinant distance {facts['ldd']:.3f} nats per example at n = {facts['ldd_n']} ({spread}; "
        "lower is more diverse); "
        f"{share}, {whole}, copies {facts['duplicate_share']:.1%}"
    )
