"""The tokens that other engines write to prompts, many at once: transformers' continuous batching and vllm.
smartdpp.evaluation.generation makes answers of them, as of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from smartdpp.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Engine = Literal["plain", "continuous", "vllm"]
PAGE = 256  # tokens that continuous batching sets aside at a time
READ = 2048  # tokens that it reads at once on a processor


def problems(engine: str, temperature: float) -> list[str]:
    """Why answers could not be written by it."""
    if engine == "vllm" and find_spec("vllm") is None:
        return [
            "evaluation.generation=vllm: the package vllm is not installed: pip install 'smartdpp[vllm]' on "
            "a machine with a GPU, or evaluation.generation=continuous"
        ]
    if engine == "continuous" and temperature > 0:
        return [
            f"evaluation.generation=continuous with evaluation.temperature={temperature:g}: all answers "
            "would be drawn by one generator, so each would depend on those beside it; give "
            "temperature=0, or generation=plain or vllm"
        ]
    return []


def stated(engine: str) -> str:
    """What a plan says of it; nothing of our own."""
    return "" if engine == "plain" else f"answers by generation={engine}"


def named(engine: str) -> str:
    """With the version of what does it."""
    package = "vllm" if engine == "vllm" else "transformers"
    return f"{engine}, {package} {version(package)}"


def continuous(
    model: PreTrainedModel, prompts: list[list[int]], max_new_tokens: int, ends: set[int], batch_size: int
) -> list[list[int]]:
    """The likeliest tokens after each prompt. On a GPU as many at once as its memory holds; on a processor
    ``batch_size``, as its memory is not ours alone. InputError with what the library says where one fails."""
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    bounds = {}
    if model.device.type == "cpu":
        pages = -(-(max(map(len, prompts)) + max_new_tokens) // PAGE)
        bounds = {
            "page_size": PAGE,
            "num_blocks": batch_size * pages,
            "max_requests_per_batch": batch_size,
            "max_batch_tokens": READ,
        }
    found = model.generate_batch(
        prompts,
        generation_config=GenerationConfig(
            do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=sorted(ends)
        ),
        continuous_batching_config=ContinuousBatchingConfig(**bounds),
    )
    failed = [one.error for one in found.values() if one.error is not None]
    if failed or len(found) < len(prompts):
        said = f" ({failed[0]})" if failed else ""
        raise InputError(
            f"evaluation.generation=continuous: {len(prompts) - len(found) + len(failed)} of {len(prompts)} "
            f"answers were not written{said}; evaluation.generation=plain needs less of the model"
        )
    return [list(one.generated_tokens) for one in found.values()]


def vllm(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, ends: set[int]
) -> Callable[[list[list[int]], float, Sequence[int]], list[list[int]]]:
    """Hands the model to vllm; then for prompts, a temperature and a seed for each the tokens after each."""
    from vllm import LLM, SamplingParams

    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        engine = LLM(model=folder, dtype=str(model.dtype).removeprefix("torch."), seed=0)

    def write(prompts: list[list[int]], temperature: float, seeds: Sequence[int]) -> list[list[int]]:
        how = [
            SamplingParams(
                temperature=temperature,
                seed=seed,
                max_tokens=max_new_tokens,
                stop_token_ids=sorted(ends),
                detokenize=False,
            )
            for seed in seeds
        ]
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        found = engine.generate(asked, sampling_params=how, use_tqdm=False)
        return [list(one.outputs[0].token_ids) for one in found]

    return write
