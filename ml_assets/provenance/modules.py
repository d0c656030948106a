"""Finds and parses modules of the engine and of projects without importing them, and resolves their names."""

import ast
import functools
import gc
import hashlib
import importlib.util
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ALL: Final = "*"
"""The name that means everything in a module."""
ON_IMPORT: Final = "<import>"
"""The name that means the code that runs on import, apart from assignments."""
STORAGE: Final = tuple(
    f"ml_assets.{name}"
    for name in (
        "adapters", "alerts", "automation", "cli", "dagster_storage", "doctor", "kubernetes", "lake",
        "landing", "machine", "project", "provenance.gc.uploads", "provenance.prices", "secrets", "settings",
        "warehouse", "workers",
    )
)  # fmt: skip
"""Packages that store, launch and report, and do not decide results."""
LANDING: Final = frozenset(
    f"ml_assets.{name}"
    for name in (
        "contracts.sql", "landing.csv_dialect", "landing.csv_files", "landing.csv_records",
        "landing.excel", "landing.json_records", "landing.number_formats", "landing.parquet_files",
        "landing.row_sql", "landing.source_bytes", "landing.sources", "landing.text_values", "landing.time_formats",
        "warehouse.duckdb_session",
    )
)  # fmt: skip
"""Modules that read source files and compute columns."""
_FOREIGN: Final = {"site-packages", "dist-packages"}
_PARSING: Final = threading.Lock()
_ENGINE: Final = "ml_assets"
TEMPLATE: Final = re.compile(r"[\w-][\w./-]*\.(?:css|html|j2|jinja|js|sql|svg)")
_IN_TEMPLATE: Final = re.compile(r"""["']([^"'\n]+)["']""")
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
Key = tuple[str, str]
"""A module, and the qualified name of a definition in it."""


@dataclass
class Module:
    """A parsed module: the bindings of its names, and its imports."""

    name: str
    path: Path
    tree: ast.Module
    bindings: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Key] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for statement in flat(self.tree.body):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                names = imports_of(statement, self.package)
                self.stars += [module for module, name in names.values() if name == ALL]
                self.imports |= names
            for name in bound_by(statement):
                self.bindings.setdefault(name, []).append(statement)
            if isinstance(statement, ast.Expr) and not is_silent(statement):
                self.bindings.setdefault(ON_IMPORT, []).append(statement)

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, including those in conditions and loops."""
    for statement in body:
        blocks = [getattr(statement, name, ()) for name in ("body", "orelse", "finalbody")]
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)) or not any(blocks):
            yield statement
            continue
        for block in (*blocks, *(it.body for it in getattr(statement, "handlers", ()))):
            yield from flat(block)


def bound_by(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a simple statement, a function or a class binds or changes."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        yield statement.name
        return
    targets: Sequence[ast.AST] = ()
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    elif type(statement).__name__ == "TypeAlias":  # from Python 3.12 on
        targets = [statement.name]  # type: ignore[attr-defined]
    for target in targets:
        yield from {it.id for it in ast.walk(target) if isinstance(it, ast.Name)}


def imports_of(statement: ast.Import | ast.ImportFrom, package: str) -> dict[str, Key]:
    """Return the bindings of an import. The name is '' for a module itself."""
    if isinstance(statement, ast.Import):
        return {
            it.asname or it.name.partition(".")[0]: (it.name if it.asname else it.name.partition(".")[0], "")
            for it in statement.names
        }
    parents = package.split(".")[: len(package.split(".")) + 1 - statement.level] if statement.level else []
    module = ".".join([*parents, *([statement.module] if statement.module else [])])
    return {it.asname or it.name: (module, it.name) for it in statement.names}


@functools.cache
def is_ours(module: str) -> bool:
    """Return whether a module's code decides results: that of the engine, or of a project."""
    top = module.partition(".")[0]
    if any(f"{module}.".startswith(f"{name}.") for name in STORAGE):
        return module in LANDING
    if top == _ENGINE:
        return True
    path = path_of(top) or path_of(module)  # a folder without __init__.py has no file itself
    return path is not None and top not in sys.stdlib_module_names and _FOREIGN.isdisjoint(path.parts)


@functools.cache
def path_of(name: str) -> Path | None:
    """Return the source file of a module; None if it has none."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is None and "." in name:
        parent, _, last = name.rpartition(".")
        above = path_of(parent)
        if above is None or above.name != "__init__.py":
            return None
        candidates = (above.parent / f"{last}.py", above.parent / last / "__init__.py")
        return next((path for path in candidates if path.is_file()), None)
    if loaded is None:
        try:
            found = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
        loaded = found.origin if found else None
    path = Path(loaded) if loaded else None
    return path if path and path.suffix == ".py" and path.is_file() else None


@functools.cache
def module_of(name: str) -> Module | None:
    """Return a parsed module; None if it has no source file."""
    path = path_of(name)
    return None if path is None else Module(name, path, parse_source(path.read_bytes(), str(path)))


def parse_source(source: bytes | str, file: str = "<text>") -> ast.Module:
    """Return parsed source.

    Before Python 3.11.8, parsing fails with a SystemError if a finalizer runs meanwhile that parses too, as the
    formatting of a traceback does (python/cpython#106905). Without garbage collection no finalizer runs.

    Raises:
        SyntaxError: it is not Python.
    """
    with _PARSING:
        is_collecting = gc.isenabled()
        gc.disable()
        try:
            return ast.parse(source, file)
        finally:
            if is_collecting:
                gc.enable()


@functools.cache
def resolve(key: Key) -> Key | None:
    """Return where a name is defined, through imports; None if that is neither the engine nor the project."""
    for _ in range(20):
        module_name, name = key
        if f"{module_name}.{name}" in LANDING:
            return f"{module_name}.{name}", ""
        if not is_ours(module_name) or (module := module_of(module_name)) is None:
            return None
        if not name or name == ALL or name.partition(".")[0] in module.bindings:
            return key
        if name in module.imports:
            key = module.imports[name]
        elif path_of(f"{module_name}.{name}"):
            return f"{module_name}.{name}", ""
        else:
            return next((it for star in module.stars if (it := resolve((star, name)))), None)
    return None


def is_silent(node: object) -> bool:
    """Return whether a statement has no effect: a docstring, `pass`, or an import, whose names count at their use."""
    return isinstance(node, ast.Pass | ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


@functools.cache
def template_digests(source: Path, name: str) -> tuple[str, ...]:
    """Return the digests of a template that code names and of its includes; none if there is no such file."""
    places = [folder for above in source.parents[:3] for folder in (above, above / "templates")]
    found: dict[Path, str] = {}

    def take(wanted: str) -> None:
        path = next((folder / wanted for folder in places if (folder / wanted).is_file()), None)
        if path is None or path in found:
            return
        text = path.read_text(encoding="utf-8")
        found[path] = hashlib.blake2b(text.encode(), digest_size=8, usedforsecurity=False).hexdigest()
        for inner in _IN_TEMPLATE.findall(text):
            if TEMPLATE.fullmatch(inner):
                take(inner)

    take(name)
    return tuple(found.values())
