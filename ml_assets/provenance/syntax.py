"""The canonical form of a definition, which formatting, comments, docstrings and the Python version do not change.

Not here: which definitions count (see `ml_assets.provenance.code`).
"""

import ast
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from ml_assets.provenance import modules
from ml_assets.provenance.modules import (
    ALL,
    FUNCTIONS,
    STORAGE,
    TEMPLATE,
    Key,
    Module,
    bound_by,
    flat,
    imports_of,
    is_silent,
    parse_source,
    resolve,
)

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_SKIPPED: Final = {"ctx", "kind", "type_comment", "type_params", "returns", "annotation"}
_FIELD_TEXTS: Final = {"description", "title"}
"""Arguments of pydantic's `Field` that only people read, like docstrings."""
_CALLED_BY_NAME: Final = {
    "abstractmethod", "asynccontextmanager", "cache", "cached_property", "classmethod", "contextmanager", "final",
    "lru_cache", "overload", "override", "property", "setter", "staticmethod",
}  # fmt: skip
"""Decorators of methods that run only when called by name. Others, such as pydantic's validators, may run them."""
_QUIET_BASES: Final = {"ABC", "BaseModel", "Config", "Enum", "Generic", "IntEnum", "NamedTuple", "Protocol", "StrEnum",
                       "TypedDict", "object"}  # fmt: skip
"""Foreign base classes that call no methods of a subclass, apart from special methods and validators."""
_LEAVES: Final = (ast.Constant, ast.expr_context)
_MODULE: Final = "<module>"
"""Replaces a module that is used as a value: its definitions count, its name does not."""


@dataclass(frozen=True)
class Definition:
    """A function, class or module-level name.

    Its uses are the definitions that its code refers to, its types those that its annotations refer to.

    Attributes:
        attributes: all attributes that its code reads, which may be methods.
        methods: the methods of a class that run only when they are called by name.
    """

    digest: bytes
    uses: frozenset[Key]
    types: frozenset[Key]
    attributes: frozenset[str]
    methods: frozenset[str] = frozenset()
    is_class: bool = False


@functools.cache
def definition(key: Key, line: int = 0) -> Definition | None:
    """Return the definition of a name.

    The key is as `resolve` returns it, or has the qualified name of a method or nested function. The line is its first
    one, for functions with the same name.
    """
    module = modules.module_of(key[0])
    if module is None:
        return None
    if key[1] in {"", ALL}:
        return Definition(b"", frozenset((key[0], name) for name in module.bindings), frozenset(), frozenset())
    reader = _Reader(module)
    if "." in key[1]:
        chain = _find(module, key[1], line)
        if chain is None:
            return None
        return reader.inner(key[1], chain)
    nodes = module.bindings.get(key[1])
    return None if nodes is None else reader.outer(key[1], nodes)


def _find(module: Module, name: str, line: int) -> list[ast.AST] | None:
    """Return a function or class with everything that encloses it, outermost first."""

    def search(nodes: Iterable[ast.AST], parts: Sequence[str]) -> Iterator[list[ast.AST]]:
        for node in nodes:
            is_named = getattr(node, "name", "<lambda>" if isinstance(node, ast.Lambda) else "") == parts[0]
            if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
                if not is_named:
                    continue
                if len(parts) == 1:
                    yield [node]
                else:
                    yield from ([node, *rest] for rest in search(ast.iter_child_nodes(node), parts[1:]))
            else:
                yield from search(ast.iter_child_nodes(node), parts)

    found = [*search(module.tree.body, [part for part in name.split(".") if part != "<locals>"])]

    def first_line(node: Any) -> int:  # noqa: ANN401 - any part of a tree
        return min(int(it.lineno) for it in (node, *getattr(node, "decorator_list", ())))

    exact = [chain for chain in found if first_line(chain[-1]) == line]
    return (exact or found or [None])[0]  # type: ignore[list-item]


_Names = Mapping[str, Key | None]
"""The names of a scope: imported from somewhere, or its own."""


