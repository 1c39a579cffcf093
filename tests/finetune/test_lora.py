"""The fused adapter layer and the logits of labelled positions alone give what PEFT's and TRL's own ways
give."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from smartdpp.finetune import Finetune, trainer
from smartdpp.finetune.lora import fuse
from smartdpp.models import Tiny

ROWS = pa.table(
    {
        "prompt": [f"What is {i} plus {i}?" + " Say it." * (i % 4) for i in range(20)],
        "response": [str(2 * i) * (1 + i % 3) for i in range(20)],
    }
)
QUICK = {"batch_size": 8, "micro_batch_size": 4, "save_steps": 1}


class Layers(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 9, bias=bias), nn.Linear(9, 4, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)))


def adapted(bias: bool = False, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 3, "lora_alpha": 7, "target_modules": ["first", "last"]} | options)
    model = get_peft_model(Layers(bias), config)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weights)  # it begins at zero, where half of the gradients are
    return model


def gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    out = model(x)
    out.pow(2).sum().backward()
    return [out.detach(), x.grad, *(weights.grad for weights in model.parameters() if weights.requires_grad)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6), (1, 1, 6)])
def test_outputs_and_gradients_are_those_of_the_adapter_layer(bias: bool, shape: tuple[int, ...]) -> None:
    fused, usual = adapted(bias), adapted(bias)
    assert fuse(fused) == 2
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours = gradients(fused, x.clone().requires_grad_())
    theirs = gradients(usual, x.clone().requires_grad_())
    assert len(ours) == len(theirs) == 6
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_frozen_input_has_no_gradient_and_the_adapter_has() -> None:
    model = adapted()
    fuse(model)
    model(torch.ones(2, 6)).sum().backward()
    assert all(weights.grad is not None for weights in model.parameters() if weights.requires_grad)


@pytest.mark.parametrize("options", [{"lora_dropout": 0.9}, {"use_dora": True}, {"lora_bias": True}])
def test_what_is_more_than_the_formula_is_left_to_the_library(options: dict[str, Any]) -> None:
    fused, usual = adapted(bias=True, **options), adapted(bias=True, **options)
    fuse(fused)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    results = []
    for model in (fused, usual):
        torch.manual_seed(3)  # dropout draws
        results.append(gradients(model, x.clone().requires_grad_()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_an_adapter_that_is_switched_off_or_merged_is_off_or_merged() -> None:
    model = adapted()
    x = torch.ones(2, 6)
    with torch.no_grad():
        on = model(x)
        fuse(model)
        torch.testing.assert_close(model(x), on)
        with model.disable_adapter():
            off = model(x)
        assert not torch.allclose(off, on)
        model.merge_adapter()
        torch.testing.assert_close(model(x), on)


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_a_training_is_that_of_all_logits_and_the_librarys_layers(
    gradient_checkpointing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Finetune(**QUICK, epochs=2, gradient_checkpointing=gradient_checkpointing)

    def lines(folder: str) -> list[dict[str, float]]:
        (tmp_path / folder).mkdir()
        recipe.train(Tiny(), ROWS, tmp_path / folder, seed=0)
        return [json.loads(line) for line in (tmp_path / folder / "log.jsonl").open()]

    ours, made, batches = lines("ours"), trainer._trainer, []

    def of_the_library(numbers: Any) -> Any:
        kind = made(numbers)

        @contextmanager
        def whole(self: Any, inputs: dict[str, Any]) -> Any:
            batches.append(inputs["input_ids"].shape)
            yield inputs

        kind.labelled = whole
        return kind

    monkeypatch.setattr(trainer, "_trainer", of_the_library)
    monkeypatch.setattr(trainer, "fuse", lambda model: 0)
    monkeypatch.setattr(trainer, "pack", lambda model: False)
    theirs = lines("theirs")
    assert len(ours) == len(theirs) == 6
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
    assert sum(batch for batch, _ in batches) == 40  # two whole epochs of 20 rows
