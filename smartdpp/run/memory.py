"""Peak memory of the stages, stated before they run: how far a process will rise above what it holds when the stage begins.

All formulas are here. They count what grows with the rows, their dimensions, the budget or the model; LIBRARIES stands for what a stage
may have to import first. Selection and diversity are linear in the pool but for two things: facility location keeps a kernel, or what is
left of it, of 2 GiB each at most; a log determinant on vmf or rbf keeps a number for every row and pick. Those of training and scoring
count a model's own parameters (smartdpp.models.anatomy) and what a Llama-like network of its sizes keeps. "About" is meant:
a statement should be reached, and not exceeded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from smartdpp.corpus.build import ROW_GROUP
from smartdpp.embedding.gradient import Gradient
from smartdpp.embedding.hidden import Hidden
from smartdpp.embedding.sentence import MiniLM, Sentence
from smartdpp.embedding.tfidf import Tfidf
from smartdpp.evaluation.language_model import WINDOW
from smartdpp.finetune import Finetune
from smartdpp.functions import FacilityLocation, LogDet
from smartdpp.models.anatomy import anatomy
from smartdpp.run.cell import Run
from smartdpp.signals.likelihood import CHUNK
from smartdpp.store.artifact import Artifact
from smartdpp.strategies.dpp import Dpp
from smartdpp.strategies.dpp_sample import SMALL, DppSample
from smartdpp.strategies.reselect import Reselect
from smartdpp.strategies.smart import Smart
from smartdpp.strategies.submodular import Submodular
from smartdpp.strategies.two_rounds import TwoRounds

LIBRARIES = 2**29  # torch, transformers, numba, scikit-learn: whatever of them was not imported before
BLOCKS = 2**27  # of temporary rows, in several threads
KERNEL = 2**31  # facility location's whole kernel, and its compressed rows, are no larger
COPY = 2**28  # nor is a normalised copy of the features
PACKED = 2  # weights, and on processors a copy of them as products without weight gradients want it
SPARE = 1.35  # what the allocator holds of a backward pass's buffers, over what is in use: measured at 200 to 1,500 tokens


@dataclass(frozen=True)
class Need:
    """Bytes above the stage's start, at its peak; ``where`` it is ``memory`` or ``GPU memory``."""

    bytes: float
    where: str = "memory"

    def __str__(self) -> str:
        return f"about {self.bytes / 2**30:,.1f} GiB of {self.where}"


@dataclass(frozen=True)
class Rows:
    """What a pool's rows take."""

    n: int
    text: float  # bytes
    longest: int  # tokens
    largest: int  # rows of the largest task


@dataclass(frozen=True)
class Network:
    """A causal language model's sizes, by its configuration."""

    layers: int
    hidden: int
    inner: int  # of the feed-forward layers
    keys: int  # numbers of a token's key: as many as of its value
    vocabulary: int
    tied: bool
    counted: int | None = None  # parameters, where the model itself was asked; else those of one like Llama
    widths: int | None = None  # likewise, the inputs and outputs of all linear layers but the last

    @property
    def parameters(self) -> int:
        if self.counted is not None:
            return self.counted
        layer = 2 * self.hidden * (self.hidden + self.keys) + 3 * self.hidden * self.inner + 2 * self.hidden
        return self.layers * layer + self.vocabulary * self.hidden * (1 if self.tied else 2) + self.hidden

    @property
    def linear(self) -> int:
        """Inputs and outputs of all linear layers but the last: what an adapter of rank one has weights for."""
        if self.widths is not None:
            return self.widths
        return self.layers * (6 * self.hidden + 2 * self.keys + 3 * (self.hidden + self.inner))

    @property
    def kept(self) -> int:
        """Numbers that a layer keeps of a token for the backward pass."""
        return 10 * self.hidden + 2 * self.keys + 5 * self.inner


def network(model: Any) -> Network | None:
    """The sizes of a model whose configuration is on this machine; None for another."""
    found = anatomy(model)
    if found is None or not found.layers:
        return None
    sizes = (found.layers, found.hidden, found.inner, found.keys, found.vocabulary)
    return Network(*sizes, tied=found.tied, counted=found.parameters, widths=found.widths)


def _encoder_config(encoder: MiniLM | Sentence) -> dict[str, Any] | None:
    """What an encoder of BERT's kind says of itself, where it is on this machine."""
    config = _config(_config_file((encoder.packaged() if isinstance(encoder, MiniLM) else encoder).model))
    needed = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "max_position_embeddings")
    return config if config and all(name in config for name in needed) else None


