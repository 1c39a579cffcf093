"""Drawing sets of k items with probability proportional to det L_Y: a k-DPP (Kulesza and Taskar 2011),
exactly or by a Markov chain.

Exactly, two phases over the eigenvalues λ and eigenvectors V of L: choose k eigenvectors, m with the odds
that elementary symmetric polynomials give, P(m) = λ_m e_{k-1}(λ_1..λ_{m-1}) / e_k(λ_1..λ_m); then draw one
item after the other from the projection onto them. Where L = ΦΦᵀ with fewer columns than rows, both come from
ΦᵀΦ (the dual representation).

By a chain, for pools too large for either: drop one item at random, draw its successor with probability
proportional to det of the completed set. This is the swap chain of Anari, Oveis Gharan and Rezaei (2016,
arXiv 1602.05242) with the new item drawn from its exact conditional instead of proposed blindly; it comes
within ε of the k-DPP (total variation) in k (log log 1/π(Y_0) + log 1/(2 ε²)) steps (Cryan, Guo and Mousa
2019, arXiv 1903.06081), which hardly depends on n.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, lgamma, log

import numpy as np

BATCH = (64, 4096)  # candidates tried together, from few to many
Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(rows, rows) to their block of S, float64."""


def sample(L: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """int64[min(k, rank)]: one draw from the k-DPP of L (n, n), symmetric, no eigenvalue below 0. Time
    O(n³)."""
    values, V = np.linalg.eigh(L)
    return _two_phases(values, lambda chosen: V[:, chosen], len(L), k, rng)


def sample_dual(Phi: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """The same for L = Φ Φᵀ, Φ (n, d): time O(n (d² + k²) + d³), memory O(n (d + k))."""
    values, W = np.linalg.eigh(Phi.T @ Phi)
    return _two_phases(
        values, lambda chosen: Phi @ (W[:, chosen] / np.sqrt(values[chosen])), len(Phi), k, rng
    )


def _two_phases(
    values: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray], n: int, k: int, rng: np.random.Generator
) -> np.ndarray:
    known = np.flatnonzero(values > values.max() * n * np.finfo(np.float64).eps)  # the rest is rounding
    chosen = known[choose_eigenvalues(values[known], min(k, len(known)), rng)]
    return sample_projection(vectors(chosen), rng)


def log_elementary(values: np.ndarray, k: int) -> np.ndarray:
    """float64[m + 1, k + 1]: entry (j, l) is log e_l(λ_1..λ_j), the elementary symmetric polynomials of
    ``values`` float64[m], all > 0."""
    E = np.full((len(values) + 1, k + 1), -np.inf)
    E[:, 0] = 0.0
    for j, log_value in enumerate(np.log(values), start=1):
        E[j, 1:] = np.logaddexp(E[j - 1, 1:], log_value + E[j - 1, :-1])
    return E


def choose_eigenvalues(values: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """int64[k]: a set J of k indices with probability proportional to Π_{j∈J} λ_j."""
    E = log_elementary(values, k)
    chosen: list[int] = []
    for j in range(len(values), 0, -1):
        left = k - len(chosen)
        if left == 0:
            break
        if left == j or log(1 - rng.random()) < np.log(values[j - 1]) + E[j - 1, left - 1] - E[j, left]:
            chosen.append(j - 1)
    return np.array(chosen, dtype=np.int64)


def sample_projection(V: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64[k]: one draw from the DPP of V Vᵀ, V (n, k) with orthonormal columns, in the order of drawing.
    Time O(n k²)."""
    n, k = V.shape
    free = np.square(V).sum(axis=1)  # squared length of each row outside the span of the chosen ones
    basis, chosen = np.empty((n, k)), np.empty(k, dtype=np.int64)
    for b in range(k):
        free = np.maximum(free, 0.0)
        free[chosen[:b]] = 0.0
        i = chosen[b] = _draw(np.cumsum(free), rng)
        basis[:, b] = (V @ V[i] - basis[:, :b] @ basis[i, :b]) / np.sqrt(free[i])
        free = free - basis[:, b] ** 2
    return chosen


def steps_enough(n: int, k: int, epsilon: float = 0.01) -> int:
    """Steps after which ``walk`` is within ``epsilon`` of the k-DPP in total variation, when started from a
    greedy set.

    Greedy's det L_Y is at least 1 / (k!)² of the largest (Çivril and Magdon-Ismail 2009), so π(Y_0) >= 1 /
    (C(n, k) (k!)²).
    """
    if k in (0, n):
        return 0
    log_inverse = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + 2 * lgamma(k + 1)
    return ceil(k * (log(max(log_inverse, 1.0)) + log(1 / (2 * epsilon**2))))


def walk(
    similarity: Similarity,
    diagonal: float,
    weight: np.ndarray,
    start: np.ndarray,
    steps: int,
    rng: np.random.Generator,
    progress: Callable[[range], range] = lambda steps: steps,
) -> np.ndarray:
    """int64[k]: the chain's state after ``steps`` steps from ``start`` (int[k], det S_start > 0), in no
    meaningful order.

    Its law is det L_Y with L_ij = √w_i S_ij √w_j, ``weight`` float64[n] all > 0, S_ii = ``diagonal``. An
    item's conditional probability is proportional to w_j d_j², d_j² = S_jj - S_jY S_Y⁻¹ S_Yj <= S_jj. So
    candidates come by weight and stay with probability d_j² / S_jj, which needs k kernel values each; only
    where n of them were refused are all n looked at. Time a step: O(k² + k (k + d) / mean of d²).
    """
    n, k = len(weight), len(start)
    chosen, by_weight = start.astype(np.int64).copy(), np.cumsum(weight)
    if k in (0, n):
        return chosen
    inverse = _inverse(similarity, diagonal, chosen)
    inside = np.zeros(n, dtype=bool)
    inside[chosen] = True
    for step in progress(range(steps)):
        if step and step % k == 0:  # rounding does not add up
            inverse = _inverse(similarity, diagonal, chosen)
        out = int(rng.integers(k))
        rest = np.delete(np.arange(k), out)
        column = inverse[rest, out]
        # inverse of S without that row
        P = inverse[np.ix_(rest, rest)] - np.outer(column, column) / inverse[out, out]
        old, others = chosen[out], chosen[rest]
        inside[old] = False

        def residual(
            items: np.ndarray, others: np.ndarray = others, P: np.ndarray = P
        ) -> tuple[np.ndarray, np.ndarray]:
            s = similarity(items, others)
            return s, np.where(
                inside[items], 0.0, np.maximum(diagonal - np.einsum("ij,ij->i", s @ P, s), 0.0)
            )

        new, s, d2 = _successor(residual, diagonal, weight, by_weight, int(old), rng)
        inside[new] = True
        chosen[out] = new
        z = P @ s
        inverse[np.ix_(rest, rest)] = P + np.outer(z, z) / d2
        inverse[rest, out] = inverse[out, rest] = -z / d2
        inverse[out, out] = 1 / d2
    return chosen


def _successor(
    residual: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    diagonal: float,
    weight: np.ndarray,
    by_weight: np.ndarray,
    old: int,
    rng: np.random.Generator,
) -> tuple[int, np.ndarray, float]:
    """An item drawn proportionally to w d², with its similarities to the others and its d². ``old``, the one
    dropped, may come back."""
    n, tried, size = len(weight), 0, BATCH[0]
    while tried < n:
        items = _draws(by_weight, size, rng)
        s, d2 = residual(items)
        kept = np.flatnonzero(rng.random(size) * diagonal < d2)
        if kept.size:
            at = kept[0]
            return int(items[at]), s[at], float(d2[at])
        tried, size = tried + size, min(2 * size, BATCH[1])
    d2 = np.concatenate([residual(np.arange(a, min(a + BATCH[1], n)))[1] for a in range(0, n, BATCH[1])])
    total = np.cumsum(weight * d2)
    new = _draw(total, rng) if total[-1] > 0 else old
    s, d2 = residual(np.array([new]))
    return new, s[0], float(max(d2[0], np.finfo(np.float64).tiny))


def _inverse(similarity: Similarity, diagonal: float, items: np.ndarray) -> np.ndarray:
    S = similarity(items, items)
    np.fill_diagonal(S, diagonal)
    return np.linalg.inv(S)


def _draw(cumulative: np.ndarray, rng: np.random.Generator) -> int:
    return int(_draws(cumulative, 1, rng)[0])


def _draws(cumulative: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """int64[size]: indices drawn in proportion to the weights whose running sums these are."""
    return np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
