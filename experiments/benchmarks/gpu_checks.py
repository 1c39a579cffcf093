"""What gpu.py runs once on the processor and once on the device: each a piece of a cell's work, and how the
two answers are held together.

A check's ``work`` returns its numbers and the seconds of the work itself, without loading and after a first
pass that is not timed. Its ``judge`` is given the processor's numbers and the device's.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from training import model_of, steps_timed
from training import rows as corpus_rows

if TYPE_CHECKING:
    import pyarrow as pa

Numbers = dict[str, np.ndarray]
LOSS = 0.05  # nats a token by which a step's loss may be off in bfloat16, as a share of it
FOUR_BITS = 0.15  # the same where the weights have four bits
SIMILAR = 0.98  # least cosine of a gradient's sketch or a hidden state with the processor's
TOKEN = 0.1  # nats a token of a response
WATTS = (5.0, 2000.0)  # what the devices of one machine draw together


@dataclass(frozen=True)
class Given:
    """What all checks work on. The rows trained on are also read; the others are scored."""

    name: str  # smollm2 | tiny
    rows: int
    documents: int
    points: int  # of the selections
    device: str  # cpu | cuda

    @property
    def model(self) -> Any:
        return model_of(self.name)

    def table(self) -> pa.Table:
        """The rows, then the documents: id, task, prompt, response."""
        import pyarrow as pa

        found = corpus_rows(self.all, self.name).to_pylist()
        return pa.Table.from_pylist([{"id": f"{i}", "task": "t", **row} for i, row in enumerate(found)])

    @property
    def all(self) -> int:
        return self.rows + self.documents


class Cannot(Exception):
    """Why a check cannot be made here."""


class Verdict(NamedTuple):
    right: bool
    words: str


class Check(NamedTuple):
    what: str
    work: Callable[[Given], tuple[Numbers, float]]
    judge: Callable[[Numbers, Numbers], Verdict]
    beside: str | None = None  # another check, whose numbers on the processor these are held against
    alone: bool = False  # held against nothing


def trained(given: Given, **recipe: Any) -> tuple[Numbers, float]:
    """Losses of a training's steps; seconds of all steps but the first."""
    from smartdpp.finetune import Finetune

    finetune = Finetune(**recipe)
    if wrong := finetune.check():
        raise Cannot(wrong[0])
    with steps_timed() as seconds, tempfile.TemporaryDirectory() as folder:
        finetune.train(given.model, given.table()[: given.rows], Path(folder), seed=0)

        losses = [json.loads(line)["loss"] for line in (Path(folder) / "log.jsonl").open()]
    return {"losses": np.array(losses)}, sum(seconds[1:])


def same_losses(allowed: float) -> Callable[[Numbers, Numbers], Verdict]:
    def judge(here: Numbers, there: Numbers) -> Verdict:
        a, b = here["losses"], there["losses"]
        off = np.abs(a - b) / a
        words = (
            f"losses of {len(a)} steps: off by {off.mean():.2%} on average, at most {off.max():.2%} "
            f"(allowed {allowed:.0%}); {a[0]:.3f} to {a[-1]:.3f} here, {b[0]:.3f} to {b[-1]:.3f} there"
        )
        return Verdict(bool(np.isfinite(b).all() and off.max() <= allowed), words)

    return judge


def embedded(given: Given, embedding: Any) -> tuple[Numbers, float]:
    """Vectors of all rows; seconds of the second of two passes."""
    table = given.table()
    encode = embedding.prepare(table)
    encode(table[:4])
    began = time.perf_counter()
    X = encode(table)
    return {"X": np.asarray(X, dtype=np.float32)}, time.perf_counter() - began


def gradients(given: Given) -> tuple[Numbers, float]:
    from smartdpp.embedding.gradient import Gradient

    return embedded(given, Gradient(given.model, dim=1024, store="float32"))


def hidden(given: Given) -> tuple[Numbers, float]:
    from smartdpp.embedding.hidden import Hidden

    return embedded(given, Hidden(given.model))


def sentences(given: Given) -> tuple[Numbers, float]:
    from smartdpp.embedding.sentence import MiniLM

    if given.name == "tiny":
        raise Cannot("the tiny model stands for models that have to be fetched: no encoder is")
    return embedded(given, MiniLM())


