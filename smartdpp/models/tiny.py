"""A random model for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smartdpp.bounds import Count, Seed
from smartdpp.models.anatomy import Anatomy, llama
from smartdpp.models.loading import tokenizer_of
from smartdpp.store.artifact import publish
from smartdpp.store.place import cache_dir

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Tiny:
    """A random Llama of 27 thousand parameters over bytes: exercises every line of the pipeline in seconds
    and learns nothing useful."""

    name: str = "tiny"
    format: Literal["plain", "chat"] = "plain"
    hidden_size: Count = 32
    num_layers: Count = 2
    seed: Seed = 0

    def check(self) -> list[str]:
        return []

    def fingerprint(self) -> str:
        return ""  # the parameters say it all

    def anatomy(self) -> Anatomy:
        h = self.hidden_size
        return llama(
            layers=self.num_layers, hidden=h, inner=2 * h, keys=h // 4 * 2, vocabulary=259, limit=2048
        )

    def path(self) -> Path:
        return _tiny(self.hidden_size, self.num_layers, self.seed)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return tokenizer_of(self.path())

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.path(), **kwargs)


def _tiny(hidden_size: int, num_layers: int, seed: int) -> Path:
    path = cache_dir() / "models" / f"tiny-{hidden_size}x{num_layers}-{seed}"

    def build(out: Path) -> dict[str, Any]:
        import torch
        from tokenizers import Tokenizer, decoders, pre_tokenizers
        from tokenizers.models import BPE
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        bytes_only = Tokenizer(BPE(vocab={token: i for i, token in enumerate(special + letters)}, merges=[]))
        bytes_only.pre_tokenizer, bytes_only.decoder = (
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            decoders.ByteLevel(),
        )
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
