"""Finetuning on exactly the mixture: LoRA, 4-bit QLoRA or all weights, through TRL's SFTTrainer.

Rows are tokenized here (see smartdpp.models.tokens) and handed over with their labels, so nothing is dropped,
truncated or packed on the way; that is asserted. The loss is on the response and its end token only, of a
conversation on those of its trained turns: its mean over a step's tokens, or, as SMART's authors train, over
its examples, where a short response weighs as much as a long one. On one device the same seed gives the same
weights, also after a kill: training goes on from its last checkpoint. With ``processes`` above 1 the same
function runs in every process of `accelerate launch`, on its share of the rows that one process would take in
each step (smartdpp.finetune.steps): losses agree but for rounding. ``parallel`` says whether every process
holds the whole model (ddp) or its part of it (fsdp).
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.errors import Diverged, NotFinite
from smartdpp.finetune.kept import close, keeping, lost
from smartdpp.finetune.lora import fuse
from smartdpp.finetune.packed import pack
from smartdpp.finetune.steps import loader, order, peak_share
from smartdpp.models.finetuned import load_finetuned
from smartdpp.models.tokens import IGNORED
from smartdpp.models.turns import encode_row
from smartdpp.runtime import threads
from smartdpp.runtime.products import quick_products
from smartdpp.store import disk
from smartdpp.store.disk import write_text
from smartdpp.types import Keep, Model, TrainingFacts

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
from smartdpp.finetune.recipe import Hyperparameters

log = logging.getLogger(__name__)


# for a process whose share of a step is no row: adds zero to the loss
NOTHING = {"input_ids": [0, 0], "labels": [IGNORED, IGNORED]}


def train(
    recipe: Hyperparameters,
    model: Model,
    rows: pa.Table,
    out: Path,
    seed: int,
    start: Path | None = None,
    keep: Keep = None,
) -> TrainingFacts:
    """The training itself, in this process (one of several under `accelerate launch`)."""
    import transformers
    from transformers.trainer_callback import ProgressCallback

    from smartdpp.runtime.device import compute_dtype, device_name

    transformers.set_seed(seed)  # before the adapter's random start, which SFTTrainer draws first
    tokenizer = model.tokenizer()
    dataset = tokenized(tokenizer, model.format, rows)
    checkpoints = out / "checkpoints"
    # first: the model is loaded by how it will be spread
    arguments = _arguments(recipe, checkpoints, len(rows), seed)
    trainer = _trainer(recipe)(
        model=_load(recipe, model, start),
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=None if start else _adapter(recipe),
    )
    if recipe.method == "lora":
        fuse(trainer.model)
        pack(trainer.model.get_base_model())
    if recipe.parallel == "fsdp":
        _in_float32(trainer)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_loss_bar())
    trainer.add_callback(_finite(recipe))
    trainer.add_callback(_complete())
    trainer.add_callback(_sharing())
    kept = recipe.kept(len(rows), keep)
    trainer.add_callback(keeping(recipe, trainer, kept, out))
    if trainer.args.world_size != recipe.processes:
        raise AssertionError(
            f"training runs in {trainer.args.world_size} processes where the recipe says {recipe.processes}"
        )
    if trainer.train_dataset["input_ids"][:] != dataset["input_ids"][:]:
        raise AssertionError("the trainer's rows are not the mixture's rows: nothing was trained")
    with quick_products():
        trainer.train(resume_from_checkpoint=_last_complete(checkpoints, kept))
    # of the whole training, also before an interruption
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    if recipe.parallel != "fsdp":
        _refuse_nan(recipe, trainer, steps[-1]["learning_rate"])
    facts: TrainingFacts = {
        "method": recipe.method,
        "rows": len(rows),
        "steps": trainer.state.global_step,
        "tokens": sum(map(len, dataset["input_ids"])),
        "response_tokens": sum(sum(label != IGNORED for label in labels) for labels in dataset["labels"]),
        "trainable_parameters": trainer.model.num_parameters(only_trainable=True),
        "train_loss": sum(entry["loss"] for entry in steps) / len(steps),
        "dtype": str(compute_dtype()).removeprefix("torch."),
        "device": device_name(),
        "processes": recipe.processes,
        "seed": seed,
    }
    if facts["steps"] != recipe.steps(len(rows)):
        raise AssertionError(
            f"trained {facts['steps']} steps where the recipe says {recipe.steps(len(rows))}"
        )
    weights = _gathered(trainer) if recipe.parallel == "fsdp" else None
    if trainer.is_world_process_zero():
        trainer.model.save_pretrained(out, safe_serialization=True, state_dict=weights)
        tokenizer.save_pretrained(out)
        write_text(out / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in steps))
        shutil.rmtree(checkpoints)
        close(kept, out)
    return facts


def together(before: TrainingFacts, last: TrainingFacts) -> TrainingFacts:
    """The facts of two trainings, the second of which began where the first had ended, as those of one."""
    steps = before["steps"] + last["steps"]
    return last | {
        "rows": before["rows"] + last["rows"],
        "steps": steps,
        "tokens": before["tokens"] + last["tokens"],
        "response_tokens": before["response_tokens"] + last["response_tokens"],
        "train_loss": (before["train_loss"] * before["steps"] + last["train_loss"] * last["steps"]) / steps,
    }


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line."""
    return (
        f"{facts['method']} on {facts['rows']} rows, {facts['steps']} steps, "
        f"{facts['trainable_parameters']} weights trained in "
        f"{facts['dtype']} on {facts['device']}, train loss {facts['train_loss']:.3f}"
    )


