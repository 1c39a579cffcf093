"""Greedy maximisation of submodular functions, exact at the speed of matrix products."""

from smartdpp.greedy.maximize import maximize

__all__ = ["maximize"]
