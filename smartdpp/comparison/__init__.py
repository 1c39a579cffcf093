"""Datasets side by side without training: python -m smartdpp.diversity."""