def same_vectors(allowed: float) -> Callable[[Numbers, Numbers], Verdict]:
    def judge(here: Numbers, there: Numbers) -> Verdict:
        cosine = (here["X"] * there["X"]).sum(1) / (
            np.linalg.norm(here["X"], axis=1) * np.linalg.norm(there["X"], axis=1)
        )
        words = f"cosines of {len(cosine)} rows: {cosine.mean():.5f} on average, least {cosine.min():.5f}"
        return Verdict(bool(cosine.min() >= allowed), f"{words} (allowed {allowed})")

    return judge


def selected(given: Given) -> tuple[Numbers, float]:
    """A hundredth of points on a sphere, by each function, from features in the device's memory."""
    import torch

    from smartdpp.functions import FacilityLocation, GraphCut, LogDet
    from smartdpp.greedy import maximize

    X = np.random.default_rng(0).standard_normal((given.points, 64), dtype=np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    features = X if given.device == "cpu" else torch.from_numpy(X).cuda()
    found, seconds = {}, 0.0
    for kind in (FacilityLocation, GraphCut, LogDet):
        maximize(kind(features), 2)
        began = time.perf_counter()
        picks = maximize(kind(features), given.points // 100)
        seconds += time.perf_counter() - began
        found[f"{kind.__name__} index"], found[f"{kind.__name__} gain"] = picks.index, picks.gain
    return found, seconds


def same_picks(here: Numbers, there: Numbers) -> Verdict:
    told, right = [], True
    for name in (key.removesuffix(" index") for key in here if key.endswith(" index")):
        same = here[f"{name} index"] == there[f"{name} index"]
        gain = np.abs(here[f"{name} gain"] / there[f"{name} gain"] - 1).max()
        right &= bool(same.all() and gain <= 1e-5)
        told.append(f"{name} {same.sum()} of {len(same)} the same, gains to {gain:.0e}")
    return Verdict(right, "picks: " + "; ".join(told))


def scored(given: Given) -> tuple[Numbers, float]:
    """Log-likelihoods of the documents' responses, and answers of up to 24 tokens; seconds of the second of
    two times."""
    from lm_eval.api.instance import Instance

    from smartdpp.evaluation.language_model import load

    lm = load(given.model, None, batch_size=8)
    generation = {"max_new_tokens": 24, "stop": None}
    asked = [
        Instance("answer", row, (row["prompt"], [row["response"]], generation), i)
        for i, row in enumerate(given.table()[given.rows :].to_pylist())
    ]
    lm.answer(asked[:8])
    began = time.perf_counter()
    answers = lm.answer(asked)
    seconds = time.perf_counter() - began
    return {
        "nats": np.array([one.logprobs[0] / one.n_tokens[0] for one in answers]),
        "texts": np.array([one.generation for one in answers], dtype=str),
    }, seconds


def same_scores(here: Numbers, there: Numbers) -> Verdict:
    off = np.abs(here["nats"] - there["nats"])
    same = int((here["texts"] == there["texts"]).sum())
    words = (
        f"nats a token of {len(off)} responses: off by {off.mean():.4f} on average, at most {off.max():.4f} "
        f"(allowed {TOKEN}); {same} of {len(off)} generations the same"
    )
    return Verdict(bool(off.max() <= TOKEN), words)


def halved(given: Given) -> tuple[Numbers, float]:
    """Sketches of all rows where a batch of them all does not fit into memory, and of small batches."""
    from smartdpp.gradient import gradients, reduction
    from smartdpp.models.batches import encoded
    from smartdpp.runtime.device import compute_dtype, placed

    model = given.model
    weights = placed(model.load(dtype=compute_dtype()))
    sketch = reduction(weights, dim=256)
    examples = encoded(model.tokenizer(), model.format, given.table())
    longest = max(len(one.ids) for one in examples)

    def vectors(most: int) -> np.ndarray:
        X = np.empty((len(examples), sketch.size), dtype=np.float32)
        for done in gradients(weights, sketch, examples, 0, most):
            X[done.rows] = done.vectors
        return X

    with short_of_memory(given.device, weights, lambda: vectors(2 * longest)) as small, warned() as said:
        began = time.perf_counter()
        X = vectors(len(examples) * longest)
        seconds = time.perf_counter() - began
    return {"X": X, "small": small, "halved": np.array(len(said))}, seconds


@contextmanager
def short_of_memory(device: str, weights: Any, work: Callable[[], np.ndarray]) -> Iterator[np.ndarray]:
    """What ``work`` returns; then memory for little more than it took. On a processor, which has no such
    limit, the model refuses what has more tokens than twice its largest batch."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        done = work()
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        base = torch.cuda.memory_allocated()
        room = base + 3 * (torch.cuda.max_memory_allocated() - base)
        torch.cuda.set_per_process_memory_fraction(min(1.0, room / whole))
        try:
            yield done
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    seen: list[int] = []
    limit = [0]

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(kwargs["input_ids"].numel())
        if limit[0] and seen[-1] > limit[0]:
            raise torch.OutOfMemoryError("as if memory were short")

    hook = weights.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        done = work()
        limit[0] = 2 * max(seen)
        yield done
    finally:
        hook.remove()


@contextmanager
def warned() -> Iterator[list[str]]:
    """What is said of batches that did not fit."""
    said: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, listening = logging.getLogger("smartdpp.models.batches"), Listening()
    logger.addHandler(listening)
    try:
        yield said
    finally:
        logger.removeHandler(listening)


def goes_on(here: Numbers, there: Numbers) -> Verdict:
    """Batches were halved there, and the sketches are those of small batches."""
    close = same_vectors(SIMILAR)({"X": there["small"]}, {"X": there["X"]})
    n = int(there["halved"])
    return Verdict(n > 0 and close.right, f"halved {n} times; beside small batches, {close.words}")


def energy(given: Given) -> tuple[Numbers, float]:
    """Watt hours of the device's counter over seconds of products."""
    import torch

    from smartdpp.store.energy import gpu_watt_hours

    if given.device == "cpu":
        raise Cannot("a processor has no counter")
    before = gpu_watt_hours()
    if before is None:
        raise Cannot("no counter can be read: pip install nvidia-ml-py, on a device since Volta")
    x = torch.randn(4096, 4096, device="cuda")
    began = time.perf_counter()
    while time.perf_counter() - began < 3:
        for _ in range(20):
            x @ x
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    after = gpu_watt_hours()
    assert after is not None
    return {"watts": np.array((after - before) * 3600 / seconds)}, seconds


def plausible(here: Numbers, there: Numbers) -> Verdict:
    watts, (least, most) = float(there["watts"]), WATTS
    return Verdict(
        least <= watts <= most, f"{watts:.0f} W over seconds of products ({least:.0f} to {most:.0f})"
    )


CHECKS = {
    "lora": Check("LoRA training", lambda given: trained(given), same_losses(LOSS)),
    "qlora": Check(
        "QLoRA training, beside LoRA in float32",
        lambda given: trained(given, method="qlora"),
        same_losses(FOUR_BITS),
        beside="lora",
    ),
    "full": Check(
        "training of all weights",
        lambda given: trained(given, method="full", learning_rate=2e-5),
        same_losses(LOSS),
    ),
    "gradients": Check("sketches of gradients", gradients, same_vectors(SIMILAR)),
    "hidden": Check("hidden states", hidden, same_vectors(SIMILAR)),
    "sentences": Check("sentence embeddings", sentences, same_vectors(0.999)),
    "selection": Check("selection", selected, same_picks),
    "scoring": Check("scoring, with generations", scored, same_scores),
    "memory": Check("out of memory: batches are halved", halved, goes_on),
    "energy": Check("energy", energy, plausible, alone=True),
}


def measure(names: list[str], given: Given, out: Path) -> None:
    """Leaves each check's numbers and seconds in ``out``, or why there are none."""
    for name in names:
        try:
            numbers, seconds = CHECKS[name].work(given)
            np.savez(out / f"{name}.npz", **numbers, seconds=np.array(seconds))
        except Cannot as why:
            (out / f"{name}.txt").write_text(f"cannot be made: {why}", encoding="utf-8")
        except Exception as error:  # of a library, whatever it is: the others are still worth making
            traceback.print_exc()
            (out / f"{name}.txt").write_text(f"FAILED: {type(error).__name__}: {error}", encoding="utf-8")
