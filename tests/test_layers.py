"""The house stands in layers: modules import in no circle, and a room uses those below it only. CONTRIBUTING
lists the layers."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.glob("smartdpp/**/*.py")
}
ENGINE = {"functions", "greedy"}


def imports(module: str) -> set[str]:
    """The modules of the package that one imports anywhere in it: late, and for types alone, too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute here"
            of = f"{node.module}"
            found |= {name if (name := f"{of}.{alias.name}") in FILES else of for alias in node.names}
    return {name for name in found if name in FILES} - {module}


def room(module: str) -> str:
    return module.split(".")[1]


def layers() -> list[list[str]]:
    """Bottom up, as CONTRIBUTING lists them; rooms of one layer do not use each other."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.search(r"^```layers\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    assert listed
    return [line.split() for line in listed[1].splitlines()]


def test_modules_import_in_no_circle() -> None:
    try:
        TopologicalSorter({module: imports(module) for module in FILES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_every_room_has_one_layer() -> None:
    listed = list(chain.from_iterable(layers()))
    assert sorted(listed) == sorted({room(module) for module in FILES if module != "smartdpp"})


def test_a_room_uses_only_those_below_it() -> None:
    floor = {name: number for number, names in enumerate(layers()) for name in names}
    upwards = [
        f"{module} -> {used}"
        for module in FILES
        if module != "smartdpp" and not module.endswith("__main__")  # these stand above all
        for used in imports(module)
        if room(module) != room(used) and floor[room(module)] <= floor[room(used)]
    ]
    assert not upwards


def test_the_engine_needs_nothing_of_the_framework() -> None:
    allowed = ENGINE | {"types", "bounds", "errors"}
    engine = [module for module in FILES if module != "smartdpp" and room(module) in ENGINE]
    assert not [
        f"{module} -> {used}" for module in engine for used in imports(module) if room(used) not in allowed
    ]


def test_few_modules_lie_outside_a_room() -> None:
    assert (
        len(
            [
                module
                for module, path in FILES.items()
                if path.name != "__init__.py" and module.count(".") == 1
            ]
        )
        <= 6
    )
