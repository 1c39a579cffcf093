"""The configuration: its schema, a run's identity, and a check of everything in it before any work.

Identity, in one sentence: everything in the configuration is what the run *is*, except runtime, tracker, until, root, Hydra's own and what
a study adds (size, sizes, price, report), which are how it is run. Paths do not count either: a file enters by its content.
"""

from __future__ import annotations

import difflib
import functools
import glob
import inspect
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from smartdpp import allowed, place, remote
from smartdpp.anatomy import misfits
from smartdpp.bounds import LARGEST_WHOLE, unusable
from smartdpp.corpus.build import Limits
from smartdpp.errors import InputError
from smartdpp.launch import too_many
from smartdpp.overrides import compose_without_code
from smartdpp.price import Price
from smartdpp.store import digest
from smartdpp.strategies.reselect import Reselect
from smartdpp.strategies.targeted import Targeted
from smartdpp.types import Corpus, Embedding, Evaluation, Measure, Model, Quality, Recipe, Runtime, Strategy, TaskVector, Tracker

UNTIL = ("plan", "corpus", "embedding", "mixture", "adapter", "scores", "end")
GROUPS = ("corpus", "embedding", "probe", "quality", "task_vector", "strategy", "model", "recipe", "evaluation", "diversity", "tracker")
COMPONENTS = (*GROUPS, "runtime")  # all that are made from the configuration
READING = {"on_bad_row": "refuse", "max_line_mib": 4}  # of a corpus: no part of the identity at these defaults
PATHS = ("path", "include_path", "data_dir", "model", "adapter", "root")  # parameters that may say where files lie; ~ is a home there
RUN_BY_HYDRA = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")  # keys that hydra.utils.instantiate reads
REPORT = ("title", "baseline", "given", "question", "paper")  # smartdpp.study.Wanted
HOW = ("runtime", "tracker", "until", "root", "size", "sizes", "price", "report")  # how it is run


@dataclass
class Config:
    """Top level of the configuration. The groups' contents are checked against their ``_target_``'s signature."""

    corpus: dict[str, Any] = MISSING
    embedding: dict[str, Any] = MISSING
    probe: dict[str, Any] = MISSING
    quality: dict[str, Any] = MISSING
    task_vector: dict[str, Any] = MISSING
    strategy: dict[str, Any] = MISSING
    model: dict[str, Any] = MISSING
    recipe: dict[str, Any] = MISSING
    evaluation: dict[str, Any] = MISSING
    diversity: dict[str, Any] = MISSING
    tracker: dict[str, Any] = MISSING
    runtime: dict[str, Any] = MISSING
    budget: int = MISSING
    seed: int = MISSING
    select_seed: int = MISSING
    train_seed: int = MISSING
    pool: dict[str, Any] = field(default_factory=dict)
    until: str = "end"
    root: str = "."
    size: str | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    price: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


OmegaConf.register_new_resolver("folder_of", lambda root: str(remote.folder(root)), replace=True)  # here, for workers that only import this


def register() -> None:
    """Makes the schema known to Hydra. Idempotent."""
    ConfigStore.instance().store(name="schema", node=Config)
    compose_without_code()


def conf_dir() -> Path:
    """conf/ inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"


@dataclass(frozen=True)
class Parts:
    """The instantiated components of one configuration."""

    corpus: Corpus
    embedding: Embedding
    quality: Quality
    task_vector: TaskVector
    strategy: Strategy
    model: Model
    recipe: Recipe
    evaluation: Evaluation
    diversity: Measure
    tracker: Tracker
    runtime: Runtime
    probe: Embedding  # what diversity is measured in: the same whatever the strategy looks at
    limits: Limits


def check(cfg: DictConfig) -> Parts:
    """The components, ready to work. Raises InputError that lists every problem of the configuration at once."""
    plain = container(cfg)
    if problems := list(_unknown(plain)):
        raise InputError("\n".join(problems))
    problems = [problem for group in COMPONENTS for problem in _signature_problems(group, plain[group], of_group(group))]
    problems += [*_value_problems(plain), *_parameter_problems("pool", Limits, plain["pool"])]
    problems += _parameter_problems("price", Price, plain["price"])
    parts: dict[str, Any] = {}
    if not problems:
        for group in COMPONENTS:
            try:
                parts[group] = _instantiated(plain[group])
            except InputError as error:
                problems.append(str(error))
        try:
            parts["limits"] = Limits(**plain["pool"])
            Price(**plain["price"])
        except InputError as error:
            problems.append(str(error))
    shards_here = getattr(parts.get("runtime"), "rows_per_task", None) is None
    for group in ("corpus", "embedding", "probe", "quality", "task_vector", "model", "recipe", "evaluation", "tracker", "runtime"):
        if group in parts:
            problems += parts[group].check()
            if (group == "recipe" or shards_here) and getattr(parts[group], "parallel", "") != "fsdp":  # which has its own, stricter check
                problems += too_many(group, plain[group].get("processes", 1))
    problems += misfits(parts, plain)
    if isinstance(strategy := parts.get("strategy"), Targeted):
        problems += strategy.query.check()
    if isinstance(strategy, Reselect) and "embedding" in parts:
        same = plain["embedding"].get("model") == plain["model"]
        problems += strategy.check(parts["embedding"], plain["budget"], trained=same)
    problems += remote.problems(plain["root"]) or _root_problems(plain["root"])
    problems += place.problems()
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))  # one model can stand in several places
    return Parts(**parts)


def component(group: str, node: dict[str, Any]) -> Any:
    """One component by itself, for commands that need no whole run. Raises InputError that lists what is wrong with it."""
    if problems := list(_signature_problems(group, node, of_group(group))):
        raise InputError("\n".join(problems))
    return _instantiated(node)


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


def container(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain, resolved dictionaries; ``~`` at the beginning of a path is the home folder, as in a shell."""
    return at_home(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False))


