"""Names of the engine: no public name has two meanings, and what documentation names exists."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.flights import ROOT

ACCEPTED: Final = {
    "add_to": "Each module of a command adds its arguments to the parser with it.",
    "main": "The function that `python -m` and the installed command call.",
    "Model": "The component is `ml_assets.Model` in YAML; the artifact is a trained model.",
}
"""Names that several modules may define, each with the reason."""
_NAMED: Final = re.compile(r"`(ml_assets[./][\w./]*\w)")


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (it for it in sorted((ROOT / folder).rglob("*.py")) if "templates" not in it.parts)


def has_name(node: ast.AST, name: str) -> bool:
    """Return whether a module, class or function defines or imports a name."""
    return any(
        (isinstance(it, ast.FunctionDef | ast.ClassDef) and it.name == name)
        or (isinstance(it, ast.Name) and isinstance(it.ctx, ast.Store) and it.id == name)
        or (isinstance(it, ast.alias) and (it.asname or it.name) == name)
        for it in ast.walk(node)
    )


def is_found(named: str) -> bool:
    """Return whether a path or a dotted name of the engine exists."""
    if "/" in named:
        return (ROOT / named).exists()
    place, parts = ROOT, named.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if not parts:
        return True
    module = place / f"{parts[0]}.py"
    if module.exists():
        parts.pop(0)
    else:
        module = place / "__init__.py"
    text = module.read_text(encoding="utf-8")
    tree = ast.parse(text)
    return all(has_name(tree, part) or (module.name == "__init__.py" and f'"{part}"' in text) for part in parts)


def test_no_public_class_or_function_is_defined_in_two_modules() -> None:
    places = defaultdict(list)
    for path in modules("ml_assets"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                places[node.name].append(str(path.relative_to(ROOT)))

    found = {name: its for name, its in places.items() if len(its) > 1 and name not in ACCEPTED}

    assert {} == found


def test_every_module_path_and_name_that_documentation_quotes_exists() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {found[1]}"
        for path in modules("ml_assets", "sensors", "resources", "tests", "benchmarks")
        for found in _NAMED.finditer(path.read_text(encoding="utf-8"))
        if not is_found(found[1])
    ]

    assert [] == missing


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("ml_assets.assembly.build", True),
        ("ml_assets/assembly.py", True),
        ("ml_assets.lake.store.Lake", True),
        ("ml_assets.stages", True),
        ("ml_assets.assembly.nothing", False),
        ("ml_assets/nothing.py", False),
    ],
)
def test_a_quoted_name_is_found_only_if_it_exists(named: str, *, expected: bool) -> None:
    assert expected == is_found(named)
