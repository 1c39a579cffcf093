"""Which classes a configuration may name: a YAML is data, which chooses among components and can run nothing
else.

A group's components are the frozen dataclasses below the package of the group that offer all that its
protocol asks for. A module outside that package is not even imported. So a new strategy stays one file and
one YAML.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from dataclasses import fields, is_dataclass
from typing import Any

from smartdpp.errors import InputError
from smartdpp.functions.state import Function
from smartdpp.types import (
    Corpus,
    Embedding,
    Evaluation,
    Judge,
    Measure,
    Model,
    Quality,
    Query,
    Recipe,
    Runtime,
    Strategy,
    TaskVector,
    Tracker,
)

GROUPS: dict[str, tuple[str, Any]] = {  # group -> where its components lie, and what they offer
    "corpus": ("smartdpp.corpus", Corpus),
    "embedding": ("smartdpp.embedding", Embedding),
    "probe": ("smartdpp.embedding", Embedding),
    "quality": ("smartdpp.quality", Quality),
    "task_vector": ("smartdpp.task_vectors", TaskVector),
    "strategy": ("smartdpp.strategies", Strategy),
    "function": ("smartdpp.functions", Function),
    "query": ("smartdpp.query", Query),
    "model": ("smartdpp.models", Model),
    "recipe": ("smartdpp.finetune", Recipe),
    "evaluation": ("smartdpp.evaluation", Evaluation),
    "judge": ("smartdpp.judge", Judge),
    "diversity": ("smartdpp.diversity", Measure),
    "tracker": ("smartdpp.track", Tracker),
    "runtime": ("smartdpp.runtime", Runtime),
}


def _nothing_wrong(self: Any, *asked: Any, **also: Any) -> list[Any]:
    return []


def _unknown(self: Any, *numbers: Any) -> None:
    return None


def _free(self: Any, heldout: Any, of_base: bool) -> str:
    return ""


def _itself(self: Any) -> Any:
    return self


DEFAULTS: dict[str, dict[str, Any]] = {  # what a component may leave out, which then is so
    "quality": {"text": True},
    **{
        group: {
            **{"columns": _unknown, "memory": _unknown, "unknown": _nothing_wrong},
            **{"warmup": None, "for_query": _itself},
        }
        for group in ("embedding", "probe")
    },
    "strategy": {
        **dict.fromkeys(("check", "misfits"), _nothing_wrong),
        **{"rounds": 1, "renew": False, "answers": False, "query": None, "text": False, "memory": _unknown},
        **{"nested": False, "honours": (), "named": ()},
    },
    "recipe": {"parallel": "ddp", "processes": 1, "memory": _unknown},
    "evaluation": {"reads_base": False, "stated": _free},
    "diversity": {"check": _nothing_wrong},
}


def component(group: str, target: str) -> type:
    """The group's component of this name. InputError for anything else, of which nothing is imported."""
    package, protocol = GROUPS[group]
    if not re.fullmatch(rf"{re.escape(package)}(\.[A-Za-z]\w*)+", target):
        outside = (
            "only components under smartdpp. are instantiated"
            if not target.startswith("smartdpp.")
            else f"a {group} lies in {package}"
        )
        raise InputError(f"{target}: {outside}")
    module_name, _, name = target.rpartition(".")
    try:
        found = vars(importlib.import_module(module_name))[name]
    except (ModuleNotFoundError, KeyError) as error:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("smartdpp"):
            raise  # the component is there, something it needs is not
        raise InputError(f"{target}: there is no such component") from None
    if not _is_component(found, package):
        raise InputError(f"{target}: this is no component; one is a frozen dataclass in {package}")
    for name, value in DEFAULTS.get(group, {}).items():
        if name not in _offered(found):
            setattr(found, name, value)
    if lacking := sorted(_members(protocol) - _offered(found)):
        raise InputError(
            f"{target}: this is no {group}, which has {', '.join(lacking)} too (see {protocol.__name__} in "
            f"{protocol.__module__})"
        )
    return found


def inside(owner: Any, name: str) -> tuple[list[str], list[type]]:
    """What the annotation of a parameter lets stand there: components of these groups, and these classes."""
    annotation = inspect.signature(owner).parameters[name].annotation
    words = set(
        re.findall(
            r"\w+", annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        )
    )
    groups = [
        group for group, (_, protocol) in GROUPS.items() if group != "probe" and protocol.__name__ in words
    ]
    known = vars(inspect.getmodule(owner))
    return groups, [
        known[word] for word in sorted(words) if word in known and _is_component(known[word], "smartdpp")
    ]


def by_name(owner: Any, name: str) -> bool:
    """Whether a parameter is a mapping of names to components."""
    annotation = inspect.signature(owner).parameters[name].annotation
    return str(annotation).startswith("dict[") and bool(inside(owner, name)[0])


def nested(owner: Any, name: str, target: str) -> type:
    """The component that may stand as this parameter of ``owner``. InputError for anything else, of which
    nothing is imported."""
    groups, classes = inside(owner, name)
    for kind in classes:
        module_name, _, last = target.rpartition(".")
        # its module, or a package that shows it
        if getattr(sys.modules.get(module_name), last, None) is kind:
            return kind
    if not groups:
        names = ", ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in classes)
        raise InputError(
            f"{target}: "
            + (
                f"{name} of {owner.__name__} is one of {names}"
                if names
                else f"{name} of {owner.__name__} is a value"
            )
        )
    problem = InputError(target)
    for group in groups:
        try:
            return component(group, target)
        except InputError as error:
            problem = error
    raise problem


def _is_component(found: Any, package: str) -> bool:
    if not (isinstance(found, type) and is_dataclass(found) and found.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        return False
    return f"{found.__module__}.".startswith(f"{package}.")


def _members(protocol: Any) -> set[str]:
    methods = {name for name in vars(protocol) if not name.startswith("_")}
    return methods | {name for name in vars(protocol).get("__annotations__", {}) if not name.startswith("_")}


def _offered(kind: type) -> set[str]:
    return {*dir(kind), *(field.name for field in fields(kind))}
