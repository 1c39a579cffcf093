"""Choose instruction-tuning data, finetune on it and see what it was worth."""

from smartdpp.store import place

place.settle()
