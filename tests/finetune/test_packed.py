"""Training without padding, a layer as one operation, gives what the library's own layers give."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from smartdpp.finetune import packed

SIZES = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def model(kind: str, options: dict[str, Any], **adapter: Any) -> Any:
    """A random model, its norms and biases too, whose adapters are past their start at zero."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **SIZES | {"sliding_window": None} | options)
    )
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    made = get_peft_model(base, LoraConfig(**{"r": 3, "target_modules": "all-linear"} | adapter))
    for weights in made.parameters():
        if weights.dim() == 1 or weights.requires_grad:
            torch.nn.init.normal_(weights, 0.5, 0.5)
    return made.train()


def batch(lengths: list[int], labelled: list[list[int]]) -> dict[str, torch.Tensor]:
    """Rows padded on the right, with labels at the given places."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 50, (len(lengths), max(lengths)), generator=draw)
    mask = torch.tensor([[int(t < n) for t in range(max(lengths))] for n in lengths])
    labels = torch.full_like(ids, -100)
    for row, places in enumerate(labelled):
        labels[row, places] = ids[row, places]
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


# a response, a conversation's two turns, a row without labels, a row of one label
BATCH = batch([9, 14, 4, 6], [[5, 6, 7, 8], [3, 4, 9, 12, 13], [], [5]])


def worked(made: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What is told of every label, and the gradient of a sum that weighs them differently."""
    where = inputs["labels"][:, 1:] != -100
    out = made(**inputs, fused_lm_head=True)
    spread = out.log_probs if out.log_probs.shape[0] == 1 else out.log_probs[where][None]
    found = {
        name: value if value.shape[0] == 1 else value[where][None]
        for name, value in (("entropy", out.entropy), ("is_top1", out.is_top1))
    }
    (spread * torch.linspace(1, 2, spread.numel())).sum().backward()
    gradients = {name: w.grad for name, w in made.named_parameters() if w.requires_grad}
    return {"log_probs": spread.detach(), **found, **gradients}


@pytest.mark.parametrize(
    ("kind", "options", "adapter"),
    [
        ("llama", {}, {}),
        ("llama", {"attention_bias": True, "tie_word_embeddings": True}, {"lora_alpha": 5}),
        ("llama", {}, {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
        (
            "llama",
            {
                "num_key_value_heads": 6,
                "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            },
            {},
        ),
        ("mistral", {"head_dim": 8}, {}),
        ("qwen2", {}, {"use_rslora": True}),
    ],
)
@pytest.mark.parametrize("kept", [256, 5])
def test_every_number_is_that_of_the_librarys_own_layers(
    kind: str, options: dict[str, Any], adapter: dict[str, Any], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "KEPT", kept)  # of longer rows, attention is made again
    monkeypatch.setattr(packed, "TILE", 4)
    usual = model(kind, options, **adapter)
    ours = copy.deepcopy(usual)
    assert packed.pack(ours.get_base_model())
    monkeypatch.setattr(packed, "blocks_of", count := Counted(packed.blocks_of))
    expected, found = worked(usual, BATCH), worked(ours, BATCH)
    assert count.calls == 1
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=2e-4, atol=2e-5, msg=name)


class Counted:
    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.function(*args)


def test_the_head_makes_no_logits_of_what_has_no_label_and_none_of_padding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = model("llama", {})
    packed.pack(ours.get_base_model())
    out = ours(**BATCH, fused_lm_head=True)
    assert out.log_probs.shape == (1, 10)
    short = {name: value[:1, :9] for name, value in BATCH.items()}
    torch.testing.assert_close(ours(**short, fused_lm_head=True).log_probs, out.log_probs[:, :4])


@pytest.mark.parametrize(
    ("kind", "options", "adapter"),
    [
        ("qwen3", {"head_dim": 4}, {}),  # norms of queries and keys
        ("llama", {"attention_dropout": 0.5}, {}),
        ("llama", {}, {"lora_dropout": 0.5}),
        ("llama", {}, {"use_dora": True}),
        ("llama", {}, {"modules_to_save": ["lm_head"]}),
        ("mistral", {"sliding_window": 5}, {}),
    ],
)
def test_what_is_more_than_such_a_layer_is_left_to_the_library(
    kind: str, options: dict[str, Any], adapter: dict[str, Any]
) -> None:
    usual = model(kind, options, **adapter)
    ours = copy.deepcopy(usual)
    packed.pack(ours.get_base_model())
    results = []
    for made in (usual, ours):
        torch.manual_seed(3)  # dropout draws
        results.append(worked(made, BATCH))
    for name in results[0]:
        torch.testing.assert_close(results[1][name], results[0][name], rtol=0, atol=0)


@pytest.mark.parametrize("change", ["left", "nothing", "logits"])
def test_other_batches_are_left_to_the_library(change: str) -> None:
    usual = model("llama", {})
    ours = copy.deepcopy(usual)
    packed.pack(ours.get_base_model())
    given = dict(BATCH)
    if change == "left":
        given = {name: value.flip(1) for name, value in BATCH.items()}
    if change == "nothing":
        given["labels"] = torch.full_like(given["labels"], -100)
    asked = {} if change == "logits" else {"fused_lm_head": True}
    expected, found = usual(**given, **asked), ours(**given, **asked)
    for name in ("logits",) if change == "logits" else ("log_probs", "entropy"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
