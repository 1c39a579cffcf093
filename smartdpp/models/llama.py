"""The layer of models like Llama in few operations, for what reads many tokens on a processor: RMSNorm,
attention with rotary positions, RMSNorm, SwiGLU, with LoRA adapters or without.

Tokens stand one after another, [n, d], without padding; whoever uses this makes attention row by row.
Training (`smartdpp.finetune.packed`) and scoring (`smartdpp.evaluation.reading`) do, each held against
transformers' own layers by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

# RMSNorm, attention with rotary positions, RMSNorm, SwiGLU; of each a test holds it against transformers' own
FAMILIES = ("llama", "mistral", "qwen2")
FEW = 64  # tokens up to which a product is a third faster from the weights' side


def suits(model: Any) -> bool:
    """Whether the causal language model is of such layers, all in float32 on a processor."""
    import torch

    config = model.config
    return (
        config.model_type in FAMILIES
        and config.hidden_act == "silu"
        and not config.attention_dropout
        and model.lm_head.bias is None
        and model.model.rotary_emb.rope_type in ("default", "linear", "llama3")  # no function of the length
        and all(w.dtype == torch.float32 and w.device.type == "cpu" for w in model.parameters())
    )


class Linear(NamedTuple):
    """y = x Wᵀ + bias + s (x Aᵀ) Bᵀ; A and B may be None."""

    W: Tensor  # [o, d]
    bias: Tensor | None
    A: Tensor | None  # [r, d]
    B: Tensor | None  # [o, r]
    s: float


@dataclass(frozen=True)
class Block:
    """A layer's weights."""

    norms: tuple[tuple[Tensor, float], tuple[Tensor, float]]  # weight [d], epsilon
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    gate: Linear
    up: Linear
    down: Linear

    @property
    def linear(self) -> tuple[Linear, ...]:
        return self.q, self.k, self.v, self.o, self.gate, self.up, self.down


def blocks_of(model: Any) -> list[Block] | None:
    """Every layer's weights as they are now; None where one has more than the formula."""
    found = []
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        norms = [layer.input_layernorm, layer.post_attention_layernorm]
        modules = [
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.o_proj,
            mlp.gate_proj,
            mlp.up_proj,
            mlp.down_proj,
        ]
        linear = [formula(module) for module in modules]
        if any(one is None for one in linear) or any(norm.weight.requires_grad for norm in norms):
            return None
        first, second = ((norm.weight, norm.variance_epsilon) for norm in norms)
        found.append(Block((first, second), *(Linear(*one) for one in linear if one is not None)))
    return found


def formula(layer: Any) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, float] | None:
    """W, bias, A, B and s of a layer with an adapter or without (A and B None); None where there is more than
    the formula: several adapters, dropout, DoRA, other types of numbers."""
    from peft.tuners.lora import Linear
    from torch import nn

    if type(layer) is nn.Linear:
        return None if layer.weight.requires_grad else (layer.weight, layer.bias, None, None, 0.0)
    if type(layer) is not Linear or layer.disable_adapters or layer.merged or layer.lora_variant:
        return None
    if len(layer.active_adapters) != 1:
        return None
    (name,) = layer.active_adapters
    base, A, B = layer.base_layer, layer.lora_A[name], layer.lora_B[name]
    plain = A.bias is None and B.bias is None and not getattr(layer.lora_dropout[name], "p", 0.0)
    same = base.weight.dtype == A.weight.dtype == B.weight.dtype and not base.weight.requires_grad
    return (base.weight, base.bias, A.weight, B.weight, layer.scaling[name]) if plain and same else None


def normalise(x: Tensor, norm: tuple[Tensor, float]) -> tuple[Tensor, Tensor]:
    """RMSNorm of x [n, d], and what each row was multiplied by, [n, 1]."""
    import torch

    weight, epsilon = norm
    r = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_().div_(x.shape[1]).add_(epsilon).rsqrt_()
    return (x * r).mul_(weight), r


def project(
    x: Tensor, layers: list[Linear], onto: Tensor | None = None
) -> tuple[list[Tensor], Tensor | None]:
    """Every layer's output, added to ``onto`` where that is given, and x Aᵀ of all their adapters."""
    import torch

    As = [layer.A for layer in layers if layer.A is not None]
    u = x @ torch.cat(As).t() if As else None
    outputs, column = [], 0
    for W, bias, A, B, s in layers:
        first = bias if onto is None else onto
        if len(x) <= FEW:
            y = (W @ x.t()).t().contiguous()
            y = y if first is None else y.add_(first)
        else:
            y = x @ W.t() if first is None else torch.addmm(first, x, W.t())
        if onto is not None and bias is not None:
            y += bias
        if A is not None and B is not None and u is not None:
            y.addmm_(u[:, column : column + len(A)], B.t(), alpha=s)
            column += len(A)
        outputs.append(y)
    return outputs, u


def turn(x: Tensor, turns: tuple[Tensor, Tensor], out: Tensor, way: int = 1) -> Tensor:
    """Rotary positions of x [heads, t, h] into ``out``; ``way`` -1 is the transposed rotation."""
    import torch

    cosine, sine = turns
    half = x.shape[-1] // 2
    torch.mul(x, cosine, out=out)
    out[..., :half].addcmul_(x[..., half:], sine[:, :half], value=-way)
    out[..., half:].addcmul_(x[..., :half], sine[:, half:], value=way)
    return out


def attention_of(Q: Tensor, K: Tensor, mask: Tensor) -> Tensor:
    """softmax(Q Kᵀ + mask) of Q [keys, queries, h] and K [keys, t, h]."""
    import torch

    return torch.baddbmm(mask.expand(len(K), -1, -1), Q, K.transpose(1, 2)).softmax(-1)


def by_head(x: Tensor, h: int) -> Tensor:
    """[t, heads h] seen as [heads, t, h]."""
    return x.view(len(x), -1, h).transpose(0, 1)
