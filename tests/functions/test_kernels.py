"""Kernels: numpy and torch give what the definition says, and phi has the finite ones as inner products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smartdpp.errors import InputError
from smartdpp.functions.kernels import Kernel

NAMES = ["cosine", "linear", "vmf", "rbf"]


def rows(n: int, seed: int, unit: bool) -> np.ndarray:
    X = np.random.default_rng(seed).normal(size=(n, 5))
    return X / np.linalg.norm(X, axis=1, keepdims=True) if unit else X


def defined(name: str, gamma: float, x: np.ndarray, y: np.ndarray) -> float:
    product = float(x @ y)
    return {
        "cosine": product,
        "linear": gamma * (product + 1) / 2,
        "vmf": np.exp(gamma * (product - 1) / 2),
        "rbf": np.exp(-gamma * np.square(x - y).sum()),
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_similarity_is_as_defined_in_numpy_and_in_torch(name):
    kernel = Kernel(name, gamma=1.7)
    X, Y = rows(7, 0, kernel.unit), rows(4, 1, kernel.unit)
    expected = [[defined(name, 1.7, x, y) for y in Y] for x in X]
    np.testing.assert_allclose(kernel.similarity(X, Y), expected, rtol=1e-12)
    np.testing.assert_allclose(
        kernel.similarity(torch.from_numpy(X), torch.from_numpy(Y)).numpy(), expected, rtol=1e-12
    )
    if not kernel.finite:
        np.testing.assert_allclose(np.exp(-1.7 * kernel.distance(X, Y)), expected, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_diagonal_holds_the_ridge_and_an_example_with_itself(name):
    x = rows(3, 0, Kernel(name).unit)
    for ridge, rho in ((0.25, 0.25), (None, 1.0 if name in ("cosine", "linear") else 0.0)):
        kernel = Kernel(name, 1.7, ridge)
        assert kernel.rho == rho
        np.testing.assert_allclose(np.diag(kernel.similarity(x, x)) + rho, kernel.diagonal, rtol=1e-12)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_phi_has_the_kernel_as_inner_products(name):
    kernel, X, weight = Kernel(name, gamma=1.7), rows(7, 0, unit=True), np.arange(1.0, 8.0)
    S = kernel.similarity(X, X)
    for phi in (kernel.phi(X), kernel.phi(torch.from_numpy(X)).numpy()):
        np.testing.assert_allclose(phi @ phi.T, S, rtol=1e-12, atol=1e-14)
    weighted = kernel.phi(X, weight)
    np.testing.assert_allclose(
        weighted @ weighted.T, S * np.sqrt(np.outer(weight, weight)), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(
    ("wrong", "match"),
    [(("sine",), "kernel is 'sine'"), (("rbf", 0.0), "gamma is 0"), (("rbf", 1.0, -1.0), "ridge is -1")],
)
def test_what_cannot_be_is_refused(wrong, match):
    with pytest.raises(InputError, match=match):
        Kernel(*wrong)
