"""Log determinant distance: how far a set falls short of a uniform one in the volume it spans (Wang et al.,
arXiv 2402.02318).

Greedy picks the rows of a set D one by one, each time the one with the largest residual d² given those before
it; Δ_m(D) = log d² of the m-th pick. With a reference R, as a rule uniform on the unit sphere of the same
dimension, and picked the same way,

    LDD_n(D) = (1/n) Σ_{m<=n} [Δ_m(R) - Δ_m(D)] nats per example; lower is more diverse, 0 is as diverse as R.

Two conventions of the authors are kept, and made visible. Picks with Δ < -7 (near-duplicates) are dropped
before the sum, on both sides; how many are kept, and the value without dropping any, stand beside the result.
LDD_n grows with n, so it is a curve, and its value is read at a stated n: compare sets at one n only.

Exact copies have d² = 0, of which floating point leaves noise. Greedy stops there (d² < 1e-10), as it has run
out of directions. For the undropped value each such pick counts as d² = 1e-20, the authors' clamp: -46.05
nats, whatever the noise was. Dropping makes LDD blind to copies, so their share is a number of its own. A
copy is a row that the kernel cannot tell from another one: for kernels on normalised rows also one of another
length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from smartdpp.diversity.references import Kernel, Reference, greedy_gains, name, reference_gains
from smartdpp.diversity.rows import copies
from smartdpp.errors import InputError
from smartdpp.functions import LogDet
from smartdpp.functions.logdet import CLAMP, STOP
from smartdpp.functions.order import checked

FIRST = 1024  # picks made before looking whether greedy has come below the truncation


@dataclass(frozen=True, eq=False)
class LogDetResult:
    """What ``log_det_distance`` found. Curves are means over the reference seeds; entry m - 1 is the value at
    n = m."""

    value: float  # LDD_n, nats per example, mean over reference seeds
    sd: float  # its standard deviation over reference seeds; nan for one seed
    n: int  # where the curve was read
    curve: np.ndarray  # float64[min(kept of D, kept of every R)], up to n where greedy stopped there
    curve_sd: np.ndarray  # its standard deviation over reference seeds; nan for one seed
    untruncated: float  # the same at untruncated_n, nothing dropped; nan where greedy stopped before
    untruncated_n: int
    log_gains: np.ndarray  # float64[picks made], Δ_m(D), nothing dropped
    kept: int  # of these with Δ >= truncate; where all_kept_known is False, at least so many of N
    # whether every row was picked, or greedy came below truncate: then no further pick is kept
    all_kept_known: bool
    size: int  # N
    # rows that are another one's copy to the kernel, of N: on normalised rows whatever their lengths
    duplicate_share: float
    kernel: Kernel
    gamma: float
    truncate: float
    reference: str  # sphere, shuffled, or held out and of how many rows
    reference_seeds: tuple[int, ...]
    reference_size: int  # points in each reference
    reference_kept: tuple[int, ...]  # picks kept, for each seed

    @property
    def kept_share(self) -> float:
        """kept / N; nan where greedy stopped before that was known."""
        return self.kept / self.size if self.all_kept_known else np.nan


def log_det_distance(
    X: np.ndarray,
    *,
    kernel: Kernel = "vmf",
    gamma: float = 1.0,
    n: int | None = None,
    order: np.ndarray | None = None,
    reference: Reference = "sphere",
    reference_seeds: tuple[int, ...] = (0, 1, 2),
    reference_size: int | None = None,
    truncate: float = -7.0,
    whole: bool | None = None,
) -> LogDetResult:
    """The log determinant distance of X (N, d) from reference sets: by default uniform ones on the unit
    sphere in d dimensions.

    Parameters ---------- kernel, gamma: vmf exp(γ (x·y - 1) / 2) and linear γ (x·y + 1) / 2 on L2-normalised
    rows, rbf exp(-γ ‖x - y‖²) on rows as they are. n: read the value after this many kept picks, and pick no
    more; None: at the end of the curve. order: int[N], a permutation of the rows; None: greedy. The
    references are always picked greedily: a prefix in a prescribed
        order is measured against the most diverse prefix, and the order stops mattering where all rows are in
        and none dropped.
    reference: sphere; shuffled, the columns of X permuted one by one; or a matrix (m, d), a held-out corpus:
    see references.py. reference_seeds: one reference set each. Their gains are kept in the user's cache
    directory. reference_size: points in each reference; None: N. More than N makes the reference choose its N
    best among them, which biases
        a uniform set upwards (about 0.01 for twice as many).
    truncate: nats; picks below it are dropped. whole: True picks every row, for kept/N and the value with
    nothing dropped; False stops at n, or without n where greedy's Δ comes below
        truncate, as none later is kept (that gives kept/N, but nothing undropped). None: whole without n, and
        not with one.

    Raises InputError for a matrix that cannot be measured, an order that is not a permutation, or an n beyond
    the curve. All sums are float64. With m picks, N of them if whole, time O(N m² + N m d) for the set and as
    much for each reference that is not cached, memory O(N (m + d)).
    """
    if not reference_seeds:
        raise InputError("reference_seeds is empty: give at least one seed for the reference set.")
    if reference_size is not None and reference_size < 1:
        raise InputError(
            f"reference_size is {reference_size}: a reference set needs at least 1 point, or null for as "
            "many as the set has."
        )
    function = LogDet(X, kernel=kernel, gamma=gamma, ridge=0.0)
    size = len(function)
    if order is not None:
        order = permutation(order, size)
    if n is not None and n < 1:
        raise InputError(f"n is {n}: give a positive number of picks, or None for the end of the curve.")
    falling = order is None  # greedy's picks only get smaller
    whole = n is None if whole is None else whole or (n is None and not falling)

    def first_gains(m: int) -> np.ndarray:
        return greedy_gains(function, m) if order is None else noise_clamped(function.gains(order[:m]))

    log_gains = until_known(first_gains, size if whole else n or FIRST, size, n, truncate, falling)
    kept = int((log_gains >= truncate).sum())
    all_kept_known = len(log_gains) == size or (falling and log_gains[-1] < truncate)

    points = size if reference_size is None else reference_size
    picks = min(points, size if whole else n or max(kept, 1))
    references = reference_gains(reference, np.asarray(X), reference_seeds, points, kernel, gamma, picks)
    curves, reference_kept = ldd_curves(log_gains, references, truncate)
    untruncated, _ = ldd_curves(log_gains, references, -np.inf)

    longest = curves.shape[1]
    if not longest:
        raise InputError(
            f"No pick is above the truncation of {truncate} nats: lower it, or choose a larger gamma."
        )
    if n is not None and n > longest:
        raise InputError(
            f"n is {n}, but the curve has {longest} entries: of {size} rows {kept} are kept, and of the "
            f"reference sets' {picks} picks "
            f"{min(reference_kept)}. Choose an n between 1 and {longest}."
        )
    at = n or longest
    curve_sd = curves.std(axis=0, ddof=1) if len(reference_seeds) > 1 else np.full(longest, np.nan)
    untruncated_at = n or min(points, size)
    return LogDetResult(
        value=float(curves[:, at - 1].mean()),
        sd=float(curve_sd[at - 1]),
        n=at,
        curve=curves.mean(axis=0),
        curve_sd=curve_sd,
        untruncated=float(untruncated[:, untruncated_at - 1].mean()) if n or whole else np.nan,
        untruncated_n=untruncated_at,
        log_gains=log_gains,
        kept=kept,
        all_kept_known=all_kept_known,
        size=size,
        duplicate_share=float(copies(X, normalised=kernel != "rbf").sum()) / size,
        kernel=kernel,
        gamma=gamma,
        truncate=truncate,
        reference=name(reference),
        reference_seeds=tuple(reference_seeds),
        reference_size=points,
        reference_kept=reference_kept,
    )


def permutation(order: np.ndarray, size: int) -> np.ndarray:
    """The order itself, int64[size]; InputError if it is no permutation."""
    if len(order) != size:
        raise InputError(f"order has {len(order)} entries, but it must name each of the {size} rows once.")
    return checked(order, size)


def until_known(
    first_gains: Callable[[int], np.ndarray],
    at_first: int,
    size: int,
    n: int | None,
    truncate: float,
    falling: bool,
) -> np.ndarray:
    """float64[m]: Δ of so many first picks, ``at_first`` or twice, four times, ... as many, that n of them
    are kept or no later one is."""
    m = min(at_first, size)
    while True:
        gains = first_gains(m)
        if (
            m == size
            or (n is not None and (gains >= truncate).sum() >= n)
            or (falling and gains[-1] < truncate)
        ):
            return gains
        m = min(2 * m, size)


def ldd_curves(
    log_gains: np.ndarray, references: list[np.ndarray], truncate: float
) -> tuple[np.ndarray, tuple[int, ...]]:
    """LDD_n against each reference, float64[seeds, n], and how many picks each reference keeps."""
    kept = [gains[gains >= truncate] for gains in (log_gains, *references)]
    n = min(map(len, kept))
    ours, *theirs = (gains[:n] for gains in kept)
    return np.cumsum(np.array(theirs) - ours, axis=1) / np.arange(1, n + 1), tuple(map(len, kept[1:]))


def noise_clamped(log_gains: np.ndarray) -> np.ndarray:
    """A residual that greedy would call a copy is one in any order."""
    return np.where(log_gains < np.log(STOP), np.log(CLAMP), log_gains)