def at_home(node: Any, key: str = "") -> Any:
    """The same with the home folder for ``~`` in paths, by their names. A user whom the system does not know stays as written."""
    if isinstance(node, dict):
        return {name: at_home(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [at_home(value, key) for value in node]
    return os.path.expanduser(node) if key in PATHS and isinstance(node, str) and node.startswith("~") else node


def identity(cfg: DictConfig, parts: Parts) -> dict[str, Any]:
    """What the run is: the resolved configuration without HOW, with files by content and the budget only where it matters."""
    plain = {key: value for key, value in container(cfg).items() if key not in HOW}
    for group in ("embedding", "probe", "quality", "task_vector"):
        plain[group].pop("processes", None)  # they share the same work
    for name, usual in READING.items():
        if plain["corpus"].get(name) == usual:
            del plain["corpus"][name]  # what every corpus was read with before there was a choice
    plain["budget"] = plain["budget"] if uses_budget(parts.strategy) else None
    plain["files"] = {"corpus": parts.corpus.fingerprint(), "evaluation": parts.evaluation.fingerprint()}
    for group in GROUPS:
        if group not in ("corpus", "evaluation", "tracker"):
            plain[group] = with_content(plain[group], getattr(parts, group))
    if isinstance(parts.strategy, Targeted):
        plain["strategy"]["query"]["content"] = parts.strategy.query.fingerprint()
    return without_paths(plain)


def with_content(node: dict[str, Any], component: Any) -> dict[str, Any]:
    """A component's configuration with the fingerprint of the files that it, and every component inside it, reads: as ``content``."""
    inside = {
        key: with_content(value, getattr(component, key, None)) if isinstance(value, dict) and "_target_" in value else value
        for key, value in node.items()
    }
    content = component.fingerprint() if hasattr(component, "fingerprint") else ""
    return inside | ({"content": content} if content else {})


def without_paths(node: dict[str, Any]) -> dict[str, Any]:
    """The dictionary without its paths to files that exist here (their content is in a fingerprint, their place does not matter), without
    a name that only repeats such a path, and without the devices that do the work."""
    here = {os.path.expanduser(value) for key, value in node.items() if key in PATHS and isinstance(value, str)}
    if str(node.get("_target_")).startswith(("smartdpp.models.", "smartdpp.embedding.")):  # a file called as a hub's model is none
        here = {value for value in here if Path(value).is_dir()}
    here = {value for value in here if Path(value).exists() or (glob.has_magic(value) and glob.glob(value, recursive=True))}
    lists = {key for key, value in node.items() if key == "path" and isinstance(value, list)}  # of files, whose content counts too
    return {
        key: without_paths(value) if isinstance(value, dict) else value
        for key, value in node.items()
        if not (key in (*PATHS, "name") and isinstance(value, str) and os.path.expanduser(value) in here) and key not in ("devices", *lists)
    }


def uses_budget(strategy: Strategy) -> bool:
    """False for `full` and `none`, whose size is the same under every budget."""
    return strategy.size(1000, 1) != strategy.size(1000, 2)


def slug(plain: dict[str, Any], names: dict[str, str]) -> str:
    """A run directory's name: readable choices, then eight digits of the identity's hash."""
    budget = "" if plain["budget"] is None else f"-b{plain['budget']}"
    strategy, embedding = (
        re.sub(r"[^\w.+-]+|^[.-]", "_", names[group]) for group in ("strategy", "embedding")
    )  # below runs/, whatever they are
    return f"{strategy}-{embedding}{budget}-s{plain['seed']}-{digest(plain)[:8]}"


def _signature_problems(where: str, node: Any, kind: Callable[[str], type]) -> Iterator[str]:
    """Every `_target_` below this node is a component of its place, its keys exist, none is missing, and the values have the annotated
    types. ``kind`` gives the class of a target that may stand here."""
    if not isinstance(node, dict) or "_target_" not in node:
        yield f"{where}: nothing chosen; choose an option with {where}=NAME"
        return
    try:
        component = kind(str(node["_target_"]))
    except InputError as error:
        yield f"{where}._target_={error}"
        return
    given = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    partial = bool(node.get("_partial_"))  # the function's first parameter, the features, comes when they are there
    if partial != component.__module__.startswith("smartdpp.functions."):
        yield f"{where}._partial_={node.get('_partial_')}: functions have _partial_: true, as in conf/function, and nothing else has it"
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
            yield f"{where}.{key}: {component.__name__} has no parameter {key!r}; {_hint(str(key), parameters)}"
        elif value == MISSING:
            yield f"{where}.{key} has no value: give one with {where}.{key}=VALUE"
        elif isinstance(value, dict) and "_target_" in value:
            yield from _signature_problems(f"{where}.{key}", value, functools.partial(allowed.nested, component, key))
        elif named := next(_targets(value), None):
            yield f"{where}.{key}: {named} is no value; components stand where a parameter is one, and nothing else is run"
        else:
            yield from _type_problems(f"{where}.{key}", component, key, value)
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given:
            yield f"{where}.{key} has no value: give one with {where}.{key}=VALUE"


def _hint(key: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(key, known, 1)
    return f"did you mean {close[0]}?" if close else f"it takes {', '.join(known) or 'no parameters'}"


def _targets(value: Any) -> Iterator[str]:
    """What Hydra would run, or read as its own, at any depth of a value."""
    if isinstance(value, dict):
        yield from (f"{key}: {found}" for key, found in value.items() if key in RUN_BY_HYDRA)
        value = list(value.values())
    if isinstance(value, list):
        for found in value:
            yield from _targets(found)


def _type_problems(where: str, component: Any, key: str, value: Any) -> Iterator[str]:
    from pydantic import TypeAdapter, ValidationError

    groups, classes = allowed.inside(component, key)
    if groups or classes:
        names = " or ".join([f"{group}@{where}=NAME" for group in groups] or [kind.__name__ for kind in classes])
        yield f"{where}={value!r}: this is a component; choose one with {names}, with a + in front where it has none yet"
        return
    if wrong := next(unusable(value), None):
        yield f"{where}: {wrong}"
        return
    holder = type("holder", (), {"__annotations__": {"value": inspect.signature(component).parameters[key].annotation}})
    hint = get_type_hints(holder, globalns=vars(sys.modules[component.__module__]), include_extras=True)["value"]
    kind: TypeAdapter[Any] = TypeAdapter(hint)
    try:
        kind.validate_python(value)
        kind.validate_json(json.dumps(value), strict=True)  # no number for a truth, no text for a number: the value is used as it stands
    except ValidationError as error:
        mapping = f"; a mapping is written '{where}={{ours: theirs}}', in quotes" if error.errors()[0]["type"] == "dict_type" else ""
        yield f"{where}={value!r}: {_said(error)}{mapping}"
    except TypeError:  # an object that YAML can make and JSON cannot
        yield f"{where}={value!r}: a {type(value).__name__} is no value here; put it in quotes to have it as text"


def _said(error: Any) -> str:
    """What pydantic found, once for each way in which a union could have been met."""
    kinds = list(dict.fromkeys(problem["msg"].lower() for problem in error.errors()))
    return " or ".join([kinds[0], *(kind.removeprefix("input should be ") for kind in kinds[1:])])


def _value_problems(plain: dict[str, Any]) -> Iterator[str]:
    if plain["until"] not in UNTIL:
        yield f"until={plain['until']}: choose one of {', '.join(UNTIL)}"
    for name, least, right in (
        ("budget", 1, "it must be at least 1 example"),
        *((name, 0, f"it must be at least 0 and at most {LARGEST_WHOLE}") for name in ("seed", "select_seed", "train_seed")),
    ):
        value = plain[name]
        if isinstance(value, bool) or not isinstance(value, int):
            yield f"{name}={'null' if value is None else value}: it must be a whole number; give one with {name}=NUMBER"
        elif not least <= value <= LARGEST_WHOLE:
            yield f"{name}={value}: {right}"


def _root_problems(root: str) -> Iterator[str]:
    if root.startswith("~"):
        yield f"root={root}: there is no user of that name on this machine; write the folder out"
        return
    folder = remote.folder(root).absolute()
    for path in (folder / "store", folder / "runs", folder, *folder.parents):
        if path.is_symlink() and not path.exists():
            yield f"root={root}: {path} is a link to {path.readlink()}, which is not there; make it, or choose another root"
            return
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        yield f"root={root}: {existing} is not a folder"
        return
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield f"root={root}: {existing} cannot be written ({error.strerror}); choose another folder with root=PATH"