def tokenized(tokenizer: PreTrainedTokenizerBase, fmt: str, rows: pa.Table) -> Dataset:
    """input_ids and labels per row, in the table's order; of what is not trained, the labels are ignored by
    the loss."""
    from datasets import Dataset

    examples = [encode_row(tokenizer, fmt, row) for row in rows.to_pylist()]
    return Dataset.from_dict(
        {
            "input_ids": [example.ids for example in examples],
            "labels": [example.labels for example in examples],
        }
    )


def _trainer(recipe: Hyperparameters) -> Any:
    import torch
    from torch.optim.lr_scheduler import LambdaLR
    from trl import SFTTrainer

    class Exact(SFTTrainer):
        """Every row once an epoch, whatever the processes and micro-batches: transformers' own loader repeats
        some to even them out.

        And every step moves: transformers' own schedules begin their warm-up at a learning rate of 0. Logits
        are made where a label needs them: TRL, where it has no Triton, makes those of the prompts too.
        """

        where: Any = None  # bool[b, t - 1] of the batch at work: positions whose next token has a label

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            model = self.accelerator.unwrap_model(self.model)
            inner = model.get_base_model() if hasattr(model, "get_base_model") else model
            inner.base_model.register_forward_hook(self._labelled_only)

        def _labelled_only(self, module: Any, inputs: Any, output: Any) -> Any:
            if self.where is not None:
                output.last_hidden_state = output.last_hidden_state[:, :-1][self.where][None]
            return output

        @contextmanager
        def labelled(self, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
            """Inputs for which the fused head gives what it gives for the n labelled positions alone, [1,
            n]."""
            labels = inputs["labels"][:, 1:]
            self.where = labels != IGNORED
            try:
                yield inputs | {"shift_labels": labels[self.where][None]}
            finally:
                self.where = None

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            with self.labelled(inputs) as labelled:
                return super().compute_loss(model, labelled, *args, **kwargs)

        def get_train_dataloader(self) -> Any:
            dataset, collate, seed = self.train_dataset, self.data_collator, self.args.data_seed
            lengths = list(map(len, dataset["input_ids"]))
            drawn = partial(order, lengths, recipe.batch_size, seed, grouped=recipe.group_by_length)
            return loader(
                dataset, drawn, recipe.deal, self.args.process_index, lambda rows: collate(rows or [NOTHING])
            )

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            share = partial(peak_share, recipe.scheduler, recipe.warmup, num_training_steps)
            self.lr_scheduler, self._created_lr_scheduler = LambdaLR(optimizer or self.optimizer, share), True
            return self.lr_scheduler

    if recipe.loss == "token":
        return Exact

    class PerExample(Exact):
        """The mean over a step's examples of -1/T_i Σ_t log p(y_t | x, y_<t), whatever the micro-batches and
        processes they come in."""

        loss_is_scaled_for_ga = True  # divided by all examples of the step, not by those of a micro-batch

        def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
            examples = sum(batch["labels"].ne(IGNORED).any(1).sum() for batch in batch_samples)
            return self.accelerator.gather(torch.as_tensor(examples, device=device)).sum()

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            with self.labelled(inputs) as labelled:
                outputs = model(**labelled, use_cache=False, fused_lm_head=True)  # log_probs [1, n]
                counts, rows = self.where.sum(dim=1).clamp(min=1), self.where.nonzero()[:, 0]
            means = (
                outputs.log_probs.new_zeros(len(counts)).index_add(0, rows, -outputs.log_probs[0]) / counts
            )
            # gradients are averaged over processes
            loss = means.sum() / num_items_in_batch * self.accelerator.num_processes
            return (loss, outputs) if return_outputs else loss

    return PerExample


def _load(recipe: Hyperparameters, model: Model, start: Path | None) -> Any:
    if start is not None and recipe.method != "full":
        from peft import PeftModel

        return PeftModel.from_pretrained(_load(recipe, model, None), start, is_trainable=True)
    import torch

    from smartdpp.runtime.device import compute_dtype

    if recipe.method == "qlora":
        from transformers import BitsAndBytesConfig

        four_bit = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype(),
        )
        return model.load(dtype=compute_dtype(), quantization_config=four_bit)
    # all weights train in float32 (bfloat16 would lose small updates); under LoRA the frozen base can be
    # bfloat16
    return load_finetuned(model, start, dtype=torch.float32 if recipe.method == "full" else compute_dtype())


