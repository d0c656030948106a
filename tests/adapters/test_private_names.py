"""Private names of libraries: the installed versions have all that the adapters name, and only adapters name them."""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from ml_assets.adapters.dagster import DAEMON
from tests.flights import ROOT

FOLDERS: Final = ("ml_assets", "resources", "sensors")
OTHER_FOLDERS: Final = ("benchmarks", "deploy", "tests")
OURS: Final = {"__future__", "definitions", *FOLDERS, *OTHER_FOLDERS}
PRIVATE: Final = (
    "botocore.parsers", "dagster.", "dagster_graphql.", "dagster_k8s.", "dagster_postgres.", "dagster_shared", "dbt.",
    "dbt_common", "lightgbm.basic",
)  # fmt: skip
"""Modules that are private although their names do not begin with an underscore."""
PUBLIC: Final = {"dbt.cli.main.dbtRunner"}
NAMED_TUPLE: Final = {"_asdict", "_fields", "_replace"}
_IMPORT: Final = re.compile(r"^\s*(?:from\s+([\w.]+)\s+)?import\s+(\([^)]*\)|.*)", re.MULTILINE)
_MEMBER: Final = re.compile(r"(?:(\w+)\.)?(\w+)(?:\((.*)\))?")


@dataclass(frozen=True)
class PrivateName:
    """A name that an adapter imports, and what it is used for."""

    module: str
    name: str
    reason: str


