"""What a language model is made of and what it cannot do, told before any work from its configuration, its
tokenizer and its files' names.

transformers builds the model without memory (on the meta device) and so knows any architecture's layers,
parameters and positions. That takes seconds to import, so the answer is remembered in the cache by the
content of the files that it depends on. Of models that are not on this machine nothing is said.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from smartdpp.models.tokens import MARK, own_end
from smartdpp.store.content import folder_hash
from smartdpp.store.disk import digest, read_json, write_json
from smartdpp.store.place import cache_dir

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

VERSION = 3  # of what is remembered


TOKENIZER = re.compile(
    r"^(tokenizer\.(json|model.*)|vocab\..*|merges\.txt|.*\.(tiktoken|spm|bpe)|sp\w*\.model|sentencepiece.*|tekken\.json)$"
)


# says nothing of architecture or tokenizer
NEITHER = re.compile(r"\.(safetensors|bin|md|png|gguf|pth?|onnx|h5|msgpack)$")


FAILS = "its chat template fails"


@dataclass(frozen=True)
class Anatomy:
    """A causal language model by its configuration; with ``problems``, one that cannot be used here, what
    else is said may be missing."""

    kind: str  # transformers' name of the architecture
    problems: tuple[str, ...] = ()  # each continues "model.path=PATH "
    parameters: int = 0
    layers: int = 0
    hidden: int = 0
    inner: int = 0  # of the feed-forward layers, as wide as one token uses them
    keys: int = 0  # numbers of a token's key: as many as of its value
    vocabulary: int = 0  # rows of the embedding
    tied: bool = False
    linear: tuple[str, ...] = ()  # names of all nn.Linear but the head
    # names of what else an adapter can be put on: transposed and convolutional layers, embeddings, the head
    other: tuple[str, ...] = ()
    # inputs and outputs of all linear layers but the head, transposed ones too: weights of an adapter of rank
    # one
    widths: int = 0
    packed: bool = False  # its weights are stored in fewer bits
    head: str | None = None  # name of the layer that makes the logits
    limit: int | None = None  # tokens that it reads; None: as many as there are
    hard: bool = False  # it breaks beyond the limit; else it only was not trained there
    chat: str | None = None  # why format=chat cannot be; None: nothing speaks against it
    # the token that ends a turn of its chat, empty where it is the end of text; None: not known
    end: str | None = None
    checkpointing: bool = True
    scores: bool = True  # keeps keys and values, from which several answers to one prompt go on

    @property
    def kept(self) -> int:
        """Numbers that a layer keeps of a token for the backward pass, as those of a network like Llama
        do."""
        return 10 * self.hidden + 2 * self.keys + 5 * self.inner


@runtime_checkable
class Known(Protocol):
    """A model that says what it is made of; a class of the user's own need not."""

    def anatomy(self) -> Anatomy | None:
        """None where the model is not on this machine."""
        ...


def anatomy(model: Any) -> Anatomy | None:
    """None where the model is not on this machine, or does not say."""
    return model.anatomy() if isinstance(model, Known) else None


def known(model: Any) -> Anatomy | None:
    """The same of a model whose sizes are known."""
    return found if (found := anatomy(model)) and found.layers else None


def of_folder(folder: Path | None, trust_remote_code: bool) -> Anatomy | None:
    """Of the model in a folder as save_pretrained writes it; None where there is none."""
    return (
        None
        if folder is None or not (folder / "config.json").is_file()
        else _remembered(folder, trust_remote_code)
    )


