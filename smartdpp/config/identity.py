"""A run's identity, in one sentence: everything in the configuration is what the run *is*, except runtime,
tracker, until, root, Hydra's own and what a study adds (size, sizes, price, report), which are how it is run.
Paths do not count either: a file enters by its content.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from smartdpp.config.schema import GROUPS, HOW, PATHS, Parts
from smartdpp.store.disk import digest
from smartdpp.strategies import start
from smartdpp.strategies.terms import Terms, uses_budget

READING = {  # of a corpus: no part of the identity at these defaults
    "on_bad_row": "refuse",
    "max_line_mib": 4,
    "max_bad_share": 0.01,
    "media": "refuse",
    "task": None,
    "clusters": None,
    "cluster_seed": 0,
}

# parameters that came later, by component: no part of the identity at what was done before there was a choice
LATER: dict[str, dict[str, Any]] = {
    "smartdpp.strategies.top.Top": {"above": None, "below": None, "per_task": False},
    "smartdpp.strategies.targeted.Targeted": {"targets": "pooled", "witnesses": None},
    "smartdpp.quality.Ifd": {"ratio": "losses"},
    **{
        f"smartdpp.evaluation.{name}": {"generation": "plain"}
        for name in (
            "ability.Ability",
            "heldout.Heldout",
            "judged.Judged",
        )
    },
    **{
        f"smartdpp.evaluation.{name}": {"generation": "plain", "contrast": False}
        for name in ("indomain.Indomain", "indomain.IndomainFile", "jsonl.Jsonl")
    },
    "smartdpp.judge.Endpoint": {"served_as": None},
}


MAPPINGS = ("columns", "constants", "extra")  # of evaluations and judges: null is what {} was


# of a judge: where and how it is asked, and files that count by their content
ASKING = (
    "base_url", "key_env", "template", "batch_size", "concurrency", "timeout", "retries", "max_calls",
    "max_tokens",
)  # fmt: skip


def container(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain, resolved dictionaries; ``~`` at the beginning of a path is the home folder,
    as in a shell."""
    return at_home(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False))


def at_home(node: Any, key: str = "") -> Any:
    """The same with the home folder for ``~`` in paths, by their names. A user whom the system does not know
    stays as written."""
    if isinstance(node, dict):
        return {name: at_home(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [at_home(value, key) for value in node]
    return (
        os.path.expanduser(node) if key in PATHS and isinstance(node, str) and node.startswith("~") else node
    )


def identity(cfg: DictConfig, parts: Parts) -> dict[str, Any]:
    """What the run is: the resolved configuration without HOW, with files by content and the budget only
    where it matters."""
    plain = {key: value for key, value in container(cfg).items() if key not in HOW}
    for group in ("embedding", "probe", "quality", "task_vector"):
        plain[group].pop("processes", None)  # they share the same work
    for name, usual in READING.items():
        if name in plain["corpus"] and plain["corpus"][name] == usual:
            del plain["corpus"][name]  # what every corpus was read with before there was a choice
    if plain["pool"].get("turns") == "all":
        del plain["pool"]["turns"]  # single turns know no other
    plain["budget"] = plain["budget"] if uses_budget(parts.strategy) else None
    for key in Terms.__dataclass_fields__:  # nothing where nothing is asked, as before there were such keys
        del plain[key]
    terms = parts.terms.of_strategy(parts.strategy)
    plain |= terms.identity(start.fingerprint(terms.start, parts.strategy))
    plain["files"] = {"corpus": parts.corpus.fingerprint(), "evaluation": parts.evaluation.fingerprint()}
    for group in GROUPS:
        if group not in ("corpus", "evaluation", "tracker"):
            plain[group] = with_content(plain[group], getattr(parts, group))
    if parts.strategy.query:
        plain["strategy"]["query"]["content"] = parts.strategy.query.fingerprint()
    plain["evaluation"] = _evaluated(plain["evaluation"], parts.evaluation)
    return without_paths(plain)


def _evaluated(node: dict[str, Any], evaluation: Any) -> dict[str, Any]:
    """An evaluation, or each of several; where a judge compares, the judge and the reference with what their
    files hold, without how the judge is asked; lm-eval's tasks with its version."""
    if "judge" in node:
        asked = {key: value for key, value in node["judge"].items() if key not in ASKING}
        return _as_before(node) | {
            "judge": with_content(asked, evaluation.judge), "reference": evaluation.reference_content()
        }  # fmt: skip
    if isinstance(parts := node.get("of"), dict):
        return node | {"of": {name: _evaluated(part, evaluation.of[name]) for name, part in parts.items()}}
    own = {"content": evaluation.definitions()} if hasattr(evaluation, "definitions") else {}
    return _as_before(node) | own


def with_content(node: dict[str, Any], component: Any) -> dict[str, Any]:
    """A component's configuration with the fingerprint of the files that it, and every component inside it,
    reads: as ``content``."""
    inside = {
        key: with_content(value, getattr(component, key, None))
        if isinstance(value, dict) and "_target_" in value
        else value
        for key, value in node.items()
    }
    if str(node.get("_target_")).startswith("smartdpp.embedding.") and inside.get("text") == "user":
        del inside["text"]  # what every encoder of texts read before there was a choice
    inside = _as_before(inside)
    content = component.fingerprint() if hasattr(component, "fingerprint") else ""
    return inside | ({"content": content} if content else {})


def _as_before(node: dict[str, Any]) -> dict[str, Any]:
    """A component without the parameters that came later, where they are as it was before."""
    target = str(node.get("_target_"))
    later = LATER.get(target, {})
    mappings = MAPPINGS if target.startswith(("smartdpp.evaluation.", "smartdpp.judge.")) else ()
    return {
        key: {} if value is None and key in mappings else value
        for key, value in node.items()
        if not (key in later and later[key] == value)
    }


def without_paths(node: dict[str, Any]) -> dict[str, Any]:
    """The dictionary without its paths to files that exist here (their content is in a fingerprint, their
    place does not matter), without a name that only repeats such a path, and without the devices that do the
    work."""
    here = {
        os.path.expanduser(value) for key, value in node.items() if key in PATHS and isinstance(value, str)
    }
    # a file called as a hub's model is none
    if str(node.get("_target_")).startswith(("smartdpp.models.", "smartdpp.embedding.")):
        here = {value for value in here if Path(value).is_dir()}
    here = {
        value
        for value in here
        if Path(value).exists() or (glob.has_magic(value) and glob.glob(value, recursive=True))
    }
    # of files, whose content counts too
    lists = {key for key, value in node.items() if key == "path" and isinstance(value, list)}
    return {
        key: without_paths(value) if isinstance(value, dict) else value
        for key, value in node.items()
        if not (key in (*PATHS, "name") and isinstance(value, str) and os.path.expanduser(value) in here)
        and key not in ("devices", *lists)
    }


def slug(plain: dict[str, Any], names: dict[str, str]) -> str:
    """A run directory's name: readable choices, then eight digits of the identity's hash."""
    budget = "" if plain["budget"] is None else f"-b{plain['budget']}"
    budget += f"-t{plain['budget_tokens']}" if "budget_tokens" in plain else ""
    strategy, embedding = (
        re.sub(r"[^\w.+-]+|^[.-]", "_", names[group]) for group in ("strategy", "embedding")
    )  # below runs/, whatever they are
    return f"{strategy}-{embedding}{budget}-s{plain['seed']}-{digest(plain)[:8]}"
