"""Task2Vec against autograd one example at a time, its draw of examples, its resumption, and SMART on it end
to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from smartdpp.errors import InputError
from smartdpp.models import Tiny
from smartdpp.models.tokens import encode
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.run.stages import artifacts
from smartdpp.task_vectors import Task2Vec, task2vec
from smartdpp.task_vectors.task2vec import describe, load, relative, sample

N = 14
ROWS = pa.table(
    {
        "id": [f"{i:02d}" for i in range(N)],
        "task": [("b", "a", "c")[i % 3] if i < N - 1 else "single" for i in range(N)],
        "prompt": [f"prompt {'x' * i}" for i in range(N)],
        "response": [f"response {'yz' * (i % 4)}" for i in range(N)],
        "n_tokens": [40] * N,
    }
)


def test_a_vector_is_the_mean_of_its_examples_squared_gradients_each_with_sum_one(tmp_path: Path) -> None:
    model = Tiny(format="chat")
    facts = Task2Vec(model, examples=3, batch_tokens=200).measure(ROWS, tmp_path)
    F = np.load(tmp_path / "X.npy", allow_pickle=False)
    assert (facts["tasks"], facts["p"], facts["examples"], facts["tokens"]) == (4, F.shape[1], 10, 10 * 40)
    weights, tokenizer = model.load(dtype=torch.float32), model.tokenizer()
    attention = [p for name, p in weights.named_parameters() if "self_attn" in name]
    drawn = sample(ROWS, 3, seed=0)
    for j, task in enumerate(["b", "a", "c", "single"]):
        total = []
        for row in ROWS.take(drawn[task]).to_pylist():
            assert row["task"] == task
            ids, n_prompt = encode(tokenizer, "chat", row["prompt"], row["response"])
            labels = torch.tensor([[-100] * n_prompt + ids[n_prompt:]])
            gradient = torch.autograd.grad(weights(torch.tensor([ids]), labels=labels).loss, attention)
            # over the input side of every weight
            squares = torch.cat([g.square().mean(1) for g in gradient]).numpy()
            total.append(squares / squares.sum())
        np.testing.assert_allclose(F[j], np.mean(total, axis=0), rtol=1e-3, atol=1e-9)
    vectors = load(tmp_path)
    assert list(vectors) == ["b", "a", "c", "single"]
    np.testing.assert_allclose(np.stack(list(vectors.values())), F / (F + F.mean(0)), rtol=1e-5)


def test_a_weight_that_no_task_pulls_at_is_zero() -> None:
    assert relative(np.array([[0.0, 1.0], [0.0, 3.0]])).tolist() == [
        [0, pytest.approx(1 / 3)],
        [0, pytest.approx(3 / 5)],
    ]


def test_a_tasks_draw_depends_on_its_own_examples_and_the_seed_alone() -> None:
    drawn = {task: set(ROWS["id"].take(rows).to_pylist()) for task, rows in sample(ROWS, 3, seed=0).items()}
    assert {task: len(ids) for task, ids in drawn.items()} == {"b": 3, "a": 3, "c": 3, "single": 1}
    shuffled = ROWS.take(np.random.default_rng(0).permutation(N))
    assert {
        task: set(shuffled["id"].take(rows).to_pylist()) for task, rows in sample(shuffled, 3, seed=0).items()
    } == drawn
    without_b = ROWS.filter(pa.compute.not_equal(ROWS["task"], "b"))
    assert set(without_b["id"].take(sample(without_b, 3, seed=0)["a"]).to_pylist()) == drawn["a"]
    draws = {tuple(sorted(sample(ROWS, 3, seed=seed)["a"])) for seed in range(8)}
    assert len(draws) > 1
    fewer, more = sample(ROWS, 2, seed=0), sample(ROWS, 3, seed=0)
    assert all(more[task][:2].tolist() == fewer[task].tolist() for task in more)


def test_a_killed_measurement_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted_after: Callable
) -> None:
    monkeypatch.setattr(task2vec, "SHARD", 1)
    for folder in ("whole", "resumed"):
        (tmp_path / folder).mkdir()
    measured = Task2Vec(Tiny(), examples=2)
    measured.measure(ROWS, tmp_path / "whole")
    with interrupted_after(2), pytest.raises(KeyboardInterrupt):
        measured.measure(ROWS, tmp_path / "resumed")
    measured.measure(ROWS, tmp_path / "resumed")
    for name in ("X.npy", "tasks.json"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.usefixtures("forked_launch")
def test_two_processes_leave_the_bytes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task2vec, "SHARD", 1)
    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
        Task2Vec(Tiny(), examples=2, processes=processes).measure(ROWS, tmp_path / str(processes))
    assert (tmp_path / "1" / "X.npy").read_bytes() == (tmp_path / "2" / "X.npy").read_bytes()


def test_smart_chooses_tasks_by_the_model(small_run: Callable[..., Run]) -> None:
    mean = small_run("until=mixture")
    assert "task vectors" not in artifacts(mean)
    task2vec = small_run(
        "task_vector=task2vec", "task_vector.examples=2", "until=mixture", "strategy.num_tasks=2"
    )
    execute(task2vec)
    facts = task2vec.task_vectors.meta()["facts"]
    assert describe(facts) == f"4 tasks x {facts['p']}, from 8 examples"
    again = small_run(
        "task_vector=task2vec", "task_vector.examples=2", "strategy.num_tasks=3", "until=mixture"
    )
    assert again.task_vectors.finished
    assert again.mixture.key not in (task2vec.mixture.key, mean.mixture.key)


def test_no_examples_make_no_vector() -> None:
    with pytest.raises(InputError, match=r"task_vector\.examples is 0"):
        Task2Vec(Tiny(), examples=0)
