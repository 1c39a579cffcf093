"""What every way of loading a model shares."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdpp.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def refuse_not_finite(model: PreTrainedModel, where: str) -> None:
    """InputError names the first tensor that holds NaN or an infinity. One read of all weights."""
    import torch

    for name, weights in model.named_parameters():
        if (
            weights.is_floating_point()
            and not weights.is_meta
            and weights.numel()
            and not torch.isfinite(weights.detach().abs().amax())
        ):
            bad = int((~torch.isfinite(weights.detach())).sum())
            raise InputError(
                f"{where}: {bad} of {weights.numel()} weights in {name} are NaN or infinite: the model is "
                "damaged, copy it again"
            )


def with_end(content: str, end: Callable[[], str]) -> str:
    """A chat model's ``content``, marked where its turns have an end of their own: single turns were given
    the end of text there once. Unmarked where its tokenizer cannot be had."""
    try:
        own = end() if content else ""
    except Exception:  # the hub and tokenizers raise kinds of their own
        return content
    return f"{content}, turns end with {own}" if own else content


def tokenizer_of(pretrained_model_name_or_path: Path | str, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Read once a process, for as long as its files stay what they are: a cell of a sweep asks for it four
    times."""
    if kwargs.get("trust_remote_code"):
        return _read(str(pretrained_model_name_or_path), (), tuple(kwargs.items()))
    folder = Path(pretrained_model_name_or_path)
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    stamps = tuple((path.name, (found := path.stat()).st_mtime_ns, found.st_size) for path in files)
    kept = _read_once(str(folder), stamps, tuple(kwargs.items()))
    return _as_read(*kept) if kept[1] else copy.deepcopy(kept[0])


def _read(name: str, stamps: tuple[Any, ...], options: tuple[Any, ...]) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name, **dict(options))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked everywhere, so any token will do
    return tokenizer


@lru_cache(maxsize=4)
def _read_once(*source: Any) -> tuple[PreTrainedTokenizerBase, dict[str, Any]]:
    """And how it pads and cuts by its file; empty for one that is written in Python."""
    tokenizer = _read(*source)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = backend and {name: copy.deepcopy(getattr(backend, name)) for name in ("padding", "truncation")}
    return tokenizer, state or {}


def _as_read(kept: PreTrainedTokenizerBase, state: dict[str, Any]) -> PreTrainedTokenizerBase:
    """Another with the same vocabulary, which takes most of the reading. It pads and cuts as its file says,
    since what it was used with last is saved with it."""
    made, backend = copy.copy(kept), kept.backend_tokenizer
    vars(made).update({name: copy.copy(value) for name, value in vars(kept).items() if _holds(value)})
    for name, value in state.items():
        if value is None:
            getattr(backend, f"no_{name}")()
        else:
            getattr(backend, f"enable_{name}")(**value)
    return made


def _holds(value: Any) -> bool:
    return isinstance(value, (dict, list, set))
