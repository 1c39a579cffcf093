"""A random model whose weights are large enough that its answers vary, and rows of unequal length."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from smartdpp.models import Tiny


@dataclass(frozen=True)
class Lively:
    """`Tiny` with larger weights; ``seen`` collects the token ids of every forward pass."""

    format: str = "plain"
    name: str = "lively"
    seen: list = field(default_factory=list)

    def check(self) -> list[str]:
        return []

    def tokenizer(self):
        return Tiny().tokenizer()

    def load(self, **kwargs: Any):
        weights = Tiny().load(**kwargs)
        for name, parameter in weights.named_parameters():
            if "norm" not in name:
                parameter.data.mul_(12)
        weights.model.register_forward_pre_hook(
            lambda _, args, kwargs: self.seen.append(kwargs["input_ids"].tolist()), with_kwargs=True
        )
        return weights


def row(task: str, i: int, prompt: str, response: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{task}/{i}",
        "task": task,
        "prompt": prompt,
        "response": response,
        "choices": None,
        "answer": None,
    } | more