def _config(file: Any) -> dict[str, Any] | None:
    """What such a file says; None where there is none, which a hub's cache tells in more ways than one."""
    here = isinstance(file, (str, Path)) and Path(file).is_file()
    return json.loads(Path(file).read_text(encoding="utf-8")) if here else None


def _config_file(model: str) -> Any:
    """Of a folder or, fetched before, of a hub's model."""
    from huggingface_hub import try_to_load_from_cache

    here = Path(model).expanduser() / "config.json"
    return here if here.is_file() else try_to_load_from_cache(model, "config.json")


def features(n: int, d: int, itemsize: int) -> float:
    """Rows read from the disk's map, a copy in the order of their ids, normalised copies where they are moderate, numbers of each row."""
    return 2 * n * d * itemsize + sum(n * d * wide for wide in (4, 8) if n * d * wide <= COPY) + 256 * n


def maximising(make: Callable[..., Any], n: int, d: int, k: int, itemsize: int = 4) -> float:
    """Greedy selection of k of n rows by the function that ``make`` makes of them, the features included."""
    made, options = _made(make), make.keywords if isinstance(make, partial) else {}
    base = features(n, d, itemsize) + min(BLOCKS, 40 * n * d)
    if made is FacilityLocation:
        unit = 4 if n > 2048 else 8
        if options.get("neighbors"):
            return base + n * d * unit + 24 * n * options["neighbors"]
        whole = unit * n * n
        return base + n * d * unit + (whole + min(KERNEL, whole / 4) if whole <= KERNEL else min(KERNEL, 1.5 * whole))
    if made is LogDet and options.get("kernel", "cosine") in ("vmf", "rbf"):
        return base + determinant(n, k)
    if made is LogDet:
        return base + 24 * d * d + n * d * 4 / 2  # the rows that are looked at between windows
    return base


def determinant(n: int, k: int) -> float:
    """k picks among n rows: their factor, that of the rows looked at lately, and that of all rows."""
    return 8 * k * k + 8 * min(n, 1024) * k + n * k * (8 if n <= 2048 else 4)


