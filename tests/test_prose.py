"""Whatever module, function or file of the package is named in prose is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("smartdpp/**/*.py")), *sorted(ROOT.glob("conf/**/*.yaml")),  # noqa: E501
         *sorted(ROOT.glob("experiments/*.yaml"))]  # fmt: skip
EXAMPLE = (
    "smartdpp.strategies.shortest.Shortest",
    "smartdpp/strategies/shortest.py",
    "conf/strategy/shortest.yaml",
)  # which the README has its reader write


@cache
def defined(module: Path) -> set[str]:
    """Names at the top of a module, imported ones too; of the package itself those that it imports when they
    are asked for."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Dict) and module.parent == ROOT / "smartdpp":
            names |= {
                key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
    return names


def resolves(dotted: str) -> bool:
    at = ROOT
    parts = dotted.split(".")
    for i, part in enumerate(parts):
        if (at / part).is_dir():
            at = at / part
        elif (at / f"{part}.py").is_file():
            return set(parts[i + 1 : i + 2]) <= defined(at / f"{part}.py")
        else:
            return part in defined(at / "__init__.py")
    return True


def test_every_module_and_path_that_is_named_is_there() -> None:
    gone = []
    for file in PROSE:
        text = file.read_text(encoding="utf-8")
        for name in re.findall(r"\bsmartdpp(?:\.[A-Za-z_]\w*)+", text):
            if name not in EXAMPLE and not resolves(name):
                gone.append(f"{file.relative_to(ROOT)}: {name}")
        for path in re.findall(
            r"(?<![\w/.:-])(?:smartdpp|conf|tests|experiments)/[\w/]+(?:\.\w+)?(?![\w*{<])", text
        ):
            if path not in EXAMPLE and not (ROOT / path).exists():
                gone.append(f"{file.relative_to(ROOT)}: {path}")
    assert not gone