def _in_float32(trainer: Any) -> None:
    """With bfloat16 weights in use, gradients are summed over processes, and log-probabilities handed on, in
    float32, as unsharded."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    if trainer.args.bf16:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = policy


def _gathered(trainer: Any) -> dict[str, Any]:
    """All weights, on the first process, from their parts: for every process to call. Tied ones once, as an
    unsharded model saves them."""
    weights = trainer.accelerator.get_state_dict(trainer.model)
    return {name: value for name, value in weights.items() if name not in trainer.model.all_tied_weights_keys}


def _adapter(recipe: Hyperparameters) -> Any:
    if recipe.method == "full":
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=recipe.target_modules,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _arguments(recipe: Hyperparameters, checkpoints: Path, rows: int, seed: int) -> Any:
    import torch
    from trl import SFTConfig

    from smartdpp.runtime.device import compute_dtype

    sharded = recipe.parallel == "fsdp"
    # before the processes meet: weights are read by the first alone, and gathered over gloo to be written
    if sharded:
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
    arguments = SFTConfig(
        output_dir=str(checkpoints),
        max_steps=recipe.steps(rows),
        per_device_train_batch_size=recipe.micro_batch_size,
        gradient_accumulation_steps=recipe.deal.passes(recipe.batch_size),
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        gradient_checkpointing=recipe.gradient_checkpointing and not sharded,  # sharding has its own
        fsdp=sharded,
        fsdp_config={
            "cpu_ram_efficient_loading": True,
            "activation_checkpointing": recipe.gradient_checkpointing,
        }
        if sharded
        else None,
        max_length=None,  # the corpus stage has filtered by length: nothing is left to truncate
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        bf16=compute_dtype() is torch.bfloat16,
        # it would put the mean of the steps before in the place of a loss that is not finite
        logging_nan_inf_filter=False,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=False,
        seed=seed,
        data_seed=seed,
    )
    # one process, one GPU: where several are visible the trainer would split every batch over all of them, in
    # another batch size
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _loss_bar() -> Any:
    from transformers.trainer_callback import ProgressCallback

    class LossBar(ProgressCallback):
        """The usual bar with the loss behind it, instead of a printed dictionary per step."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if self.training_bar is not None and "loss" in logs:
                self.training_bar.set_postfix(loss=f"{logs['loss']:.3f}")

    return LossBar()


