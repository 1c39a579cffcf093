"""What the package imports is what it asks to be installed."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALLED_AS = {
    "hydra": "hydra-core",
    "ot": "pot",
    "pynvml": "nvidia-ml-py",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def imported() -> dict[str, list[str]]:
    """Third-party package -> the modules of ours that import it, at their top or inside a function."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "smartdpp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            for name in (name.partition(".")[0] for name in names):
                if name not in sys.stdlib_module_names and name != "smartdpp":
                    found.setdefault(INSTALLED_AS.get(name, name.replace("_", "-")), []).append(
                        str(path.relative_to(ROOT))
                    )
    return found


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        one
        for name, several in project["optional-dependencies"].items()
        if name not in ("test", "dev")
        for one in several
    ]
    return {
        re.split(r"[^\w.-]", one)[0].lower().replace("_", "-") for one in [*project["dependencies"], *extras]
    }


@pytest.mark.parametrize("package", sorted(imported()))
def test_an_import_is_a_declared_dependency(package: str) -> None:
    assert package in declared(), (
        f"{', '.join(imported()[package])} import it, and pyproject.toml does not ask for it"
    )
