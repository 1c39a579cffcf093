"""Vendi score: the effective number of distinct examples (Friedman and Dieng 2023, arXiv 2210.02410; order q:
arXiv 2310.12952).

With K_ij = x_i·x_j on unit rows, and λ the eigenvalues of K / n (they sum to 1), it is the Hill number of
order q of λ:

    V_q = (Σ λ^q)^(1 / (1 - q));   V_1 = exp(-Σ λ log λ);   V_∞ = 1 / max λ.

Of gradients of a small model it is G-Vendi (Jung et al. 2025, arXiv 2505.20161): embedding@probe=gradient.

n orthogonal examples score n, one example repeated scores 1. A larger q listens less to what is rare.
"""

from __future__ import annotations

import numpy as np

from smartdpp.diversity.rows import blocks, unit
from smartdpp.errors import InputError


def vendi_score(X: np.ndarray, *, q: float = 1.0) -> float:
    """V_q of X (n, d) in [1, min(n, d)]; higher is more diverse. Time O(n d min(n, d)), memory O(n d + min(n,
    d)²).

    Raises InputError for a q below 0 or rows that are zero or not finite.
    """
    if not q >= 0:
        raise InputError(
            f"vendi_score: q is {q}, but an order is 0 or more (1: Shannon's entropy, inf: the largest "
            "eigenvalue)."
        )
    X = unit(X)
    n, d = X.shape
    # XXᵀ and XᵀX share their nonzero eigenvalues
    S = X @ X.T if n <= d else sum((X[b].T @ X[b] for b in blocks(n, d)), np.zeros((d, d)))
    return hill_number(np.linalg.eigvalsh(np.asarray(S, dtype=np.float64) / n), q)


def hill_number(weights: np.ndarray, q: float) -> float:
    """The effective number of ``weights`` float[m], which sum to 1 but for rounding."""
    p = weights[weights > np.finfo(np.float64).eps * len(weights)]
    p = p / p.sum()
    if q == np.inf:
        return float(1 / p.max())
    return float(np.exp(-(p * np.log(p)).sum()) if q == 1 else (p**q).sum() ** (1 / (1 - q)))
