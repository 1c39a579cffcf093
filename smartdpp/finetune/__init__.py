"""Finetuning on exactly the mixture: the `recipe`, its `trainer`, the `steps` that rows are dealt to, and
several processes (`worker`)."""

from smartdpp.finetune.finetune import Finetune

__all__ = ["Finetune"]
