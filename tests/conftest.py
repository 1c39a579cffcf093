"""What the tests share: a private model cache, a small corpus on disk, and the real command line composed in
this process."""

from __future__ import annotations

import gc
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each: libraries read these when they are imported
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from smartdpp.config.compose import compose_here
from smartdpp.models import Tiny
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import prepare

TASKS = {
    "add": lambda r: (f"What is {r.randint(1, 99)} plus {r.randint(1, 99)}?", str(r.randint(2, 198))),
    "copy": lambda r: (f"Repeat the word {r.choice(WORDS)}{r.randint(0, 999)}.", r.choice(WORDS)),
    "first": lambda r: (
        f"Name the first of {r.choice(WORDS)}, {r.choice(WORDS)} and {r.randint(0, 999)}.",
        r.choice(WORDS),
    ),
    "length": lambda r: (f"How long is {r.choice(WORDS) * r.randint(1, 4)}?", str(r.randint(3, 30))),
    "parity": lambda r: (f"Is {r.randint(0, 99999)} even or odd?", r.choice(["even", "odd"])),
}
WORDS = ("apple", "bread", "cloud", "delta", "ember", "flint", "grape", "house")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models made by tests stay out of the user's cache; the real model is looked up there by the tests that
    want it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMARTDPP_CACHE", str(folder))
        patch.setenv(
            "NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / "smartdpp" / "functions" / "__pycache__")
        )  # compiled once, not a session
        patch.setenv("WANDB_SILENT", "true")
        yield folder


@pytest.fixture(autouse=True)
def frozen() -> None:
    """What a test finds imported is not looked through again at every collection, of which each training and
    each batch of answers asks for some: half a second each among all libraries' objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tasks of 24 rows as JSON lines."""
    path = tmp_path_factory.mktemp("corpus") / "train.jsonl"
    draw = random.Random(0)
    rows = [
        {"task": task, **dict(zip(("prompt", "response"), make(draw), strict=True))}
        for task, make in TASKS.items()
        for _ in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A random sequence classification model of one output, beside tiny's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    path = tmp_path_factory.mktemp("reward")
    tokenizer = Tiny().tokenizer()
    tokenizer.save_pretrained(path)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=len(tokenizer), num_labels=1, max_position_embeddings=512, **sizes)
        LlamaForSequenceClassification(config).save_pretrained(path)
    return path


def small(corpus: Path, root: Path) -> list[str]:
    """Overrides that shrink the default run to seconds without leaving a stage out."""
    return [
        "corpus=jsonl",
        f"corpus.path={corpus}",
        "embedding=tfidf",
        "embedding.dim=16",
        "embedding@probe=tfidf",
        "probe.dim=16",
        "model=tiny",
        "evaluation=heldout",
        "evaluation.tasks=[parity]",
        "evaluation.limit=4",
        "evaluation.max_new_tokens=4",
        "recipe.save_steps=1",
        "budget=16",
        "tracker=none",
        f"root={root}",
    ]


def handed_over(cfg: DictConfig) -> DictConfig:
    """As Hydra hands a configuration to the task function: its own part aside."""
    HydraConfig.instance().set_config(cfg)
    del cfg.hydra
    return cfg


@pytest.fixture
def configure(corpus: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """Composes the real configuration with the small overrides and then the test's own."""

    def compose_config(*overrides: str) -> DictConfig:
        return handed_over(compose_here([*small(corpus, tmp_path), *overrides]))

    return compose_config


@pytest.fixture
def small_run(configure: Callable[..., DictConfig]) -> Callable[..., Run]:
    def make(*overrides: str) -> Run:
        cfg = configure(*overrides)
        return prepare(cfg, HydraConfig.get().runtime.choices)

    return make


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are composed and not drawn, which is most of a report's time: for tests of what it says. Those
    marked ``drawn`` have them."""
    if request.node.get_closest_marker("drawn"):
        return
    from smartdpp.figures.drawing import Drawing

    def png(self: Drawing, folder: Path) -> Path:
        (folder / f"{self.name}.png").write_bytes(b"")
        return folder / f"{self.name}.png"

    monkeypatch.setattr(Drawing, "png", png)
    monkeypatch.setattr(Drawing, "svg", lambda self: f'<svg aria-label="{self.name}"/>')


@pytest.fixture
def forked_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is launched in several processes finds its libraries imported."""
    from types import SimpleNamespace

    from smartdpp.runtime import processes
    from tests.forked import launched

    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(run=launched))


@pytest.fixture
def interrupted_after() -> Callable[[int], AbstractContextManager[None]]:
    """``with interrupted_after(2): work()``: a KeyboardInterrupt when work is about to save its third
    shard."""
    from smartdpp.runtime import shards

    @contextmanager
    def interrupted(enough: int) -> Iterator[None]:
        save, saved = shards._save, []

        def save_then_die(path: Path, part: Any) -> None:
            if len(saved) == enough:
                raise KeyboardInterrupt
            saved.append(path)
            save(path, part)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shards, "_save", save_then_die)
            yield

    return interrupted