def llama(layers: int, hidden: int, inner: int, keys: int, vocabulary: int, limit: int) -> Anatomy:
    """Of our packaged models, which are Llamas with tied embeddings, without asking transformers."""
    block = {
        "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "mlp": ("gate_proj", "up_proj", "down_proj"),
    }
    names = [
        f"model.layers.{i}.{part}.{name}"
        for i in range(layers)
        for part, names in block.items()
        for name in names
    ]
    layer = 2 * hidden * (hidden + keys) + 3 * hidden * inner + 2 * hidden
    return Anatomy(
        kind="llama",
        parameters=layers * layer + vocabulary * hidden + hidden,
        layers=layers,
        hidden=hidden,
        inner=inner,
        keys=keys,
        vocabulary=vocabulary,
        tied=True,
        linear=tuple(names),
        other=("model.embed_tokens", "lm_head"),
        widths=layers * (6 * hidden + 2 * keys + 3 * (hidden + inner)),
        head="lm_head",
        limit=limit,
    )


def folder_problems(folder: Path) -> list[str]:
    """What the names and sizes of a model's files already say; each continues "model.path=FOLDER "."""
    names = sorted(path.name for path in folder.iterdir())
    if "adapter_config.json" in names:
        return [_adapter_instead(folder)]
    if "config.json" not in names:
        return ["holds no config.json; give a folder made by save_pretrained, or a hub name like org/model"]
    weights = [name for name in names if name.endswith(".safetensors")]
    problems = []
    if not weights:
        other = ", ".join(name for name in names if name.endswith((".bin", ".pt", ".pth", ".gguf", ".h5")))
        how = "load it once with transformers and write it with save_pretrained, which makes them"
        problems.append(
            f"holds no .safetensors weights ({'only ' + other if other else 'no weights at all'}): {how}"
        )
    problems += _incomplete(folder, weights)
    if not any(TOKENIZER.match(name) for name in names):
        problems.append(
            "holds no tokenizer (tokenizer.json or tokenizer.model): write it there with "
            "tokenizer.save_pretrained"
        )
    return problems


def _adapter_instead(folder: Path) -> str:
    try:
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    except (OSError, ValueError):
        base = None
    named = f" of {base}" if base else ""
    return (
        f"is an adapter{named}, not a whole model: give that "
        f"model{f' (model.path={base})' if base else ''}, or merge the two "
        "(PeftModel.merge_and_unload, then save_pretrained) and give the result"
    )