def _finite(recipe: Hyperparameters) -> Any:
    from transformers import TrainerCallback

    class Finite(TrainerCallback):
        """Ends a training at the first step whose loss or gradient is no number, before that step's
        checkpoint."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            seen = {"loss": logs.get("loss"), "gradient's norm": logs.get("grad_norm")}
            for name, value in seen.items():
                if value is None or math.isfinite(value):
                    continue
                if name == "loss" and state.global_step == 1:
                    raise NotFinite(
                        f"the loss is {value} at step 1 of {state.max_steps}, before training has changed "
                        "any weight: the model itself "
                        "gives it for these rows; check the model's weights, and that its dtype holds their "
                        "range"
                    )
                raise _diverged(
                    recipe,
                    f"the {name} is {value} at step {state.global_step} of {state.max_steps}",
                    logs["learning_rate"],
                )

    return Finite()


def _refuse_nan(recipe: Hyperparameters, trainer: Any, learning_rate: float) -> None:
    """Diverged, if the last step has left weights, or a model, without finite numbers: no loss has seen that
    one's weights yet."""
    import torch

    after = f"after the last step, {trainer.state.global_step}"
    for name, weights in trainer.model.named_parameters():
        if weights.requires_grad and not weights.isfinite().all():
            raise _diverged(recipe, f"{name} holds NaN or infinite weights {after}", learning_rate)
    trainer.model.eval()
    ids = torch.tensor([trainer.train_dataset[0]["input_ids"]], device=trainer.args.device)
    with torch.no_grad():
        if not trainer.model(ids).logits.isfinite().all():
            raise _diverged(recipe, f"the model's logits are NaN or infinite {after}", learning_rate)


def _diverged(recipe: Hyperparameters, what: str, learning_rate: float) -> Diverged:
    return Diverged(
        f"training diverged: {what}, with a learning rate of {learning_rate:.3g}; try a lower "
        "recipe.learning_rate (it is "
        f"{recipe.learning_rate:g}), a longer recipe.warmup ({recipe.warmup:g}) or a lower "
        f"recipe.max_grad_norm ({recipe.max_grad_norm:g})"
    )


def _sharing() -> Any:
    from transformers import TrainerCallback

    class Sharing(TrainerCallback):
        """Between steps, the share of this machine's cores that is this process's by now."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            threads.settle()

    return Sharing()


def _complete() -> Any:
    from accelerate import PartialState
    from transformers import TrainerCallback

    class Complete(TrainerCallback):
        """A checkpoint counts once all of it is on the disk, which a file of its own says, with the sizes of
        the others."""

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            PartialState().wait_for_everyone()  # each process writes a file of its own
            if state.is_world_process_zero:
                # of tens of GB, now and then
                disk.close_folder(Path(args.output_dir) / f"checkpoint-{state.global_step}", hashes=False)

    return Complete()


def _last_complete(checkpoints: Path, kept: list[int]) -> str | None:
    """The newest checkpoint that was on the disk before the interruption and is what it was, as are those to
    be ``kept`` of the steps before it; others are told and removed."""
    found = sorted(
        checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True
    )
    for path in found:
        step = int(path.name.split("-")[1])
        damage = disk.damage(path) or lost(checkpoints.parent, [each for each in kept if each <= step])
        if damage is None:
            return str(path)
        log.warning(
            "%s is not complete (%s): training goes on from the one before it, or from the beginning",
            path,
            damage,
        )
        shutil.rmtree(path, ignore_errors=True)  # each process of the training comes by
    return None
