"""Where components or numbers ask of a model what it has not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from smartdpp.embedding.gradient import Gradient
from smartdpp.embedding.hidden import Hidden
from smartdpp.evaluation.none import NoEvaluation
from smartdpp.finetune import Finetune
from smartdpp.models.anatomy import Anatomy, anatomy, known
from smartdpp.models.tokens import encode_prompt
from smartdpp.quality import Rated
from smartdpp.quality.model import GradientNorm
from smartdpp.signals.rating import question
from smartdpp.task_vectors import Task2Vec


def misfits(parts: dict[str, Any], plain: dict[str, Any]) -> Iterator[str]:
    """Where other components or numbers ask of a model what it has not."""
    recipe, evaluation = parts.get("recipe"), parts.get("evaluation")
    of_model = anatomy(parts.get("model"))
    if of_model and not of_model.scores and evaluation and not isinstance(evaluation, NoEvaluation):
        yield (
            f"model.path={plain['model'].get('path')} keeps a state in place of keys and values "
            f"({of_model.kind}), from which scoring "
            "cannot go on with several answers: give a transformer, as Llama, Qwen, Mistral or GPT-2 are, "
            "or score nothing with "
            "evaluation=none"
        )
    if isinstance(recipe, Finetune) and (found := known(parts.get("model"))):
        yield from _targets(recipe, found)
        if recipe.gradient_checkpointing and not found.checkpointing:
            yield f"recipe.gradient_checkpointing: models of the kind {found.kind} have none; leave it false"
    for group in ("model", "embedding", "probe", "quality", "task_vector"):
        component = parts.get(group)
        if found := known(component if group == "model" else getattr(component, "model", None)):
            yield from _too_short(group, found, parts, plain)
            if isinstance(component, Rated):
                yield from _too_long_a_question(component, found, plain)
            if group != "model":
                yield from _layers(group, component, found)
                yield from _warmup(group, component, found)


def _warmup(group: str, component: Any, found: Anatomy) -> Iterator[str]:
    recipe = getattr(getattr(component, "warmup", None), "recipe", None)
    if isinstance(recipe, Finetune):
        said = [problem.replace("recipe.", f"{group}.warmup.recipe.") for problem in _targets(recipe, found)]
        yield from said


def _targets(recipe: Finetune, found: Anatomy) -> Iterator[str]:
    wanted = recipe.target_modules
    if recipe.method == "full" or wanted == "all-linear":
        return
    if not wanted:
        yield "recipe.target_modules is empty: name layers, or use all-linear"
        return
    names = (*found.linear, *found.other)
    if isinstance(wanted, str):
        missing = [] if any(_matches(wanted, name) for name in names) else [wanted]
    else:
        missing = [
            target
            for target in wanted
            if not any(name == target or name.endswith(f".{target}") for name in names)
        ]
    if missing:
        there = ", ".join(sorted({name.rpartition(".")[2] for name in names if name != found.head}))
        which = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} in none of the names"
        yield (
            f"recipe.target_modules={wanted}: {which} of the layers of this model ({found.kind}), which has "
            f"{there}; or use all-linear"
        )


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return False


def _too_short(group: str, found: Anatomy, parts: dict[str, Any], plain: dict[str, Any]) -> Iterator[str]:
    longest, limit = plain["pool"].get("max_tokens"), found.limit
    if limit is None or not isinstance(longest, int):
        return
    why = "has positions for" if found.hard else "was made for"
    whose = "" if group == "model" else f" of {group}"
    if longest > limit:
        yield (
            f"pool.max_tokens={longest}: the model{whose} ({found.kind}) {why} {limit} tokens; choose "
            f"{limit} or less, or another model"
        )
        return
    if group != "model" or not found.hard:
        return
    # a response has a token, and an end
    prompt = min(longest - 2, plain["pool"].get("max_prompt_tokens") or longest)
    for where, new, end in _written(parts):
        if prompt + new + end > limit:
            yield (
                f"{where}.max_new_tokens={new} after prompts of up to {prompt} tokens: the model "
                f"({found.kind}) {why} {limit}; "
                f"choose pool.max_prompt_tokens={limit - new - end} or less, or fewer new tokens"
            )


def _written(parts: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Who lets the model write, how many tokens, and whether they are read again with an end."""
    new = getattr(parts.get("evaluation"), "max_new_tokens", None)
    if new and getattr(parts["evaluation"], "generate", True):
        yield "evaluation", new, 0
    if getattr(parts.get("strategy"), "answers", False):
        yield "strategy", parts["strategy"].max_new_tokens, 1


def _too_long_a_question(quality: Rated, found: Anatomy, plain: dict[str, Any]) -> Iterator[str]:
    """A rating's question stands around prompt and response, beyond what pool.max_tokens counts."""
    longest, limit = plain["pool"].get("max_tokens"), found.limit
    if not (found.hard and limit and isinstance(longest, int) and longest <= limit) or found.end is None:
        return  # without an end, its tokenizer is not here
    tokenizer, fmt = quality.model.tokenizer(), quality.model.format
    # the frame that stands around a prompt is counted already, and the answer's digit takes the end's place
    frame = len(encode_prompt(tokenizer, fmt, ""))
    more = max(len(encode_prompt(tokenizer, fmt, question(one, "", ""))) for one in quality.prompts) - frame
    if longest + more > limit:
        yield (
            f"pool.max_tokens={longest}: quality=rated puts a question of up to {more} tokens around each "
            f"example, and the model of quality ({found.kind}) has positions for {limit}; choose "
            f"{max(limit - more, 1)} or less, shorter quality.prompts, or another model"
        )


def _layers(group: str, component: Any, found: Anatomy) -> Iterator[str]:
    if isinstance(component, Hidden) and not -found.layers - 1 <= component.layer <= found.layers:
        n = found.layers
        yield (
            f"{group}.layer={component.layer}: the model has {n} layers; choose 0 (token embeddings) to "
            f"{n}, or -1 to {-n - 1}"
        )
    if isinstance(component, (Gradient, Task2Vec, GradientNorm)):
        layers = getattr(component, "layers", "attention")
        inside = [name for name in found.linear if layers != "attention" or _in_attention(name)]
        if not inside:
            yield (
                f"{group}: gradients are taken of nn.Linear "
                f"layers{' in attention' if layers == 'attention' else ''}, of which this model "
                f"({found.kind}) has none; use another embedding or model"
                + (f", or {group}.layers=all_linear" if found.linear and hasattr(component, "layers") else "")
            )


def _in_attention(name: str) -> bool:
    return any("attn" in part or "attention" in part for part in name.split("."))