@dataclass(frozen=True)
class Adapter:
    """What an adapter's source names, read without importing it."""

    path: Path

    @property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def constants(self) -> dict[str, Any]:
        nodes = [it for it in ast.parse(self.source).body if isinstance(it, ast.AnnAssign)]
        return {ast.unparse(it.target): ast.literal_eval(it.value) for it in nodes if it.value is not None}

    @property
    def imports(self) -> Iterator[PrivateName]:
        lines, reason = self.source.splitlines(), ""
        for node in ast.walk(ast.parse(self.source)):
            for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
                in_package, _, last = alias.name.rpartition(".")
                module = node.module if isinstance(node, ast.ImportFrom) else in_package
                if not module or module in sys.stdlib_module_names:
                    continue
                own = lines[alias.lineno - 1].rpartition("  # ")[2] if "  # " in lines[alias.lineno - 1] else ""
                reason = reason if own == "as above" else own.rpartition("] # ")[2]
                yield PrivateName(module, last, reason)

    def users(self, name: str) -> str:
        """Return the files that use a name: they are what an upgrade concerns."""
        word = re.compile(rf"\b{name}\b")
        users = [it for it in files(*FOLDERS, *OTHER_FOLDERS) if name in text(it) and word.search(text(it))]
        return ", ".join(str(it.relative_to(ROOT)) for it in users)

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each name that the installed version no longer has."""
        library, checked, reason = self.constants["LIBRARY"], self.constants["CHECKED"], ""
        installed = importlib.metadata.version(library)

        def sentence(what: str, name: str) -> str:
            return (
                f"{library} {installed} no longer has {what}, which {checked} had; it is used for: {reason}; "
                f"by {self.users(name)}"
            )

        found = {it.name: imported(it.module, it.name) for it in self.imports}
        for it in self.imports:
            reason = it.reason
            if found[it.name] is None:
                yield sentence(f"{it.module}.{it.name}", it.name)
        for member, its_reason in self.constants.get("MEMBERS", {}).items():
            reason = its_reason if its_reason != "as above" else reason
            owner, name, parameters = _MEMBER.fullmatch(member).groups()  # type: ignore[union-attr]
            if found[owner or name] is not None and not has_member(found[owner or name], owner and name, parameters):
                yield sentence(member, name)


@cache
def files(*folders: str) -> list[Path]:
    """Return the Python files that are no adapters and no templates of other projects."""
    found = [ROOT / "definitions.py", *(it for folder in folders for it in sorted((ROOT / folder).rglob("*.py")))]
    return [it for it in found if it.parent.name != "adapters" and "templates" not in it.parts]


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def imported(module: str, name: str) -> Any:
    """Return what an import gives; None if it fails."""
    try:
        found = importlib.import_module(module)
        return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")
    except ImportError:
        return None


def has_member(owner: Any, name: str | None, parameters: str | None) -> bool:
    """Return whether an object has an attribute, or is itself a function, that takes these parameters first."""
    if name is not None and parameters is None:
        sources = (inspect.getsource(it) for it in getattr(owner, "__mro__", ())[:-1])
        return hasattr(owner, name) or any(re.search(rf"\bself\.{name}\b", source) for source in sources)
    function = owner if name is None else getattr(owner, name, None)
    if function is None:
        return False
    wanted = [it.strip() for it in (parameters or "").split(",") if it.strip()]
    taken = {k: v for k, v in inspect.signature(function).parameters.items() if k not in {"self", "cls"}}
    more = [it for it in taken.values() if it.kind not in {it.VAR_POSITIONAL, it.VAR_KEYWORD}][len(wanted) :]
    return wanted == [*taken][: len(wanted)] and all(it.default is not it.empty for it in more)


def adapters() -> list[Adapter]:
    paths = [*(ROOT / "ml_assets/adapters").glob("[a-z]*.py"), *(ROOT / "tests/adapters").glob("[a-z]*.py")]
    return [Adapter(it) for it in sorted(paths) if not it.name.startswith("test_")]


def is_private(module: str, name: str) -> bool:
    """Return whether an imported name is private in a library."""
    if module.partition(".")[0] in OURS:
        return False
    is_hidden = any(it.startswith("_") for it in (*module.split("."), name))
    return is_hidden or (f"{module}.".startswith(PRIVATE) and module not in TOPS and f"{module}.{name}" not in PUBLIC)


TOPS: Final = {it.rstrip(".") for it in PRIVATE if it.endswith(".")}


@dataclass(frozen=True)
class Named:
    """The private names that a file imports, the private attributes that it uses, and the names that it binds."""

    imports: list[str]
    attributes: list[ast.Attribute]
    bound: set[str]


@cache
def named_in(path: Path) -> Named:
    found = Named([], [], set())
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            found.imports.extend(it.name for it in node.names if is_private(it.name, ""))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.imports.extend(f"{node.module}.{it.name}" for it in node.names if is_private(node.module, it.name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.bound.add(node.id)
        elif isinstance(node, ast.Attribute) and re.fullmatch(r"_[^_].*", node.attr):
            if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
                found.bound.add(node.attr)
            found.attributes.append(node)
    return found


def private_imports(path: Path) -> list[str]:
    """Return the private names that a file imports; it is parsed only where its text seems to import one."""
    seem = (is_private(it[1] or name, name if it[1] else "") for it in _IMPORT.finditer(text(path))
            for name in re.findall(r"[\w.]+", it[2]))  # fmt: skip
    return named_in(path).imports if any(seem) else []


@pytest.mark.parametrize("adapter", adapters(), ids=lambda it: it.path.parts[-3] + "." + it.path.stem)
def test_the_installed_versions_have_every_private_name_that_an_adapter_uses(adapter: Adapter) -> None:
    assert [] == [*adapter.problems()]


def test_the_installed_dagster_starts_its_daemon_by_the_module_that_is_named() -> None:
    assert importlib.util.find_spec(f"{DAEMON}.__main__") is not None


def test_every_private_name_of_an_adapter_has_a_reason_and_a_user() -> None:
    names = [(adapter, it) for adapter in adapters() for it in adapter.imports if is_private(it.module, it.name)]

    assert [] == [it.name for _, it in names if not it.reason]
    assert [] == [it.name for adapter, it in names if not adapter.users(it.name)
                  and len(re.findall(rf"\b{it.name}\b", adapter.source)) == 1]  # fmt: skip


@pytest.mark.parametrize("module", ["dagster._core.errors", "dagster._core.gone"])
def test_a_name_that_is_gone_is_reported_with_its_use(tmp_path: Path, module: str) -> None:
    path = tmp_path / "dagster.py"
    source = f"from {module} import AssetNodes  # counts them\nLIBRARY: str = 'dagster'\nCHECKED: str = '1.0'\n"
    path.write_text(source, encoding="utf-8")
    installed = importlib.metadata.version("dagster")

    found = [*Adapter(path).problems()]

    gone = f"dagster {installed} no longer has {module}.AssetNodes, which 1.0 had"
    assert [f"{gone}; it is used for: counts them; by "] == found


def takes(first: int, second: int, third: int = 0, **rest: int) -> None:
    """Stand for a function of a library."""


class Owner:
    """Stands for a class of a library."""

    def __init__(self) -> None:
        self._set_here = 1

    def method(self, first: int) -> None:
        """Stand for a method."""


def test_a_signature_or_an_attribute_that_changed_is_noticed() -> None:
    assert has_member(takes, None, "first, second")
    assert has_member(takes, None, "first, second, third")
    assert not has_member(takes, None, "second, first")
    assert not has_member(takes, None, "first")
    assert has_member(Owner, "method", "first")
    assert not has_member(Owner, "gone", "")
    assert has_member(Owner, "_set_here", None)
    assert not has_member(Owner, "_gone", None)


def test_only_adapters_import_private_names_of_libraries() -> None:
    found = {str(it.relative_to(ROOT)): private_imports(it) for it in files(*FOLDERS, *OTHER_FOLDERS)}

    assert {} == {path: names for path, names in found.items() if names}


def test_the_engine_uses_no_private_attribute_of_a_library_that_no_adapter_names() -> None:
    members = {_MEMBER.fullmatch(it)[2] for adapter in adapters() for it in adapter.constants.get("MEMBERS", {})}  # type: ignore[index]
    known = members.union(*(named_in(it).bound for it in files(*FOLDERS))) | NAMED_TUPLE
    found = {
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in files(*FOLDERS)
        for node in named_in(path).attributes
        if node.attr not in known and ast.unparse(node.value) not in {"os", "sys"}
    }

    assert set() == found