class _Reader:
    """Writes the canonical form of a definition, and records what it refers to."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.parts: list[str] = []
        self.uses: set[Key] = set()
        self.types: set[Key] = set()
        self.attributes: set[str] = set()
        self.methods: set[str] = set()
        self.scopes: list[_Names] = []

    def outer(self, name: str, nodes: Sequence[ast.stmt]) -> Definition:
        """Read everything that a module defines under one name."""
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                self._class(node)
            else:
                self.read(node)
        is_class = any(isinstance(node, ast.ClassDef) for node in nodes)
        if not is_class and not any(isinstance(node, FUNCTIONS) for node in nodes):
            for node in nodes:  # an alias in an annotation means its types
                self._type(getattr(node, "value", None))
        return self._definition(name, is_class=is_class)

    def inner(self, name: str, chain: Sequence[ast.AST]) -> Definition:
        """Read a method or a nested function, with what it uses from its enclosing functions."""
        node, around = chain[-1], [it for it in chain[:-1] if isinstance(it, FUNCTIONS)]
        self.scopes = [_names_of(it, self.module.package) for it in around]
        free: set[str] = set()
        with self._free(free):
            self._function(node, is_decorated=not around)  # type: ignore[arg-type]
        done: set[str] = set()
        while names := free - done:
            done |= names
            with self._free(free):
                for function in around:
                    self._bindings(function, names)
        if around and isinstance(chain[0], ast.ClassDef):
            self.uses.add((self.module.name, chain[0].name))
        return self._definition(name)

    def _bindings(self, function: ast.FunctionDef | ast.AsyncFunctionDef, names: set[str]) -> None:
        """Read the code that binds names of an enclosing function."""
        for argument in _arguments(function):
            if argument.arg in names:
                self._type(argument.annotation)
        for statement in flat(function.body):
            if names & {*bound_by(statement)}:
                self.read(statement)

    def _definition(self, name: str, *, is_class: bool = False) -> Definition:
        text = f"{name} {''.join(self.parts)}"
        return Definition(
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, usedforsecurity=False).digest(),
            frozenset(self.uses), frozenset(self.types), frozenset(self.attributes), frozenset(self.methods), is_class,
        )  # fmt: skip

    # ------------------------------------------------------------ names

    @contextmanager
    def _within(self, names: _Names) -> Iterator[None]:
        self.scopes.append(names)
        yield
        self.scopes.pop()

    @contextmanager
    def _free(self, found: set[str]) -> Iterator[None]:
        """Record which names of the open scopes are used."""
        self._outside: tuple[int, set[str]] = len(self.scopes), found
        yield
        del self._outside

    def _lookup(self, name: str) -> tuple[str, Key | None]:
        """Return the canonical name, and where it is defined if it is ours and not local."""
        depth = next((n for n in reversed(range(len(self.scopes))) if name in self.scopes[n]), None)
        if depth is not None:
            own = self.scopes[depth][name]
            if own is None:
                if depth < getattr(self, "_outside", (0,))[0]:
                    self._outside[1].add(name)
                return name, None
            target = own
        elif name in self.module.bindings:
            target = self.module.name, name
        else:
            target = self.module.imports.get(name, (self.module.name, name))
        found = resolve(target)
        if found is not None:
            return found[1] or _MODULE, found
        module, inner = target
        if module == self.module.name or any(f"{module}.".startswith(f"{it}.") for it in STORAGE):
            return inner or name, None  # a builtin, or part of storage
        return f"{module}.{inner}" if inner else module, None

    def _target(self, node: ast.AST | None) -> Key | None:
        """Return the definition or module of ours that an expression such as `frames.labels` names."""
        if isinstance(node, ast.Name):
            return self._lookup(node.id)[1]
        if isinstance(node, ast.Attribute):
            owner = self._target(node.value)
            if owner is not None and not owner[1]:
                return resolve((owner[0], node.attr))
        return None

    def _type(self, node: ast.AST | None) -> None:
        """Record what an annotation refers to. Its text does not count."""
        for it in ast.walk(node) if node is not None else ():
            if isinstance(it, ast.Name | ast.Attribute):
                if (found := self._target(it)) and found[1]:
                    self.types.add(found)
            elif isinstance(it, ast.Constant) and isinstance(it.value, str):
                self._type(_parsed(it.value))

    # ------------------------------------------------------------ text

    def read(self, node: ast.AST) -> None:
        """Write one node."""
        self._WRITERS.get(type(node), _Reader._fields)(self, node)

    def _fields(self, node: ast.AST) -> None:
        self.parts.append(f"{type(node).__name__}(")
        for name in node._fields:
            if name not in _SKIPPED and (value := getattr(node, name, None)) is not None and value != []:
                self.parts.append(f"{name}=")
                self._value(value)
        self.parts.append(")")

    def _value(self, value: object) -> None:
        if isinstance(value, ast.AST):
            self.read(value)
        elif isinstance(value, list):
            self.parts.append("[")
            for it in value:
                if not is_silent(it):
                    self._value(it)
                    self.parts.append(",")
            self.parts.append("]")
        else:
            self.parts.append(repr(value))

    def _name(self, node: ast.Name) -> None:
        text, found = self._lookup(node.id)
        if found is not None:
            self.uses.add(found if found[1] else (found[0], ALL))
        self.parts.append(f"{text} ")

    def _attribute(self, node: ast.Attribute) -> None:
        found = self._target(node)
        if found is not None:
            self.uses.add(found if found[1] else (found[0], ALL))
            self.parts.append(f"{found[1] or _MODULE} ")
            return
        self.attributes.add(node.attr)
        self.read(node.value)
        self.parts.append(f".{node.attr} ")

    def _call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and self._lookup(node.func.id)[0] == "pydantic.Field":
            node = ast.Call(node.func, node.args, [it for it in node.keywords if it.arg not in _FIELD_TEXTS])
        self._fields(node)

    def _constant(self, node: ast.Constant) -> None:
        self.parts.append(f"{node.value!r} ")
        if isinstance(node.value, str):
            if TEMPLATE.fullmatch(node.value):
                self.parts += [f"<{digest}>" for digest in modules.template_digests(self.module.path, node.value)]
            elif node.value.isidentifier():
                self.attributes.add(node.value)  # as in `getattr`

    def _joined_str(self, node: ast.JoinedStr) -> None:
        self.parts.append("f(")
        text = ""
        for value in node.values:  # Python versions split the text between braces differently
            if isinstance(value, ast.Constant):
                text += str(value.value)
                continue
            self.parts.append(repr(text))
            self.read(value)
            text = ""
        self.parts.append(f"{text!r})")

    def _set(self, node: ast.Set) -> None:
        before, self.parts = self.parts, []
        written = []
        for it in node.elts:
            self.read(it)
            written.append("".join(self.parts))
            self.parts = []
        self.parts = [*before, "{", *sorted(written), "}"]

    def _ann_assign(self, node: ast.AnnAssign) -> None:
        self._type(node.annotation)
        if node.value is not None:
            self.read(ast.Assign(targets=[node.target], value=node.value))

    def _class_def(self, node: ast.ClassDef) -> None:
        self._class(node, is_whole=True)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        names = {
            it.id for generator in node.generators for it in ast.walk(generator.target) if isinstance(it, ast.Name)
        }
        self.parts.append(f"{type(node).__name__}(")
        self.read(node.generators[0].iter)
        with self._within(dict.fromkeys(names)):
            for n, generator in enumerate(node.generators):
                self._value([generator.target, *([generator.iter] if n else []), *generator.ifs])
            self._value([node.key, node.value] if isinstance(node, ast.DictComp) else node.elt)
        self.parts.append(")")

    def _function(self, node: _Scope, *, is_decorated: bool = True) -> None:
        if isinstance(node, FUNCTIONS):
            self.parts.append(f"{type(node).__name__} {node.name} ")
            self._value(node.decorator_list if is_decorated else [])
            self._type(node.returns)
        for argument in _arguments(node):
            self._type(argument.annotation)
        self.read(node.args)
        with self._within(_names_of(node, self.module.package)):
            self._value(node.body)

    def _class(self, node: ast.ClassDef, *, is_whole: bool = False) -> None:
        """Write a class. Methods that run only when called by name count where they are called."""
        self.parts.append(f"class {node.name} ")
        self._value([*node.decorator_list, *node.bases, *node.keywords])
        own = dict.fromkeys(name for statement in flat(node.body) for name in bound_by(statement))
        is_whole = is_whole or not all(self._is_quiet(base) for base in node.bases)
        for statement in node.body:
            if isinstance(statement, FUNCTIONS):
                if is_whole or _runs_unasked(statement):
                    self.read(statement)
                else:
                    self.methods.add(statement.name)
            elif not is_silent(statement):
                with self._within(own):
                    if isinstance(statement, ast.AnnAssign):
                        self._value([statement.target, statement.annotation, statement.value])
                        self._type(statement.annotation)
                    else:
                        self.read(statement)

    def _is_quiet(self, base: ast.expr) -> bool:
        """Return whether a base class is ours, or calls no methods of its subclasses."""
        inner = base.value if isinstance(base, ast.Subscript) else base
        name = inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
        return self._target(inner) is not None or name in _QUIET_BASES or name.endswith(("Error", "Exception"))

    _WRITERS: ClassVar[Mapping[type[ast.AST], Callable[["_Reader", Any], None]]] = {
        ast.AnnAssign: _ann_assign, ast.AsyncFunctionDef: _function, ast.Attribute: _attribute, ast.Call: _call,
        ast.ClassDef: _class_def, ast.Constant: _constant, ast.DictComp: _comprehension, ast.FunctionDef: _function,
        ast.GeneratorExp: _comprehension, ast.JoinedStr: _joined_str, ast.Lambda: _function,
        ast.ListComp: _comprehension, ast.Name: _name, ast.Set: _set, ast.SetComp: _comprehension,
    }  # fmt: skip
    """How nodes are written. All others are written field by field."""


@functools.cache
def _parsed(text: str) -> ast.Module | None:
    """Return a text in an annotation as a type; None if it is a literal rather than a type."""
    if not re.fullmatch(r"[\w.\[\], |]+", text):
        return None
    try:
        return parse_source(text)
    except SyntaxError:
        return None


def _runs_unasked(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether Python or a library may run a method that no code calls by name."""
    if method.name.startswith("__") and method.name.endswith("__"):
        return True
    inner = [it.func if isinstance(it, ast.Call) else it for it in method.decorator_list]
    names = [it.attr if isinstance(it, ast.Attribute) else getattr(it, "id", "") for it in inner]
    return not _CALLED_BY_NAME.issuperset(names)


