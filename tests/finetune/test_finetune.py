"""Finetuning trains on exactly the rows it is given, masks the prompt, repeats itself, and goes on after a
kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

from smartdpp.errors import Diverged, InputError, NotFinite
from smartdpp.finetune import Finetune
from smartdpp.finetune.trainer import IGNORED, _arguments, peak_share, tokenized
from smartdpp.models import Tiny
from smartdpp.models.checkpoints import checkpoints
from smartdpp.models.finetuned import load_finetuned

ROWS = pa.table(
    {"prompt": [f"What is {i} plus {i}?" for i in range(20)], "response": [str(2 * i) for i in range(20)]}
)
QUICK = {"batch_size": 8, "micro_batch_size": 4, "save_steps": 1}


def weights(folder: Path, name: str = "adapter_model.safetensors") -> dict[str, np.ndarray]:
    return load_file(folder / name)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_labels_are_the_response_and_its_end() -> None:
    tokenizer = Tiny().tokenizer()
    for row in tokenized(tokenizer, "plain", ROWS):
        trained = [label for label in row["labels"] if label != IGNORED]
        assert len(row["labels"]) == len(row["input_ids"])
        assert trained[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(trained[:-1]).strip().isdigit()


def test_every_row_passes_exactly_once_per_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as Collator

    seen = []
    collate = Collator.torch_call
    monkeypatch.setattr(
        Collator, "torch_call", lambda self, examples: seen.extend(examples) or collate(self, examples)
    )
    facts = Finetune(**QUICK).train(Tiny(), ROWS, tmp_path, seed=0)
    expected = tokenized(Tiny().tokenizer(), "plain", ROWS)
    assert sorted(row["input_ids"] for row in seen) == sorted(expected["input_ids"])
    assert sorted(row["labels"] for row in seen) == sorted(expected["labels"])
    assert facts["steps"] == 3
    assert facts["rows"] == 20
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
    assert all(np.linalg.norm(value) > 0 for name, value in weights(tmp_path).items() if "lora_B" in name)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("micro_batch_size", [2, 4, 8])
@pytest.mark.parametrize("loss", ["token", "example"])
def test_the_loss_is_a_mean_over_the_steps_tokens_or_over_its_examples(
    loss: str, micro_batch_size: int, tmp_path: Path
) -> None:
    import torch

    # one step, not full
    rows = pa.table({"prompt": ["Count."] * 6, "response": ["a" * length for length in (1, 2, 4, 8, 16, 32)]})
    recipe = Finetune(batch_size=8, micro_batch_size=micro_batch_size, loss=loss)
    recipe.train(Tiny(), rows, tmp_path, seed=0)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()

    model, totals, counts = Tiny().load(), [], []  # before the first step the adapter adds nothing
    for row in tokenized(Tiny().tokenizer(), "plain", rows):
        with torch.no_grad():
            log_p = model(torch.tensor([row["input_ids"]])).logits[0, :-1].log_softmax(-1)
        labels = torch.tensor(row["labels"])[1:]
        trained = labels != IGNORED
        totals.append(-log_p[trained, labels[trained]].sum().item())
        counts.append(int(trained.sum()))
    means = np.divide(totals, counts)
    expected = {"token": sum(totals) / sum(counts), "example": means.mean()}
    assert abs(expected["token"] - expected["example"]) > 1e-3
    assert json.loads(line)["loss"] == pytest.approx(expected[loss], rel=1e-4)


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        Finetune(**QUICK).train(Tiny(), ROWS, tmp_path / name, seed=seed)
        made.append(weights(tmp_path / name))
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


# the end of an epoch, the middle of one
@pytest.mark.parametrize(("group_by_length", "last"), [(True, 3), (True, 4), (False, 4)])
def test_an_interrupted_training_ends_with_the_same_weights(
    group_by_length: bool,
    last: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from transformers import Trainer

    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    recipe = Finetune(**QUICK, epochs=2, dropout=0.1, warmup=0.3, group_by_length=group_by_length)
    recipe.train(Tiny(), ROWS, tmp_path / "whole", seed=0)
    step = Trainer.training_step

    def stopped(self, *args, **kwargs):
        if self.state.global_step == last:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            recipe.train(Tiny(), ROWS, tmp_path / "broken", seed=0)
    checkpoints = tmp_path / "broken" / "checkpoints"
    (checkpoints / "checkpoint-9").mkdir()  # as a kill while saving leaves it
    shutil.copytree(checkpoints / f"checkpoint-{last}", checkpoints / "checkpoint-8")
    (checkpoints / "checkpoint-8" / "optimizer.pt").write_bytes(b"")  # as a power cut leaves it
    recipe.train(Tiny(), ROWS, tmp_path / "broken", seed=0)
    for damaged in (
        "checkpoint-9 is not complete (meta.json is missing)",
        "checkpoint-8 is not complete (optimizer.pt has 0 bytes",
    ):
        assert damaged in caplog.text
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    rates = [
        [json.loads(line)["learning_rate"] for line in (tmp_path / name / "log.jsonl").open()]
        for name in ("whole", "broken")
    ]
    assert rates[0] == rates[1] == [recipe.learning_rate * peak_share("cosine", 0.3, 6, t) for t in range(6)]


def test_all_weights_can_be_trained_and_loaded_again(tmp_path: Path) -> None:
    Finetune(method="full", **QUICK).train(Tiny(), ROWS, tmp_path, seed=0)
    tuned = load_finetuned(Tiny(), tmp_path).state_dict()
    base = Tiny().load().state_dict()
    assert any((tuned[name] != base[name]).any() for name in base)
    assert not list(tmp_path.rglob("*.bin"))
    assert not list(tmp_path.rglob("*.pt"))


def test_a_trainer_that_loses_rows_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import trl

    class Lossy(trl.SFTTrainer):
        def __init__(self, *args, train_dataset, **kwargs):
            super().__init__(*args, train_dataset=train_dataset.select(range(19)), **kwargs)

    monkeypatch.setattr(trl, "SFTTrainer", Lossy)
    with pytest.raises(AssertionError, match="not the mixture's rows"):
        Finetune(**QUICK).train(Tiny(), ROWS, tmp_path, seed=0)


def test_qlora_says_that_it_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "needs a CUDA device" in Finetune(method="qlora").check()[0]
    assert Finetune().check() == []


@pytest.mark.parametrize(
    ("bad", "right"),
    [
        (
            {"warmup": 100, "learning_rate": 0},
            "recipe.warmup=100: it is a share of the steps: at least 0 and below 1",
        ),
        ({"warmup": -1}, "recipe.warmup=-1: it is a share"),
        ({"warmup": 1}, "recipe.warmup=1: it is a share"),
        ({"warmup": float("nan")}, "recipe.warmup=nan: it is a share"),
        ({"dropout": 2}, "recipe.dropout=2: it is a probability: at least 0 and below 1"),
        ({"alpha": 0}, "recipe.alpha=0: it must be a whole number above 0"),
        ({"rank": -1}, "recipe.rank=-1: it must be a whole number above 0"),
        ({"batch_size": 0}, "recipe.batch_size=0: it must be a whole"),
        ({"micro_batch_size": 0}, "recipe.micro_batch_size=0: it must be a whole"),
        ({"batch_size": 8.0}, "recipe.batch_size=8.0: it must be a whole"),
        ({"save_steps": 0}, "recipe.save_steps=0: it must be a whole"),
        ({"processes": 0}, "recipe.processes=0: it must be a whole"),
        ({"learning_rate": 0}, "recipe.learning_rate=0: it must be a finite number above 0"),
        ({"learning_rate": float("inf")}, "recipe.learning_rate=inf: it must be a finite number above 0"),
        ({"learning_rate": "5e-4"}, "recipe.learning_rate=5e-4: it must be a finite number above 0"),
        ({"epochs": float("nan")}, "recipe.epochs=nan: it must be a finite number above 0"),
        ({"weight_decay": -5}, "recipe.weight_decay=-5: it must be a finite number, at least 0"),
        ({"max_grad_norm": 0}, "recipe.max_grad_norm=0: it must be a finite number above 0"),
    ],
)
def test_parameters_out_of_range_are_all_told_with_what_would_be_right(bad: dict, right: str) -> None:
    with pytest.raises(InputError) as refused:
        Finetune(**bad)
    assert right in str(refused.value)
    assert all(f"recipe.{name}=" in str(refused.value) for name in bad)


@pytest.mark.parametrize(
    ("rows", "epochs", "steps"), [(16, 1, 2), (17, 1, 3), (16, 2.5, 5), (1, 1, 1), (17, 3, 9), (17, 0.5, 2)]
)
def test_steps_follow_from_rows(rows: int, epochs: float, steps: int) -> None:
    assert Finetune(epochs=epochs).steps(rows) == steps


def test_an_epoch_is_whole_also_where_the_batch_does_not_divide_the_rows(tmp_path: Path) -> None:
    recipe = Finetune(batch_size=4, micro_batch_size=4, epochs=3)
    facts = recipe.train(Tiny(), ROWS.slice(0, 5), tmp_path, seed=0, keep="epoch")
    assert facts["steps"] == 6
    assert [one.step for one in checkpoints(tmp_path)] == [2, 4, 6]
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").open()][1::2] == [1, 2, 3]


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("steps", "warm"), [(1, 0), (3, 0), (29, 1), (1000, 30)])
def test_every_step_moves_by_the_schedules_formula(scheduler: str, steps: int, warm: int) -> None:
    """warm: 3 % of the steps, rounded."""
    made = [peak_share(scheduler, 0.03, steps, t) for t in range(steps)]
    rising, falling = made[:warm], made[warm:]
    assert rising == pytest.approx(np.arange(1, warm + 1) / (warm + 1))
    left = np.arange(steps - warm) / (steps - warm)
    expected = {
        "constant": np.ones(steps - warm),
        "linear": 1 - left,
        "cosine": np.cos(np.pi / 2 * left) ** 2,
    }[scheduler]
    assert falling == pytest.approx(expected)
    assert falling[0] == 1
    assert min(made) > 0
    assert peak_share(scheduler, 0, steps, 0) == 1


def test_a_training_that_warms_up_until_its_end() -> None:
    # the last is asked for, but no step
    assert [peak_share("cosine", 0.9, 3, t) for t in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_one_step_moves_all_weights_and_all_that_has_a_gradient_of_an_adapter(tmp_path: Path) -> None:
    """An adapter begins at B = 0. The gradient of A is B'G for some G: zero in the first step, in which B
    alone can move."""
    import torch

    base = {name: value.clone() for name, value in Tiny().load().state_dict().items()}
    eight, one = ROWS.slice(0, 8), {"batch_size": 8, "micro_batch_size": 8}
    for name in ("full", "one", "two"):
        (tmp_path / name).mkdir()
    Finetune(method="full", **one).train(Tiny(), eight, tmp_path / "full", seed=0)
    tuned = load_finetuned(Tiny(), tmp_path / "full").state_dict()
    assert [name for name in base if torch.equal(tuned[name], base[name])] == []

    Finetune(**one).train(Tiny(), eight, tmp_path / "one", seed=0)
    Finetune(**one, epochs=2).train(Tiny(), eight, tmp_path / "two", seed=0)
    after_one, after_two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(np.any(value) for name, value in after_one.items() if "lora_B" in name)
    assert [name for name in after_one if np.array_equal(after_one[name], after_two[name])] == []


@pytest.mark.parametrize(
    ("options", "rows", "said"),
    [
        (
            {"learning_rate": 1e30, "warmup": 0.5},
            20,
            "the loss is nan at step 2 of 3, with a learning rate of 6.67e+29",
        ),
        (
            {"method": "full", "learning_rate": 1e12},
            8,
            "logits are NaN or infinite after the last step, 1, with a learning rate of 1e+12",
        ),
        (
            {"method": "full", "learning_rate": 1e39},
            8,
            "holds NaN or infinite weights after the last step, 1, with a learning rate of 1e+39",
        ),
    ],
    ids=["in a step", "the model after the last", "the weights after the last"],
)
def test_a_training_that_diverges_says_at_which_step_and_what_to_try(
    options: dict, rows: int, said: str, tmp_path: Path
) -> None:
    # from its last checkpoint it diverges again, and has left nothing that passes for weights
    for _ in range(2):
        with pytest.raises(Diverged) as refused:
            Finetune(**QUICK, **options).train(Tiny(), ROWS.slice(0, rows), tmp_path, seed=0)
        assert said in str(refused.value)
        assert "try a lower recipe.learning_rate" in str(refused.value)
        assert not list(tmp_path.glob("*.safetensors"))


def test_a_model_without_finite_numbers_is_not_called_a_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    broken = Tiny().load()
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    monkeypatch.setattr(Tiny, "load", lambda self, **kwargs: broken)
    with pytest.raises(
        NotFinite, match="nan at step 1 of 1, before training has changed any weight: the model itself"
    ):
        Finetune(batch_size=20).train(Tiny(), ROWS, tmp_path, seed=0)


def test_one_process_trains_on_one_gpu_where_several_are_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import TrainingArguments

    setup = TrainingArguments.__dict__["_setup_devices"].func

    def among_four(arguments: TrainingArguments) -> torch.device:
        device = setup(arguments)
        arguments._n_gpu = 4
        return device

    with monkeypatch.context() as machine:
        machine.setattr(TrainingArguments, "_setup_devices", property(among_four))
        arguments = _arguments(Finetune(**QUICK), tmp_path, len(ROWS), seed=0)
    assert arguments.n_gpu == 1
    assert arguments.train_batch_size == QUICK["micro_batch_size"]
