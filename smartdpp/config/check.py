"""The check of everything in the configuration before any work: every problem at once, each as one
sentence."""

from __future__ import annotations

import functools
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig

from smartdpp.bounds import LARGEST_WHOLE, unusable
from smartdpp.config import allowed
from smartdpp.config.identity import container
from smartdpp.config.misfits import misfits
from smartdpp.config.schema import COMPONENTS, REPORT, UNTIL, Config, Parts, Price
from smartdpp.corpus.build import Limits
from smartdpp.errors import InputError, did_you_mean
from smartdpp.runtime.processes import too_many
from smartdpp.store import place, remote
from smartdpp.strategies import start
from smartdpp.strategies.terms import Terms

# keys that hydra.utils.instantiate reads
RUN_BY_HYDRA = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def check(cfg: DictConfig) -> Parts:
    """The components, ready to work. Raises InputError that lists every problem of the configuration at
    once."""
    plain = container(cfg)
    if problems := list(_unknown(plain)):
        raise InputError("\n".join(problems))
    problems = [
        problem
        for group in COMPONENTS
        if _key(group, plain[group]) not in _made
        for problem in _signature_problems(group, plain[group], of_group(group))
    ]
    problems += _value_problems(plain)
    for group, kind in (("pool", Limits), ("price", Price)):
        if _key(group, plain[group]) not in _made:
            problems += _parameter_problems(group, kind, plain[group])
    terms = {key: plain[key] for key in Terms.__dataclass_fields__}
    parts: dict[str, Any] = {}
    if not problems:
        for group in COMPONENTS:
            try:
                parts[group] = _once(group, plain[group], _instantiated)
            except InputError as error:
                problems.append(str(error))
        try:
            parts["limits"] = _once("pool", plain["pool"], lambda given: Limits(**given))
            parts["terms"] = asked(terms)
            _once("price", plain["price"], lambda given: Price(**given))
        except InputError as error:
            problems.append(str(error))
    shards_here = "runtime" not in parts or parts["runtime"].rows_per_task is None
    for group, part in parts.items():
        if group not in ("limits", "terms"):
            problems += part.check()
        if (group in ("embedding", "probe", "quality", "task_vector") and shards_here) or (
            group == "recipe" and part.parallel != "fsdp"
        ):
            # sharded training has its own, stricter check
            problems += too_many(group, plain[group].get("processes", 1))
    problems += misfits(parts, plain)
    if "strategy" in parts and "embedding" in parts:
        same = plain["embedding"].get("model") == plain["model"]
        budget = plain["budget"] or plain["budget_tokens"]  # of so many tokens there are no more examples
        problems += parts["strategy"].misfits(parts["embedding"], budget, trained=same)
    if "strategy" in parts and "terms" in parts:
        problems += [*parts["terms"].misfits(parts["strategy"]), *start.check(parts["terms"].start)]
    problems += remote.problems(plain["root"]) or _root_problems(plain["root"])
    problems += place.problems()
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))  # one model can stand in several places
    return Parts(**parts)


# components hold nothing but their parameters: cells of a sweep share them
_made: dict[tuple[str, str], Any] = {}


def _key(group: str, node: Any) -> tuple[str, str]:
    return group, repr(node)


def _once(group: str, node: dict[str, Any], make: Callable[[dict[str, Any]], Any]) -> Any:
    """A group's component, made where no cell before this one has it."""
    if (key := _key(group, node)) not in _made:
        _made[key] = make(node)
    return _made[key]


def component(group: str, node: dict[str, Any]) -> Any:
    """One component by itself, for commands that need no whole run. Raises InputError that lists what is
    wrong with it."""
    if problems := list(_signature_problems(group, node, of_group(group))):
        raise InputError("\n".join(problems))
    return _instantiated(node)


def asked(given: dict[str, Any]) -> Terms:
    """What is asked of a mixture beside its budget. Raises InputError that lists what is wrong with it."""
    if problems := [one for key in given for one in _type_problems(key, Terms, key, given[key])]:
        raise InputError("\n".join(problems))
    return Terms(**given)


