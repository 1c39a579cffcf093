"""How local a kernel should be, asked in items: the γ at which a pool holds a stated number of effectively
different ones.

The number is the Vendi score of order 2 (Pasarkar and Dieng, arXiv 2310.12952), the participation ratio of
the spectrum λ of S,

    N(γ) = (Σ λ)² / Σ λ² = n² / Σ_ij S_ij²      (S_ii = 1),

which rises with γ from 1 (all alike) to the number of distinct rows (nothing alike), and needs no eigenvalue.
"""

from __future__ import annotations

import logging

import numpy as np

from smartdpp.errors import InputError
from smartdpp.functions.kernels import Kernel, Name

logger = logging.getLogger(__name__)

MOST = 4096  # rows looked at: of a larger pool as many are drawn
WIDEST = (1e-6, 1e8)  # γ


def check_effective_items(effective_items: float | None, kernel: Name) -> None:
    """InputError for a number that no pool can hold, or a kernel that γ only scales; None asks for
    nothing."""
    if effective_items is not None and kernel == "linear":
        raise InputError(
            "strategy.effective_items needs a kernel that gamma makes more local: vmf or rbf, not linear."
        )
    if effective_items is not None and not effective_items > 1:
        raise InputError(
            f"strategy.effective_items is {effective_items}: a number of items above 1, or null to use gamma."
        )


def gamma_for(X: np.ndarray, effective_items: float, kernel: Name, rng: np.random.Generator) -> float:
    """γ with N(γ) = ``effective_items`` for rows X (n, d). Of more than 4,096 rows, 4,096 are drawn and stand
    for all pairs.

    Raises InputError for a number that no γ gives: it lies above 1 and below the number of distinct rows.
    """
    from scipy.optimize import brentq

    check_effective_items(effective_items, kernel)
    n = len(X)
    some = X if n <= MOST else X[np.sort(rng.permutation(n)[:MOST])]
    if n > MOST:
        logger.info("effective items: estimated from the pairs of %d rows, drawn from %d", MOST, n)
    some = np.asarray(some, dtype=np.float64)
    pairs = _twice_distances(some, kernel)[np.triu_indices(len(some), 1)]

    def log_items(log_gamma: float) -> float:
        # S_ij² = exp(-γ · pair); the mean over ordered pairs, the n of an item with itself among them
        similar = np.exp(-np.exp(log_gamma) * pairs).mean() if len(pairs) else 0.0
        return float(-np.log(1 / n + (1 - 1 / n) * similar))

    low, high = np.log(WIDEST)
    least, most = np.exp(log_items(low)), np.exp(log_items(high))
    if not least < effective_items < most:
        raise InputError(
            f"strategy.effective_items is {effective_items}: for this pool of {n} examples some gamma gives "
            f"any number between {least:.2f} "
            f"and {most:.0f}; choose one of them."
        )
    gamma = float(np.exp(brentq(lambda g: log_items(g) - np.log(effective_items), low, high, xtol=1e-9)))
    logger.info("gamma = %.4g makes %g effective items of %d examples", gamma, effective_items, n)
    return gamma


def _twice_distances(X: np.ndarray, kernel: Name) -> np.ndarray:
    """float64[n, n]: what γ multiplies in -log S_ij²."""
    if kernel == "vmf":
        X = X / np.linalg.norm(X, axis=1, keepdims=True)
        return np.maximum(2 * Kernel(kernel).distance(X, X), 0)
    # BLAS makes another last bit of X Xᵀ than of two matrices
    return 2 * Kernel(kernel).distance(X, X.copy())
