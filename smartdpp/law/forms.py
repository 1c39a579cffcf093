"""The forms that a law may have. Each is fitted to n mixtures' weights W float64[n, M], rows on the simplex,
and to their losses L float64[n, J] on J held-out tasks, and then predicts float64[m, J] of m mixtures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Prediction = Callable[[np.ndarray], np.ndarray]


class Form(Protocol):
    def fit(self, W: np.ndarray, L: np.ndarray) -> Prediction: ...


@dataclass(frozen=True)
class Loglinear:
    """L_j(w) = exp(c_j) + exp(t_j · w), a task at a time, by L-BFGS on Huber's loss (olmix, as its authors'
    code has it; Ye et al. 2024, Data Mixing Laws).

    c_j is what no mixture removes. ``huber`` in nats: residuals above it count by their size alone.
    """

    huber: float = 0.02

    def fit(self, W: np.ndarray, L: np.ndarray) -> Prediction:
        found = np.stack([self._task(W, losses) for losses in L.T])  # (J, 1 + M)
        return lambda mixtures: np.exp(found[:, 0]) + np.exp(mixtures @ found[:, 1:].T)

    def _task(self, W: np.ndarray, losses: np.ndarray) -> np.ndarray:
        from scipy.optimize import minimize

        floor = max(float(losses.min()), 1e-6)
        # of several shares of the least loss that may be irreducible, the one that ends best
        ends = [
            minimize(self._misfit, self._start(W, losses, share * floor), (W, losses), "L-BFGS-B", jac=True)
            for share in (0.1, 0.5, 0.9)
        ]
        return min(ends, key=lambda end: end.fun).x

    def _start(self, W: np.ndarray, losses: np.ndarray, irreducible: float) -> np.ndarray:
        rest = np.log(np.maximum(losses - irreducible, 1e-6))
        M = W.shape[1]
        # a little ridge towards the mean: weights that never vary tell nothing
        ridge = 1e-3 * len(W)
        slope = np.linalg.solve(W.T @ W + ridge * np.eye(M), W.T @ rest + ridge * rest.mean())
        return np.append(np.log(irreducible), slope)

    def _misfit(self, at: np.ndarray, W: np.ndarray, losses: np.ndarray) -> tuple[float, np.ndarray]:
        left, right = np.exp(min(at[0], 50.0)), np.exp(np.minimum(W @ at[1:], 50.0))
        residual = left + right - losses
        inside = np.clip(residual, -self.huber, self.huber)
        value = np.mean(inside * (residual - inside / 2))
        slope = inside / len(losses)
        return float(value), np.append(slope.sum() * left, W.T @ (slope * right))


@dataclass(frozen=True)
class Linear:
    """L_j(w) = t_j · w by least squares (RegMix, arXiv 2407.01492); the weights sum to one, so a constant is
    in it."""

    def fit(self, W: np.ndarray, L: np.ndarray) -> Prediction:
        from sklearn.linear_model import LinearRegression

        return LinearRegression().fit(W, L).predict


@dataclass(frozen=True)
class Boosted:
    """Gradient-boosted trees a task at a time, with RegMix's 1,000 rounds at a rate of 0.01."""

    rounds: int = 1000
    rate: float = 0.01

    def fit(self, W: np.ndarray, L: np.ndarray) -> Prediction:
        from lightgbm import LGBMRegressor

        leaf = max(2, len(W) // 20)  # LightGBM's twenty would leave a small sweep without a single split
        trees = [
            LGBMRegressor(
                n_estimators=self.rounds,
                learning_rate=self.rate,
                min_child_samples=leaf,
                min_data_in_bin=1,
                random_state=0,
                n_jobs=1,
                verbose=-1,
            ).fit(W, losses)
            for losses in L.T
        ]
        return lambda mixtures: np.stack([tree.predict(mixtures) for tree in trees], axis=1)


FORMS: dict[str, Callable[[], Form]] = {"loglinear": Loglinear, "linear": Linear, "lightgbm": Boosted}