def of_group(group: str) -> Callable[[str], type]:
    return functools.partial(allowed.component, group)


def _unknown(plain: dict[str, Any]) -> Iterator[str]:
    """Keys at the top that mean nothing, and those that are missing there."""
    known = Config.__dataclass_fields__
    for key in plain.keys() - known.keys():
        yield f"{key}: there is no such key; {_hint(str(key), known)}"
    for key in known.keys() - plain.keys() if not plain.keys() - known.keys() else ():
        choice = f"choose an option with {key}=NAME" if key in COMPONENTS else f"give it with {key}=VALUE"
        yield f"{key}: there is none; every run has one: {choice}"
    for key in ("sizes", "report"):
        if key in plain and (not isinstance(plain[key], dict) or next(_targets(plain[key]), None)):
            yield f"{key}={plain[key]!r}: it is a mapping of values, in a study's YAML"
    report = plain.get("report")
    for key in report.keys() - REPORT if isinstance(report, dict) else ():
        yield f"report.{key}: no report has it; {_hint(str(key), REPORT)}"


def _instantiated(node: dict[str, Any]) -> Any:
    """The component. What it refuses itself comes out as its own InputError, not as Hydra's."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if not isinstance(error.__cause__, InputError):
            raise
        raise error.__cause__ from None


def _signature_problems(where: str, node: Any, kind: Callable[[str], type]) -> Iterator[str]:
    """Every `_target_` below this node is a component of its place, its keys exist, none is missing, and the
    values have the annotated types. ``kind`` gives the class of a target that may stand here."""
    if not isinstance(node, dict) or "_target_" not in node:
        part = where.startswith("evaluation.of.")  # of several: what is set of one outlasts ~evaluation@...
        option = f"+evaluation@{where}=NAME, or leave it out with ~{where}" if part else f"{where}=NAME"
        yield f"{where}: nothing chosen; choose an option with {option}"
        return
    try:
        component = kind(str(node["_target_"]))
    except InputError as error:
        yield f"{where}._target_={error}"
        return
    given = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    # the function's first parameter, the features, comes when they are there
    partial = bool(node.get("_partial_"))
    if partial != component.__module__.startswith("smartdpp.functions."):
        yield (
            f"{where}._partial_={node.get('_partial_')}: functions have _partial_: true, as in "
            "conf/function, and nothing else has it"
        )
        return
    yield from _parameter_problems(where, component, given, partial=partial)


def _parameter_problems(where: str, component: Any, given: Any, *, partial: bool = False) -> Iterator[str]:
    parameters = dict(inspect.signature(component).parameters)
    if partial:
        parameters.pop(next(iter(parameters)))
    if not isinstance(given, dict):
        yield f"{where}={given!r}: it is a mapping of {', '.join(parameters)}"
        return
    for key, value in given.items():
        if key not in parameters:
            yield (
                f"{where}.{key}: {component.__name__} has no parameter {key!r}; {_hint(str(key), parameters)}"
            )
        elif value == MISSING:
            yield f"{where}.{key} has no value: give one with {where}.{key}=VALUE"
        elif isinstance(value, dict) and "_target_" in value:
            yield from _signature_problems(
                f"{where}.{key}", value, functools.partial(allowed.nested, component, key)
            )
        elif allowed.by_name(component, key) and isinstance(value, dict):
            kind = functools.partial(allowed.nested, component, key)
            yield from (
                problem
                for name, node in value.items()
                for problem in _signature_problems(f"{where}.{key}.{name}", node, kind)
            )
        elif named := next(_targets(value), None):
            yield (
                f"{where}.{key}: {named} is no value; components stand where a parameter is one, and "
                "nothing else is run"
            )
        else:
            yield from _type_problems(f"{where}.{key}", component, key, value)
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given:
            yield f"{where}.{key} has no value: give one with {where}.{key}=VALUE"


def _hint(key: str, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(key, known, f"it takes {', '.join(known) or 'no parameters'}")


def _targets(value: Any) -> Iterator[str]:
    """What Hydra would run, or read as its own, at any depth of a value."""
    if isinstance(value, dict):
        yield from (f"{key}: {found}" for key, found in value.items() if key in RUN_BY_HYDRA)
        value = list(value.values())
    if isinstance(value, list):
        for found in value:
            yield from _targets(found)


def _type_problems(where: str, component: Any, key: str, value: Any) -> Iterator[str]:
    from pydantic import ValidationError

    groups, classes = allowed.inside(component, key)
    if groups or classes:
        names = " or ".join(
            [f"{group}@{where}=NAME" for group in groups] or [kind.__name__ for kind in classes]
        )
        yield (
            f"{where}={value!r}: this is a component; choose one with {names}, with a + in front where it "
            "has none yet"
        )
        return
    if wrong := next(unusable(value), None):
        yield f"{where}: {wrong}"
        return
    kind = _type(component, key)
    try:
        kind.validate_python(value)
        # no number for a truth, no text for a number: the value is used as it stands
        kind.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        mapping = (
            f"; a mapping is written '{where}={{ours: theirs}}', in quotes"
            if error.errors()[0]["type"] == "dict_type"
            else ""
        )
        yield f"{where}={value!r}: {_said(error)}{mapping}"
    except TypeError:  # an object that YAML can make and JSON cannot
        yield (
            f"{where}={value!r}: a {type(value).__name__} is no value here; put it in quotes to "
            "have it as text"
        )


@functools.cache
def _type(component: Any, key: str) -> Any:
    """The pydantic type of a parameter."""
    from pydantic import TypeAdapter

    holder = type(
        "holder", (), {"__annotations__": {"value": inspect.signature(component).parameters[key].annotation}}
    )
    said_by = (
        kind for kind in getattr(component, "__mro__", ()) if key in vars(kind).get("__annotations__", {})
    )
    module = sys.modules[next(said_by, component).__module__]  # a parameter can be a base class's
    hint = get_type_hints(holder, globalns=vars(module), include_extras=True)["value"]
    return TypeAdapter(hint)


def _said(error: Any) -> str:
    """What pydantic found, once for each way in which a union could have been met."""
    kinds = list(dict.fromkeys(problem["msg"].lower() for problem in error.errors()))
    return " or ".join([kinds[0], *(kind.removeprefix("input should be ") for kind in kinds[1:])])


def _value_problems(plain: dict[str, Any]) -> Iterator[str]:
    if plain["until"] not in UNTIL:
        yield f"until={plain['until']}: choose one of {', '.join(UNTIL)}"
    for name, least, right in (
        ("budget", 1, "it must be at least 1 example"),
        *(
            (name, 0, f"it must be at least 0 and at most {LARGEST_WHOLE}")
            for name in ("seed", "select_seed", "train_seed")
        ),
    ):
        value = plain[name]
        if name == "budget" and plain["budget_tokens"] is not None:
            if value is not None:
                yield (
                    f"budget={value} and budget_tokens={plain['budget_tokens']}: a mixture has one budget; "
                    "leave one of them out, or set it to null"
                )
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            yield (
                f"{name}={'null' if value is None else value}: it must be a whole number; give one with "
                f"{name}=NUMBER"
            )
        elif not least <= value <= LARGEST_WHOLE:
            yield f"{name}={value}: {right}"


def _root_problems(root: str) -> Iterator[str]:
    if root.startswith("~"):
        yield f"root={root}: there is no user of that name on this machine; write the folder out"
        return
    folder = remote.folder(root).absolute()
    for path in (folder / "store", folder / "runs", folder, *folder.parents):
        if path.is_symlink() and not path.exists():
            yield (
                f"root={root}: {path} is a link to {path.readlink()}, which is not there; make it, or "
                "choose another root"
            )
            return
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        yield f"root={root}: {existing} is not a folder"
        return
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield (
            f"root={root}: {existing} cannot be written ({error.strerror}); choose another folder "
            "with root=PATH"
        )
