"""Components by their names in conf/ and options by keyword, as the command composes them, without Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from smartdpp.config import allowed
from smartdpp.config.check import component
from smartdpp.config.compose import conf_dir
from smartdpp.config.identity import at_home
from smartdpp.config.overrides import options
from smartdpp.errors import InputError, did_you_mean

Options = Mapping[str, Any] | None


def node(group: str, name: str, given: Options = None, model: dict[str, Any] | None = None) -> dict[str, Any]:
    """A component's configuration: its YAML, with options of it given another value.

    An option of a component inside is written as on the command line, ``{"tasks.lam": 0.2}``; where a
    component stands, a text is the name of another one, ``{"tasks": "logdet"}``. ``model`` stands for
    ``${model}``. InputError for names that there are not.
    """
    found = _loaded(group, name)
    for key, value in sorted((given or {}).items(), key=lambda item: item[0].count(".")):
        *above, last = key.split(".")
        at: Any = found
        for step in above:
            at = at.get(step)
            if not isinstance(at, dict):
                raise InputError(
                    f"{group}_options[{key!r}]: {group}={name} has no component {step!r}; {_has(found)}"
                )
        groups = (
            []
            if above or last not in found
            else allowed.inside(allowed.component(group, found["_target_"]), last)[0]
        )
        at[last] = _loaded(groups[0], value) if groups and isinstance(value, str) else value
    whole = OmegaConf.create({"model": model, group: found} if group != "model" else {group: found})
    try:
        resolved: Any = OmegaConf.to_container(whole, resolve=True)
    except OmegaConfBaseException as error:
        said = str(error).partition("\n")[0]
        if "Missing mandatory value" in said:  # what the YAML leaves to be given
            said = f"{said.rpartition(' ')[2]} has no value; give one with {group}_options."
        raise InputError(f"{group}={name}: {said}") from None
    return at_home(resolved[group])


def made(group: str, settings: dict[str, Any]) -> Any:
    """The component, which finds all that it needs. InputError that lists what is wrong."""
    found = component(group, settings)
    if problems := found.check() if hasattr(found, "check") and group != "strategy" else []:
        raise InputError("\n".join(problems))
    return found


def _loaded(group: str, name: str) -> dict[str, Any]:
    known = options(conf_dir())[group]
    if name not in known:
        raise InputError(f"{group}={name!r}: there is no such {group}; {did_you_mean(str(name), known)}")
    own: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{name}.yaml"), resolve=False)
    below: dict[str, Any] = {}
    for default in own.pop("defaults", []):  # another YAML of the group, name@key, or /group@key: name
        if default == "_self_":
            continue
        if isinstance(default, dict):
            (where, option), *_ = default.items()
            inner, _, key = where.removeprefix("/").partition("@")
        else:
            inner, (option, _, key) = group, default.partition("@")
        part = _loaded(inner, option)
        for step in reversed(key.split(".") if key else []):  # warmup.recipe: a component's component
            part = {step: part}
        below = _merged(below, part)
    return _merged(below, own)


def _merged(below: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(below[key], own[key]) for key in below.keys() & own.keys() if _dicts(below, own, key)
    }
    return below | own | both


def _dicts(below: dict[str, Any], own: dict[str, Any], key: str) -> bool:
    return isinstance(below[key], dict) and isinstance(own[key], dict)


def _has(found: dict[str, Any]) -> str:
    inside = [key for key, value in found.items() if isinstance(value, dict)]
    return f"it has {', '.join(inside)}" if inside else "it has none"
