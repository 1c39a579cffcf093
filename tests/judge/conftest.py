from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smartdpp.models import Tiny


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random one with the tiny model's tokenizer and its chat template."""
    return make_reward_model(tmp_path_factory.mktemp("reward"))


def make_reward_model(folder: Path, labels: int = 1) -> Path:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = Tiny().tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=labels,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForSequenceClassification(config)
        model.score.weight.data.mul_(50)  # so that answers differ
        model.save_pretrained(folder)
    return folder