def _incomplete(folder: Path, weights: list[str]) -> Iterator[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file() and "model.safetensors" not in weights:
        try:
            wanted = set(read_json(index)["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            yield f"has an {index.name} that cannot be read: copy it again"
            return
        if missing := sorted(name for name in wanted if not (folder / name).is_file()):
            yield (
                f"lacks {len(missing)} of {len(wanted)} files of its weights, first {missing[0]}: "
                "copy them too"
            )
    for name in weights:
        if (header := _header(folder / name)) is None or header[1] != (folder / name).stat().st_size:
            yield f"has weights that are damaged or cut short ({name}): copy that file again"


def _header(path: Path) -> tuple[list[list[int]], int] | None:
    """The shapes of a safetensors file's tensors, and the bytes it should have; None if it is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                return None
            tensors = [
                tensor for name, tensor in json.loads(file.read(length)).items() if name != "__metadata__"
            ]
        return [tensor["shape"] for tensor in tensors], 8 + length + max(
            (tensor["data_offsets"][1] for tensor in tensors), default=0
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def headless(folder: Path, found: Anatomy) -> Iterator[str]:
    """A classifier's or an encoder's weights have one matrix as long as the vocabulary, the embedding;
    predictions take another."""
    shapes = [shape for path in folder.glob("*.safetensors") for shape in (_header(path) or ([], 0))[0]]
    if (
        shapes
        and not found.tied
        and not found.packed
        and sum(len(s) == 2 and s[0] == found.vocabulary for s in shapes) == 1
    ):
        yield (
            f"has no weights for {found.head}, the layer that makes its predictions: give a model made for "
            "causal language modelling"
        )


@cache
def snapshot(name: str, revision: str | None) -> Path | None:
    """Where the hub's cache has this commit of a model, or some of its files."""
    from huggingface_hub import try_to_load_from_cache

    with contextlib.suppress(ValueError):  # not a name that the hub could have
        found = try_to_load_from_cache(name, "config.json", revision=revision)
        return Path(found).parent if isinstance(found, str) else None
    return None


def _remembered(folder: Path, trust_remote_code: bool) -> Anatomy:
    import importlib.metadata

    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    small = [folder / name for name in names if not NEITHER.search(name)]
    made_of = {
        "version": VERSION,
        "transformers": importlib.metadata.version("transformers"),
        "code": trust_remote_code,
    }
    return _by_content(digest(made_of | {"files": folder_hash(folder, small)}), folder, trust_remote_code)


@cache
def _by_content(key: str, folder: Path, trust_remote_code: bool) -> Anatomy:
    file = cache_dir() / "anatomy" / f"{key}.json"
    # none, or a damaged one: it is asked again
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        said: Any = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in read_json(file).items()
        }
        return Anatomy(**said)
    found = _asked(folder, trust_remote_code)
    # which may be this machine's, as a package that is not installed yet
    if found.problems or (found.chat or "").startswith(FAILS):
        return found
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(found))
    return found


def _asked(folder: Path, trust_remote_code: bool) -> Anatomy:
    """The answer of transformers, which takes seconds."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (ValueError, OSError, KeyError, ImportError) as error:
        return Anatomy("unknown", (_in_words(error, "its config.json"),))
    kind = str(config.model_type)
    problems = list(_unsuitable(config))
    model = None
    if not problems:
        try:
            model = _on_meta(config, trust_remote_code)
        except Exception as error:
            # whatever an architecture's own code raises for numbers that do not fit together
            problems.append(_in_words(error, "its config.json"))
    rows = model.get_input_embeddings().weight.shape[0] if model is not None else None
    tokenizer, said = _tokenizer(folder, trust_remote_code)
    if tokenizer is not None:
        said = [*said, *_tokenizer_problems(tokenizer, rows)]
    return Anatomy(
        kind,
        (*problems, *said),
        chat=_no_chat(tokenizer) if tokenizer is not None else None,
        end=own_end(tokenizer) if tokenizer is not None else None,
        **(_sizes_if_usual(model) if model is not None else {}),
    )


def _sizes_if_usual(model: PreTrainedModel) -> dict[str, Any]:
    """Without them nothing is checked or stated by a model's sizes: some have a number for each layer, or
    names of their own."""
    scores = _scores(model)
    try:
        return {"scores": scores, **_sizes(model)}
    except Exception:  # configurations raise kinds of their own
        return {"scores": scores}


def _in_words(error: Exception, what: str) -> str:
    first = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    if "trust_remote_code" in str(error):
        return "comes with code of its own: model.trust_remote_code=true runs it, if you trust it"
    return f"cannot be made from {what}: {first}"


def _unsuitable(config: PretrainedConfig) -> Iterator[str]:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    wanted = "give a causal language model, as Llama, Qwen, Mistral or GPT-2 are"
    kind = config.model_type
    if config.is_encoder_decoder:
        yield f"is an encoder-decoder ({kind}), and prompts and responses are read as one text here: {wanted}"
    elif kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and "AutoModelForCausalLM" not in getattr(
        config, "auto_map", {}
    ):
        yield f"is of a kind ({kind}) that has no head for causal language modelling: {wanted}"
    elif kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        yield (
            f"is an encoder ({kind}), whose tokens see those that follow them: {wanted}; for sentence "
            "embeddings it is embedding=sentence"
        )


def _on_meta(config: PretrainedConfig, trust_remote_code: bool) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def _scores(model: PreTrainedModel) -> bool:
    import inspect

    parameters = inspect.signature(model.forward).parameters
    return "past_key_values" in parameters or any(
        parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values()
    )


def _tokenizer(folder: Path, trust_remote_code: bool) -> tuple[PreTrainedTokenizerBase | None, list[str]]:
    if not any(TOKENIZER.match(path.name) for path in folder.iterdir()):
        return None, []  # of a folder that is said elsewhere; a copy in the hub's cache may not be whole
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code), []
    except Exception as error:  # tokenizers raises its own kinds
        return None, [
            _in_words(error, "its tokenizer's files").replace(
                "cannot be made", "has a tokenizer that cannot be made"
            )
        ]


def _tokenizer_problems(tokenizer: PreTrainedTokenizerBase, rows: int | None) -> Iterator[str]:
    if tokenizer.eos_token_id is None:
        yield (
            "has a tokenizer without an end-of-text token, which ends every response: set eos_token in its "
            "tokenizer_config.json"
        )
    largest = max(tokenizer.get_vocab().values(), default=0)
    if rows is not None and largest >= rows:
        yield (
            f"has a tokenizer of {largest + 1} tokens and an embedding of {rows}: they do not belong "
            "together, or resize_token_embeddings "
            "was not called before the model was saved"
        )


def _no_chat(tokenizer: PreTrainedTokenizerBase) -> str | None:
    if tokenizer.chat_template is None:
        return "the tokenizer has no chat template"
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": MARK}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # templates raise what they like
        return f"{FAILS} for one user turn ({str(error).strip().partition(chr(10))[0][:200]})"
    return None if MARK in text else "its chat template does not show a user's text"


def _sizes(model: PreTrainedModel) -> dict[str, Any]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    config, head = model.config.get_text_config(), model.get_output_embeddings()
    modules = dict(model.named_modules())
    linear = {
        name: (m.in_features, m.out_features)
        for name, m in modules.items()
        if isinstance(m, nn.Linear) and m is not head
    }
    transposed = {name: tuple(m.weight.shape) for name, m in modules.items() if isinstance(m, Conv1D)}
    other = [
        name
        for name, m in modules.items()
        if isinstance(m, (nn.Embedding, nn.Conv1d, nn.Conv2d)) or m is head
    ]
    heads = getattr(config, "num_attention_heads", None) or 1
    hidden = int(config.hidden_size)
    pairs = getattr(config, "num_key_value_heads", None) or (
        1 if getattr(config, "multi_query", False) else heads
    )
    limit, hard = positions(model)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": int(config.num_hidden_layers),
        "hidden": hidden,
        "inner": _inner(config, hidden),
        "keys": pairs * (getattr(config, "head_dim", None) or hidden // heads),
        "vocabulary": int(model.get_input_embeddings().weight.shape[0]),
        "tied": bool(config.tie_word_embeddings),
        "packed": getattr(model.config, "quantization_config", None) is not None,
        "linear": tuple(linear),
        "other": (*transposed, *other),
        "widths": sum(sum(shape) for shape in (*linear.values(), *transposed.values())),
        "head": next((name for name, m in modules.items() if m is head), None),
        "limit": limit,
        "hard": hard,
        "checkpointing": bool(model.supports_gradient_checkpointing),
    }


def _inner(config: Any, hidden: int) -> int:
    wide = next(
        (
            w
            for name in ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
            if (w := getattr(config, name, None))
        ),
        None,
    )
    if experts := getattr(config, "num_experts_per_tok", None):
        return int(experts * (getattr(config, "moe_intermediate_size", None) or wide or 4 * hidden))
    return int(wide or getattr(config, "expansion_ratio", 4) * hidden)


def positions(model: PreTrainedModel) -> tuple[int | None, bool]:
    """How many tokens it reads, and whether it breaks beyond: where positions are learned, or a table of them
    has an end."""
    from torch import nn

    config: Any = model.config.get_text_config()
    said = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, nn.Embedding) and ("pos" in last or last == "wpe"):
            rows = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            return min(said or rows, rows), True
    if config.model_type == "mpt" or any(
        name.endswith("embed_positions") for name, _ in model.named_buffers()
    ):
        return said, True
    if getattr(config, "alibi", False):
        return None, False
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    stretched = (rope.get("factor") or 0) * (rope.get("original_max_position_embeddings") or 0)
    return (max(said, int(stretched)) if said else None), False
