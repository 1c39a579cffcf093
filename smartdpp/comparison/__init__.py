"""Datasets side by side without training: the command ``python -m smartdpp.diversity``."""
