"""What stands behind ``run.py``: flags in any place, and overrides that Hydra can read, or one sentence with
the quoting that works.

Hydra's grammar gives ``=``, brackets, blanks and quotes a meaning (hydra.cc, "Basic Override syntax"); its
own complaint about a value that has them names neither the key nor the way out.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from smartdpp.errors import InputError, did_you_mean

PLAIN = re.compile(r"[\w.+/-]+")  # what needs no quotes inside a mapping or list
OPTION = re.compile(r"(?!.*\.\.)[\w+-][\w./+-]*")  # a file in a group's folder, or in one below it


def arranged(arguments: Sequence[str]) -> list[str]:
    """The same arguments with flags (``-m``, ``-cd DIR``) before the overrides, the order that Hydra's parser
    needs.

    InputError for a flag that there is not.
    """
    from hydra._internal.utils import get_args_parser

    actions = get_args_parser()._option_string_actions
    flags: list[str] = []
    overrides: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        name, given, _ = argument.partition("=")
        action = actions.get(name)
        if action is None:
            if re.match(r"-(cn|cd|cp|cs)?$|-[a-z]{2}", name) or not (word := name.lstrip("-")):
                continue  # Hydra's parser says what is wrong with it
            if any(known.startswith(name) for known in actions):
                continue  # shortened, as the parser allows
            value = argument.partition("=")[2] or next(
                (value for value in left if not value.startswith("-")), "VALUE"
            )
            raise InputError(
                f"{argument}: there is no such flag; a setting is written without dashes: {word}={value}"
            )
        if (
            left
            and not given
            and (action.nargs is None or (action.nargs == "?" and left[0] in (action.choices or ())))
        ):
            flags.append(left.pop(0))
    return [*flags, *overrides]


def given() -> list[str]:
    """The overrides of the command line."""
    from hydra._internal.utils import get_args

    return list(get_args().overrides)


def refuse(overrides: Sequence[str], groups: dict[str, list[str]], known: Sequence[str]) -> None:
    """InputError with every override that is none, what is wrong with it and how to write it.

    groups: the options of each group; known: the configuration's keys, none of which can be taken away.
    """
    if problems := list(_problems(overrides, groups, known)):
        raise InputError("\n".join(problems))


def options(conf: Path) -> dict[str, list[str]]:
    """The options of each group of the configuration folder, ``probe`` among them."""
    found: dict[str, list[str]] = {}
    for path in sorted(conf.glob("*/*.yaml")):
        found.setdefault(path.parent.name, []).append(path.stem)
    return found | {"probe": found.get("embedding", [])}


def no_such_key(key: str, conf: Path, known: Sequence[str]) -> str:
    """The sentence for ``key=value`` where the composed configuration has no such key."""
    top, _, rest = key.partition(".")
    if not rest or top not in known:
        return f"{key}: there is no such key; {did_you_mean(top, known)}"
    folder = {"probe": "embedding"}.get(top, top)
    texts = {path.stem: path.read_text() for path in sorted(conf.glob(f"{folder}/*.yaml"))}
    names = {name: re.findall(r"^(\w+):", text, re.MULTILINE) for name, text in texts.items()}
    having = [name for name, keys in names.items() if rest in keys]
    close = get_close_matches(rest, {key for keys in names.values() for key in keys}, 1)
    hint = f"--cfg job shows those it has, +{key}=VALUE gives it another"
    if having:
        hint = f"it is a key of {top}={', '.join(having)}: name one of them beside it"
        hint += f", or evaluation.of.NAME.{rest} of evaluation=combined" * (top == "evaluation")
    elif close:
        hint = f"did you mean {top}.{close[0]}?"
    return f"{key}: the {top} that is chosen has no such key; {hint}"


def _problems(overrides: Sequence[str], groups: dict[str, list[str]], known: Sequence[str]) -> Iterator[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    left = list(overrides)
    while left:
        text = left.pop(0)
        try:
            parsed = parser.parse_override(text)
        except HydraException:
            split = _split_by_the_shell(text, left)
            left = left[len(split) :]
            yield _quoted(" ".join([text, *split]), parser, parted=bool(split))
            continue
        key = parsed.key_or_group
        if parsed.is_delete() and key in known:
            yield f"{text}: a run needs {key}; give {key}=VALUE"
        group = key.partition("@")[0]
        if not parsed.is_delete() and group in groups:
            yield from _option_problems(text, parsed, groups[group])


def _option_problems(text: str, parsed: Any, known: list[str]) -> Iterator[str]:
    chosen = parsed.value()
    if parsed.is_sweep_override():
        chosen = getattr(chosen, "list", None) or []  # a glob asks for options that are there
    for written in chosen if parsed.is_sweep_override() else [chosen]:
        option = getattr(written, "text", written)  # what stood in quotes
        if not isinstance(option, (str, int)) or isinstance(option, bool) or not str(option):
            several = isinstance(written, list) and "combined" in known
            also = f"; several in one run are {parsed.get_key_element()}=combined" if several else ""
            yield f"{text}: one option is chosen, by its name: {', '.join(known)}{also}"
        elif not OPTION.fullmatch(str(option)):
            yield f"{text}: {option} is no option's name; choose one of {', '.join(known)}"
        elif isinstance(option, int):
            yield f"{text}: there is no such option; choose one of {', '.join(known)}"


def _split_by_the_shell(text: str, following: list[str]) -> list[str]:
    """The arguments after an opened bracket that close it: blanks outside quotes part an argument."""

    def opened(so_far: str) -> int:
        return sum(so_far.count(a) - so_far.count(b) for a, b in ("{}", "[]", "()"))

    taken: list[str] = []
    while opened(" ".join([text, *taken])) > 0 and len(taken) < len(following):
        taken.append(following[len(taken)])
    return taken if opened(" ".join([text, *taken])) == 0 else []


def _quoted(text: str, parser: Any, parted: bool) -> str:
    from hydra.errors import HydraException

    key, equals, value = text.partition("=")
    if not equals:
        return f"{text}: this is neither a flag nor key=value"
    mapping = _as_mapping(value)
    escaped = re.sub(r"(\\*)(?='|$)", r"\1\1", value).replace("'", r"\'")
    for better in ([f"{key}={mapping}"] if mapping else []) + [f"{key}='{escaped}'"]:
        try:
            parser.parse_override(better)
        except HydraException:
            continue
        reason = (
            "keys of a mapping have no quotes" if mapping else "it has a character with a meaning of its own"
        )
        reason = "the shell has parted it at its blanks" if parted else reason
        return f"{text}: Hydra cannot read this value ({reason}); write {in_shell(better)}"
    return (
        f"{text}: Hydra cannot read this; a setting is KEY=VALUE, and a value with brackets, quotes or = in "
        "it is \"KEY='VALUE'\""
    )


def in_shell(argument: str) -> str:
    """As it is typed: in double quotes where single ones are inside, whenever the shell leaves those
    alone."""
    return (
        shlex.quote(argument) if "'" not in argument or re.search(r'["$`\\!]', argument) else f'"{argument}"'
    )


def _as_mapping(value: str) -> str | None:
    """A mapping or list in JSON, or Python, as Hydra writes it."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return _flow(found) if isinstance(found, (dict, list)) else None
    plain = re.fullmatch(r"\{.*\}|\[.*\]", value)
    return value if plain else None


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    looks_like_text = isinstance(yaml.safe_load(text), str) if PLAIN.fullmatch(text) else False
    return (
        text
        if looks_like_text or not isinstance(value, str)
        else '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'
    )
