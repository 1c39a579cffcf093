"""One batched backward pass, and what hooks take from it for every example of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from smartdpp.errors import InputError
from smartdpp.models.batches import IGNORED, Batch, run_batches
from smartdpp.models.turns import Example

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class Reduction(Protocol):
    """What becomes of a layer's inputs x[b, t, d_in] and output gradients δ[b, t, d_out]: p numbers per
    example, summed over layers."""

    size: int  # p
    modules: Mapping[str, nn.Linear]

    def keep(self, name: str, x: Tensor) -> Tensor:
        """What to remember of x until δ is known."""
        ...

    def add(self, name: str, kept: Tensor, delta: Tensor, out: Tensor) -> None:
        """Adds this layer's part to ``out`` float32[b, p]. Padding needs no care: δ is zero there."""
        ...


@dataclass(frozen=True)
class Gradients:
    """One batch's result, in the order of ``rows``."""

    rows: np.ndarray  # int64[b], positions in the given examples
    vectors: np.ndarray  # float32[b, p], not normalised
    loss: np.ndarray  # float32[b], mean nats per response token
    n_tokens: int  # without padding

    @property
    def norm(self) -> np.ndarray:
        """float32[b], L2: for a sketch, the estimate of the whole gradient's norm."""
        return np.linalg.norm(self.vectors, axis=1)


def gradients(
    model: PreTrainedModel,
    reduction: Reduction,
    examples: Sequence[Example],
    pad_id: int,
    max_tokens: int = 1024,
    ids: Sequence[str] | None = None,
) -> Iterator[Gradients]:
    """The reduction of every example's gradient, one item per batch. The model is left frozen and in eval
    mode.

    ``max_tokens`` bounds a batch with its padding; InputError names a row (by ``ids``) that does not fit into
    memory alone.
    """
    with _hooked(model, reduction) as work:
        for batch, (vectors, loss) in run_batches(examples, max_tokens, pad_id, work, ids):
            yield Gradients(batch.rows, vectors, loss, int(batch.attention_mask.sum()))


@contextmanager
def _hooked(
    model: PreTrainedModel, reduction: Reduction
) -> Iterator[Callable[[Batch], tuple[np.ndarray, np.ndarray]]]:
    import torch

    model.eval().requires_grad_(False)
    out: Tensor  # of the batch at work
    where: Tensor  # bool[b, t - 1], positions whose next token has a label

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
            if inputs[0].shape[:2] != where.shape:
                raise InputError(
                    f"layer {name} does not see whole sequences [batch, tokens, features]: choose other "
                    "layers"
                )
            with torch.no_grad():
                # from the pass, which it would keep in memory
                kept = reduction.keep(name, inputs[0]).detach()
            into = out
            # all weights are frozen: gradients flow down to the first layers watched, and no further
            if not output.requires_grad:
                output.requires_grad_()
            output.register_hook(lambda delta: reduction.add(name, kept, delta, into))

        return hook

    def labelled_only(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return inputs[0][where]  # logits are made where a label needs them, [n, vocabulary] in all

    def work(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        nonlocal out, where
        batch = batch.to(model.device)
        targets = batch.labels[:, 1:]
        where = targets != IGNORED
        out = torch.zeros(len(batch.rows), reduction.size, device=model.device)
        # no attention mask: padding stands to the right, where causal attention never looks; nothing follows
        # the last token
        logits = model(input_ids=batch.input_ids[:, :-1], use_cache=False).logits
        nats = torch.nn.functional.cross_entropy(logits.float(), targets[where], reduction="none")
        loss = torch.zeros(len(batch.rows), device=model.device).index_add(
            0, where.nonzero()[:, 0], nats
        ) / where.sum(1)
        loss.sum().backward()
        return out.cpu().numpy(), loss.detach().cpu().numpy()

    hooks: list[Any] = [
        module.register_forward_hook(watch(name)) for name, module in reduction.modules.items()
    ]
    hooks.append(model.get_output_embeddings().register_forward_pre_hook(labelled_only))
    try:
        yield work
    finally:
        for hook in hooks:
            hook.remove()
