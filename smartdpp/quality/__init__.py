"""Scores per example: q > 0, higher means better, weighed against diversity by the DPP's theta (arXiv
2402.02318).

`counts` reads the corpus alone, `model` what a language model makes of each example (see smartdpp.signals),
`rated` what a model says that is asked to rate it.
"""

from smartdpp.quality.counts import Column, Constant, PromptTokens, ResponseTokens, TotalTokens
from smartdpp.quality.model import El2n, GradientNorm, Ifd, Perplexity, Pmi
from smartdpp.quality.rated import Rated, Reward

__all__ = [
    "Column",
    "Constant",
    "El2n",
    "GradientNorm",
    "Ifd",
    "Perplexity",
    "Pmi",
    "PromptTokens",
    "Rated",
    "ResponseTokens",
    "Reward",
    "TotalTokens",
]
