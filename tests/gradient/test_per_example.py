"""Per-example gradients from one batched pass are those of autograd, one example at a time; their sketch
keeps inner products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smartdpp.errors import InputError
from smartdpp.gradient import fisher_rows, gradients, linear_layers, reduction
from smartdpp.gradient.reductions import Sketch, _orthonormal
from smartdpp.models import Tiny
from smartdpp.models.tokens import Encoded, encode

PINNED = [-0.801767, 0.202773, 0.143321]
TEXTS = [
    ("What is 3 plus 4?", "7"),
    ("", "a longer response"),
    ("Name a colour.", "red"),
    ("x" * 40, "y" * 9),
    ("Is 5 odd?", "yes"),
]


@pytest.fixture(scope="module")
def model():
    return Tiny().load(dtype=torch.float32)


@pytest.fixture(scope="module")
def examples() -> list[Encoded]:
    tokenizer = Tiny().tokenizer()
    return [encode(tokenizer, "chat", *text) for text in TEXTS]


def by_autograd(
    model, examples: list[Encoded], layers: str
) -> tuple[list[dict[str, torch.Tensor]], np.ndarray]:
    """The weight gradients [d_out, d_in] of each example and its loss, by the textbook: batch size 1, the
    model's own loss."""
    modules = linear_layers(model, layers)
    every, losses = [], []
    for ids, n_prompt in examples:
        model.requires_grad_(False)
        for module in modules.values():
            module.weight.requires_grad_(True)
        labels = torch.tensor([[-100] * n_prompt + ids[n_prompt:]])
        loss = model(input_ids=torch.tensor([ids]), labels=labels).loss
        every.append(
            dict(zip(modules, torch.autograd.grad(loss, [m.weight for m in modules.values()]), strict=True))
        )
        losses.append(loss.item())
    return every, np.array(losses)


def flat(gradient: dict[str, torch.Tensor]) -> np.ndarray:
    return torch.cat([part.flatten() for part in gradient.values()]).numpy()


def vectors(model, how, examples: list[Encoded], max_tokens: int = 10_000) -> np.ndarray:
    X = np.full((len(examples), how.size), np.nan, dtype=np.float32)
    for done in gradients(model, how, examples, pad_id=0, max_tokens=max_tokens):
        X[done.rows] = done.vectors
    return X


@pytest.mark.parametrize("layers", ["attention", "all_linear"])
def test_exact_gradients_and_losses_are_autograds(model, examples, layers: str) -> None:
    expected, losses = by_autograd(model, examples, layers)
    (done,) = gradients(
        model, reduction(model, "exact", layers=layers), examples, pad_id=0, max_tokens=10_000
    )
    for row, vector, loss, norm in zip(done.rows, done.vectors, done.loss, done.norm, strict=True):
        want = flat(expected[row])
        np.testing.assert_allclose(vector, want, atol=1e-5 * np.abs(want).max())
        assert loss == pytest.approx(losses[row], rel=1e-5)
        assert norm == pytest.approx(np.linalg.norm(want), rel=1e-5)
    assert done.n_tokens == sum(len(example.ids) for example in examples)


def test_the_sketch_is_the_projected_gradient_laid_around_a_circle(model, examples) -> None:
    modules = linear_layers(model)
    sketch = Sketch(modules, dim=100, seed=3, rank=7)
    expected, _ = by_autograd(model, examples, "attention")
    for row, x in enumerate(vectors(model, sketch, examples)):
        circle, place, P = np.zeros(100), 0, None
        for name, G in expected[row].items():
            P = sketch.P.get(name, P)  # k and v read what q reads, and share its projection
            for entry in (P.T @ G.T @ sketch.Q[name]).flatten() * sketch.signs[name]:
                circle[place % 100] += entry
                place += 1
        np.testing.assert_allclose(x, circle, atol=1e-5 * np.abs(circle).max())


def test_lora_recipe_is_a_projection_of_the_gradient_of_b(model, examples) -> None:
    rank = 8
    lora = reduction(model, "lora", dim=64, lora_rank=rank)
    expected, _ = by_autograd(model, examples, "attention")
    for row, x in enumerate(vectors(model, lora, examples)):
        want = sum(lora.R[name] @ (G @ lora.A[name]).flatten().numpy() for name, G in expected[row].items())
        np.testing.assert_allclose(x, want, atol=1e-5 * np.abs(want).max())
    spread = torch.cat([A.flatten() for A in lora.A.values()]).std().item()
    assert spread == pytest.approx(rank**1.5 / rank / rank, rel=0.1)  # A's standard deviation 1/r, times α/r


def test_the_fisher_diagonal_is_the_mean_square_of_each_weight_row(model, examples) -> None:
    # through the gradient itself; the short ones go through products of tokens
    long = Encoded(list(range(3, 203)), 150)
    expected, _ = by_autograd(model, [*examples, long], "attention")
    seen = 0
    for rows, v in fisher_rows(model, [*examples, long], pad_id=0, max_tokens=128):
        for row, line in zip(rows, v, strict=True):
            want = torch.cat([G.square().mean(1) for G in expected[row].values()]).numpy()
            np.testing.assert_allclose(line, want, rtol=1e-3, atol=1e-6 * want.max())
            seen += 1
    assert seen == len(examples) + 1


