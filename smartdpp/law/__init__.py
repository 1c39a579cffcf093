"""Mixture laws: what a model's loss is as a function of its mixture's weights, learned from a sweep, and the
weights it says are best."""