def _arguments(node: _Scope) -> list[ast.arg]:
    return [it for it in ast.iter_child_nodes(node.args) if isinstance(it, ast.arg)]


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below a node, without those that bind no name and have no node below them: most nodes."""
    for field in node._fields:
        value = getattr(node, field, None)
        for it in value if isinstance(value, list) else (value,):
            if isinstance(it, ast.AST) and not (
                isinstance(it, _LEAVES) or (isinstance(it, ast.Name) and isinstance(it.ctx, ast.Load))
            ):
                yield it


def _names_of(node: _Scope, package: str) -> dict[str, Key | None]:
    """Return the names of a function's own scope, with their imports."""
    names: dict[str, Key | None] = dict.fromkeys(it.arg for it in _arguments(node))
    names |= dict.fromkeys(it.name for it in getattr(node, "type_params", ()))
    outside: set[str] = set()
    waiting: list[ast.AST] = [*node.body] if isinstance(node.body, list) else [node.body]
    while waiting:
        it = waiting.pop()
        match it:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.setdefault(it.name, None)
                continue
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                walrus = (one.target.id for one in ast.walk(it) if isinstance(one, ast.NamedExpr))
                names |= dict.fromkeys(walrus)
                continue
            case ast.Import() | ast.ImportFrom():
                names |= imports_of(it, package)
                continue
            case ast.Name(ctx=ast.Store() | ast.Del()):
                names.setdefault(it.id, None)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.setdefault(name, None)
            case ast.MatchMapping(rest=str(name)):
                names.setdefault(name, None)
            case ast.Global():
                outside.update(it.names)
        waiting.extend(_children(it))
    return {name: target for name, target in names.items() if name not in outside}
