"""A reward model: a sequence classification model with one output, by hub name or in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smartdpp.errors import InputError
from smartdpp.models.anatomy import Anatomy
from smartdpp.models.hub import Hub
from smartdpp.models.loading import refuse_not_finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class RewardModel(Hub):
    """It reads prompt and response as ``format`` has them, or with ``pair`` as its tokenizer joins two texts,
    which is what encoders (DeBERTa) were trained on."""

    pair: bool = False

    def anatomy(self) -> Anatomy | None:
        return None  # what is known of causal models does not hold

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from transformers import AutoModelForSequenceClassification

        model, loading = AutoModelForSequenceClassification.from_pretrained(
            **self.source(), use_safetensors=True, output_loading_info=True, **kwargs
        )
        if missing := sorted(loading["missing_keys"]):
            raise InputError(
                f"model.path={self.path}: {len(missing)} tensors are not among its weights, first "
                f"{missing[0]}, and would be random: give a model trained for sequence classification"
            )
        if model.config.num_labels != 1:
            raise InputError(
                f"model.path={self.path} has {model.config.num_labels} outputs: a reward model has one."
            )
        refuse_not_finite(model, f"model.path={self.path}")
        model.config.pad_token_id = self.tokenizer().pad_token_id
        return model