@pytest.mark.parametrize("projection", ["sketch", "exact"])
def test_padding_batches_and_order_change_nothing(model, examples, projection: str) -> None:
    how = reduction(model, projection, dim=256)
    one = vectors(model, how, examples, max_tokens=1)
    for max_tokens in (60, 10_000):
        np.testing.assert_allclose(
            vectors(model, how, examples, max_tokens), one, atol=1e-4 * np.linalg.norm(one, axis=1).min()
        )
    order = [3, 0, 4, 2, 1]
    shuffled = vectors(model, how, [examples[i] for i in order])
    np.testing.assert_allclose(shuffled, one[order], atol=1e-4 * np.linalg.norm(one, axis=1).min())


def test_the_seed_decides_the_sketch_and_nothing_else_does(model, examples) -> None:
    torch.manual_seed(1)
    a = vectors(model, reduction(model, dim=128, seed=5), examples)
    torch.manual_seed(2)
    b = vectors(model, reduction(model, dim=128, seed=5), examples)
    np.testing.assert_array_equal(a, b)
    assert (
        np.abs(vectors(model, reduction(model, dim=128, seed=6), examples) - a).max() > 0.01 * np.abs(a).max()
    )
    # drawn from a generator of the layer's own name: the same numbers on every machine
    np.testing.assert_allclose(
        _orthonormal(32, 8, 0, "model.layers.0.self_attn.q_proj/in")[0, :3], PINNED, atol=1e-5
    )


@pytest.mark.parametrize(("dim", "rank"), [(64, 6), (64, 16)], ids=["room for all", "overlapping"])
def test_inner_products_are_unbiased(model, examples, dim: int, rank: int) -> None:
    G = vectors(model, reduction(model, "exact"), examples)
    modules = linear_layers(model)
    draws = np.stack(
        [(S := vectors(model, Sketch(modules, dim, seed, rank=rank), examples)) @ S.T for seed in range(60)]
    )
    error = draws.mean(0) - G @ G.T
    standard = draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(error) < 4.5 * standard).all()


def test_with_room_for_everything_the_sketch_is_an_isometry(model, examples) -> None:
    G = vectors(model, reduction(model, "exact"), examples)
    S = vectors(model, Sketch(linear_layers(model), dim=G.shape[1], seed=0, rank=32), examples)
    np.testing.assert_allclose(S @ S.T, G @ G.T, rtol=1e-4, atol=1e-5 * (G @ G.T).max())


def test_layers_are_chosen_by_what_they_are(model) -> None:
    kinds = {name.rsplit(".", 1)[1] for name in linear_layers(model, "attention")}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj"}
    every = linear_layers(model, "all_linear")
    assert {name.rsplit(".", 1)[1] for name in every} == kinds | {"gate_proj", "up_proj", "down_proj"}
    assert model.get_output_embeddings() not in every.values()


def test_a_model_without_such_layers_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    # its layers are Conv1D
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=2, n_positions=16))
    with pytest.raises(InputError, match="GPT2LMHeadModel has no linear layer"):
        linear_layers(gpt2)


def test_no_gradient_of_a_weight_is_kept_and_no_hook_stays(model, examples) -> None:
    vectors(model, reduction(model, dim=64), examples)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_memory_that_runs_out_in_the_backward_pass_changes_nothing(
    model, examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = reduction(model, dim=256)
    whole, add = vectors(model, how, examples), how.add

    def short(name, kept, delta, out):
        if len(out) > 2 and "layers.0" in name:  # the second half of the pass: layer 1 has been added already
            raise torch.OutOfMemoryError("simulated")
        add(name, kept, delta, out)

    monkeypatch.setattr(how, "add", short)
    np.testing.assert_allclose(
        vectors(model, how, examples), whole, atol=1e-4 * np.linalg.norm(whole, axis=1).min()
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_sketch_is_the_processors(examples) -> None:
    cpu, gpu = Tiny().load(dtype=torch.float32), Tiny().load(dtype=torch.float32).cuda()
    a, b = vectors(cpu, reduction(cpu, dim=256), examples), vectors(gpu, reduction(gpu, dim=256), examples)
    np.testing.assert_allclose(a, b, atol=1e-3 * np.linalg.norm(a, axis=1).min())


@pytest.mark.real
def test_on_a_real_model_distances_keep_within_five_percent() -> None:
    from smartdpp.models import SmolLM2

    real = SmolLM2()
    tokenizer, weights = real.tokenizer(), real.load(dtype=torch.float32)
    few = [
        encode(tokenizer, "chat", f"What is {i} times {i + 3}? {'Think. ' * (i % 5)}", str(i * (i + 3)))
        for i in range(16)
    ]

    def distances(X: np.ndarray) -> np.ndarray:
        X = X / np.linalg.norm(X, axis=1, keepdims=True)
        return np.sqrt(2 - 2 * (X @ X.T)[np.triu_indices(len(X), 1)])

    ratio = distances(vectors(weights, reduction(weights), few)) / distances(
        vectors(weights, reduction(weights, "exact"), few)
    )
    assert abs(ratio.mean() - 1) <= 0.02
    assert ratio.std() <= 0.05
