"""Causal language models by where their weights come from (`smollm2`, `hub`, `tiny`, `finetuned`), and how
text becomes tokens."""

from smartdpp.models.finetuned import Finetuned
from smartdpp.models.hub import Hub
from smartdpp.models.smollm2 import SmolLM2
from smartdpp.models.tiny import Tiny

__all__ = ["Finetuned", "Hub", "SmolLM2", "Tiny"]