def selection(strategy: Any, n: int, d: int, budget: int, largest: int, itemsize: int = 4) -> float:
    """``strategy`` on a pool of n rows, its ``largest`` task of so many. What keeps neither a kernel nor a factor reads the features."""
    match strategy:
        case Reselect():
            return selection(strategy.strategy, n, d, budget, largest, itemsize)
        case Smart():
            open_ = not callable(strategy.instances)  # then each is tried, and facility location keeps the most
            make = FacilityLocation if open_ else strategy.instances
            return n * d * itemsize + maximising(make, largest, d, min(budget, largest), itemsize)  # type: ignore[arg-type]
        case Submodular():
            return maximising(strategy.function, n, d, budget, itemsize)
        case TwoRounds():  # inside a part, then among what all parts chose, which a facility location sums over witnesses
            seen = (strategy.witnesses or n) if _made(strategy.function) is FacilityLocation else 0
            sizes = (-(-n // strategy.parts), min(n, strategy.parts * budget + seen))
            return n * d * itemsize + max(maximising(strategy.function, size, d, min(budget, size), itemsize) for size in sizes)
        case Dpp():
            return maximising(partial(LogDet, kernel=strategy.kernel), n, d, budget, itemsize)
        case DppSample():
            exact = strategy.method == "exact" or (strategy.method == "auto" and (n <= SMALL or strategy.kernel == "linear"))
            if exact and strategy.kernel == "linear":
                return features(n, d, itemsize) + 24 * n * d
            drawn = 48 * n * n if exact else 32 * budget * budget + 8 * n * d
            return maximising(partial(LogDet, kernel=strategy.kernel), n, d, 0 if exact else budget, itemsize) + drawn
    return features(n, d, itemsize) + min(BLOCKS, 40 * n * d)


def diversity(n: int, d: int, pool: int) -> float:
    """Log determinants of a mixture of n rows, all of them picked, and of reference sets as large; companions read the pool."""
    return 4 * pool * d + maximising(partial(LogDet, kernel="vmf"), n, d, n) + 16 * n * n


def embedding(encoder: Any, n: int, d: int, text: float, longest: int, wide: int) -> float | None:
    """``encoder`` over n rows of ``text`` bytes in all, the longest of so many tokens; ``wide`` bytes a number. None: it is not known."""
    base = 2 * text + 300 * n + n * d * 4
    match encoder:
        case Tfidf():
            return base + 8 * text + 3 * 8 * n * d + BLOCKS / 8  # the words as the vectoriser lists them, then the bases of the SVD
        case MiniLM() | Sentence():
            config = _encoder_config(encoder)
            if config is None:
                return None
            hidden, inner, heads = (config[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads"))
            parameters = config["vocab_size"] * hidden + config["num_hidden_layers"] * (4 * hidden + 2 * inner) * hidden
            length = min(longest, encoder.max_seq_length or config["max_position_embeddings"])
            tokens = encoder.batch_size * length
            return base + 2 * parameters * 4 + tokens * 4 * (8 * hidden + 2 * inner + 2 * heads * length)
        case Hidden() | Gradient():
            sizes, tokens = network(encoder.model), max(longest, encoder.batch_tokens)
            if sizes is None:
                return None
            held = sizes.layers * (sizes.hidden if isinstance(encoder, Hidden) else sizes.kept) + sizes.kept
            held += 0 if isinstance(encoder, Hidden) else 3 * sizes.vocabulary
            return base + PACKED * sizes.parameters * wide + tokens * held * 4 + 256 * d * 8
    return None


def signals(which: str, sizes: Network, tokens: int, wide: int) -> float:
    """A pass over batches of so many tokens: weights, a layer's work or all of them, logits of the tokens and probabilities of some."""
    layers = sizes.layers if which == "gradient" else 1
    logits = tokens * wide + 3 * 4 * min(tokens, CHUNK)
    return PACKED * sizes.parameters * wide + tokens * sizes.kept * layers * wide + logits * sizes.vocabulary


def training(recipe: Finetune, sizes: Network, longest: int, wide: int) -> float:
    """One process of it: weights, gradients and AdamW's two moments, what the layers keep of a micro-batch of the longest rows, and six
    numbers for each of its tokens and each of the vocabulary, as measured of TRL's loss.
    """
    P, tokens = sizes.parameters, recipe.micro_batch_size * longest
    if recipe.method == "full":
        weights = 16 * P / (recipe.processes if recipe.parallel == "fsdp" else 1) + (P * wide if wide < 4 else 0)
    else:
        weights = P * (0.6 if recipe.method == "qlora" else wide) + 16 * recipe.rank * sizes.linear
    layers = sizes.hidden * sizes.layers + sizes.kept if recipe.gradient_checkpointing else sizes.kept * sizes.layers
    return weights + SPARE * tokens * (layers * wide + 6 * 4 * sizes.vocabulary)


def scores(sizes: Network, batch: int, longest: int, response: int, wide: int) -> float:
    """Weights, the keys and values of a batch of the longest rows, one layer's work, and the logits of a window of their responses."""
    tokens = batch * longest
    cache = tokens * sizes.layers * 2 * sizes.keys * wide
    return PACKED * sizes.parameters * wide + cache + tokens * sizes.kept * wide + 2 * batch * min(WINDOW, response) * sizes.vocabulary * 4


def embedding_stage(run: Run, artifact: Artifact, encoder: Any) -> Need | None:
    """Of rows that ``encoder`` makes, as ``artifact`` has or will have them."""

    def stated(pool: Rows, wide: int) -> float | None:
        d = _columns(artifact, encoder, pool.n)
        return embedding(encoder, pool.n, d, pool.text, pool.longest, wide) if d else None

    return _need(run, stated)


def signals_stage(run: Run, which: str) -> Need | None:
    quality: Any = run.parts.quality  # with passes, it has a model

    def stated(pool: Rows, wide: int) -> float | None:
        sizes = network(quality.model)
        return 2 * pool.text + signals(which, sizes, max(pool.longest, quality.batch_tokens), wide) if sizes else None

    return _need(run, stated)


def mixture_stage(run: Run) -> Need | None:
    strategy, quality = run.parts.strategy, run.parts.quality

    def stated(pool: Rows, wide: int) -> float | None:
        d, count = _columns(run.embedding, run.parts.embedding, pool.n), strategy.size(pool.n, run.cfg.budget)
        read = 3 * pool.text if getattr(quality, "text", True) else 500 * pool.n + pool.text / pool.n * (6 * count + ROW_GROUP)
        return read + selection(strategy, pool.n, d, count, pool.largest) if d else None

    return _need(run, stated, on_device=False)


def diversity_stage(run: Run) -> Need | None:
    def stated(pool: Rows, wide: int) -> float | None:
        d = _columns(run.probe, run.parts.probe, pool.n)
        return diversity(run.parts.strategy.size(pool.n, run.cfg.budget), d, pool.n) if d else None

    return _need(run, stated, on_device=False)


def adapter_stage(run: Run) -> Need | None:
    recipe, sizes = run.parts.recipe, network(run.parts.model)

    def stated(pool: Rows, wide: int) -> float | None:
        return training(recipe, sizes, pool.longest, wide) if sizes and isinstance(recipe, Finetune) else None

    return _need(run, stated, " in each process" if isinstance(recipe, Finetune) and recipe.processes > 1 else "")


def scores_stage(run: Run) -> Need | None:
    sizes = network(run.parts.model)

    def stated(pool: Rows, wide: int) -> float | None:
        found = _heldout(run.corpus.path) or (pool.n, pool.longest, pool.longest)  # other documents: as long as the pool's
        rows, longest, response = found
        return scores(sizes, min(rows, run.cfg.evaluation.get("batch_size", 32)), longest, response, wide) if sizes else None

    return _need(run, stated)


def _need(run: Run, stated: Callable[[Rows, int], float | None], each: str = "", *, on_device: bool = True) -> Need | None:
    """What ``stated`` says of the pool and of a number's bytes; None where the corpus, the embedding or the model is not there to tell."""
    if not run.corpus.finished:
        return None
    gpu, wide = _device() if on_device else (False, 4)
    above = stated(_pool(run.corpus.path), wide)
    return None if above is None else Need(LIBRARIES + above, f"{'GPU memory' if gpu else 'memory'}{each}")


def too_large(need: Need) -> str | None:
    """A sentence if this machine has not so much."""
    import psutil

    there, what = psutil.virtual_memory().total, "memory"
    if need.where.startswith("GPU"):
        import torch

        there, what = torch.cuda.get_device_properties(0).total_memory, "GPU memory"
    if need.bytes <= there:
        return None
    return f"needs {need} above what it starts with, and this machine has {there / 2**30:,.1f} GiB of {what}: the system may end it"


def _made(make: Callable[..., Any]) -> Any:
    return make.func if isinstance(make, partial) else make


def _columns(artifact: Any, encoder: Any, n: int) -> int | None:
    if artifact.finished:
        return int(artifact.meta()["facts"]["d"])
    match encoder:
        case Tfidf() | Gradient():
            return min(encoder.dim, n) if isinstance(encoder, Tfidf) else encoder.dim
        case MiniLM() | Sentence():
            config = _encoder_config(encoder)
            return config["hidden_size"] if config else None
        case Hidden():
            sizes = network(encoder.model)
            return sizes.hidden if sizes else None
    return None


@cache
def _pool(corpus: Path) -> Rows:
    """Of a finished corpus."""
    import pyarrow.parquet as pq

    from smartdpp.corpus.build import read
    from smartdpp.store.remote import file

    path = file(corpus / "data.parquet")
    rows = read(path, columns=["task", "n_tokens"])
    with pq.ParquetFile(path) as parquet:
        text = sum(parquet.metadata.row_group(i).total_byte_size for i in range(parquet.num_row_groups))
    largest = max(pair["counts"].as_py() for pair in rows["task"].value_counts())
    return Rows(len(rows), float(text), int(rows["n_tokens"].to_numpy().max()), largest)


@cache
def _heldout(corpus: Path) -> tuple[int, int, int] | None:
    """Held-out rows of a finished corpus, tokens of the longest and of the longest response; None where it has none."""
    from smartdpp.corpus.build import read
    from smartdpp.store.remote import file

    rows = read(file(corpus / "heldout.parquet"), columns=["n_prompt_tokens", "n_tokens"])
    if not len(rows):
        return None
    prompt, whole = (rows[name].to_numpy() for name in rows.column_names)
    return len(rows), int(whole.max()), int((whole - prompt).max())


def _device() -> tuple[bool, int]:
    """Whether there is a GPU, and the bytes of a number that a model computes with."""
    from smartdpp.runtime.device import compute_dtype, device

    return device() == "cuda", compute_dtype().itemsize
