"""The version of code: a hash of the functions of a stage and of what they call, whatever stands elsewhere.

What a version is compared with stays out; see `ml_assets.provenance.staleness`.
"""

import dataclasses
import dis
import functools
import hashlib
import importlib
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

_OURS = ("ml_assets.", "resources.")
_DRAWS = "ml_assets.logic.plots."


def code_version(functions: Iterable[Callable[..., Any]]) -> str:
    """Return a hash of functions and of everything of this project that they call or read at module level.

    It is taken from byte code, so that comments, docstrings and code elsewhere do not change it. Module-level data
    counts where its name is in capitals: numbers, text, and tables of them or of functions. What only draws does not
    count: no artifact holds a plot.
    """
    chosen = tuple(functions)
    codes = tuple(_code_of(function) for function in chosen)
    key = tuple(map(id, codes))
    if key not in _VERSIONS:  # walking takes 8 ms a stage, and every declared model asks for the same functions
        seen: dict[str, str] = {}
        for function in chosen:
            _visit(function, seen)
        text = ";".join(f"{name}={seen[name]}" for name in sorted(seen))
        version = hashlib.blake2b(text.encode(), digest_size=8, usedforsecurity=False).hexdigest()
        _VERSIONS[key] = version, codes
    return _VERSIONS[key][0]


_VERSIONS: dict[tuple[int, ...], tuple[str, tuple[object, ...]]] = {}
"""Versions by the identity of code, which is kept here: code that is equal may stand in modules that are not."""


def _code_of(function: Callable[..., Any]) -> object:
    """Return what tells two functions apart: their code, which the closures that a factory returns share."""
    return getattr(function, "__code__", function)


def _is_ours(module: str | None) -> bool:
    return f"{module}.".startswith(_OURS) and not f"{module}.".startswith(_DRAWS)


def _visit(function: object, seen: dict[str, str]) -> None:
    function = getattr(function, "__wrapped__", function)
    if isinstance(function, type):
        _visit_class(function, seen)
        return
    if not isinstance(function, types.FunctionType) or not _is_ours(function.__module__):
        return
    name = f"{function.__module__}.{function.__qualname__}"
    if name in seen:
        return
    seen[name] = _fingerprint(function.__code__)
    for used, value in _used(function):
        if isinstance(value, types.FunctionType | type) or hasattr(value, "__wrapped__"):
            _visit(value, seen)
        elif used.isupper():
            seen[f"{function.__module__}.{used}"] = _text(value, seen)


def _visit_class(kind: type, seen: dict[str, str]) -> None:
    if not _is_ours(kind.__module__):
        return
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in seen:
        return
    seen[name] = ",".join(getattr(kind, "__annotations__", {}))
    for base in kind.__bases__:
        _visit_class(base, seen)
    fields: Mapping[str, Any] = getattr(kind, "__pydantic_fields__", {})
    members = {**{field: info.default for field, info in fields.items()}, **vars(kind)}
    for member_name, member in members.items():
        plain = _function_of(member)
        if isinstance(plain, types.FunctionType) and plain.__module__ == kind.__module__:
            _visit(plain, seen)
        elif not member_name.startswith("_") and isinstance(member, str | int | float | tuple):
            seen[f"{name}.{member_name}"] = _text(member, seen)


def _function_of(member: object) -> object:
    """Return the function behind a class's property, cached property, class method or static method."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, functools.cached_property):
        return member.func
    return getattr(member, "__func__", member)


def _text(value: object, seen: dict[str, str]) -> str:
    """Return data as text that every process writes alike, and visit the code in it."""
    if value is None or isinstance(value, str | bytes | int | float):
        return repr(value)
    if isinstance(value, types.FunctionType | type):
        _visit(value, seen)
        return value.__qualname__
    if isinstance(value, Mapping):
        parts = [f"{_text(key, seen)}:{_text(item, seen)}" for key, item in value.items()]
    elif isinstance(value, frozenset | set):
        parts = sorted(_text(item, seen) for item in value)
    elif isinstance(value, tuple | list):
        parts = [_text(item, seen) for item in value]
    elif isinstance(value, re.Pattern):
        parts = [value.pattern]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _visit_class(type(value), seen)
        parts = [_text(getattr(value, field.name), seen) for field in dataclasses.fields(value)]
    else:
        parts = [type(value).__qualname__]
    return ",".join(parts)


def _used(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """Yield what a function's code refers to by global name, attribute of a module, or import, with the name."""
    for code in _codes(function.__code__):
        module: object = None
        for instruction in dis.get_instructions(code):
            name = str(instruction.argval)
            match instruction.opname:
                case "LOAD_GLOBAL" | "LOAD_NAME":
                    module = function.__globals__.get(name)
                    yield name, module
                case "LOAD_ATTR" | "LOAD_METHOD":
                    if isinstance(module, types.ModuleType) and _is_ours(module.__name__):
                        yield name, getattr(module, name, None)
                    module = None
                case "IMPORT_NAME":
                    module = importlib.import_module(name) if _is_ours(name) else None
                case "IMPORT_FROM":
                    if isinstance(module, types.ModuleType):
                        yield name, getattr(module, name, None)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.cache
def _fingerprint(code: types.CodeType) -> str:
    """Return a hash of what code does: its instructions and constants, without lines, names of files, docstrings."""
    digest = hashlib.blake2b(digest_size=8, usedforsecurity=False)
    for inner in _codes(code):
        digest.update(inner.co_code)
        docstring = inner.co_consts[0] if inner.co_consts and isinstance(inner.co_consts[0], str) else None
        constants = [c for c in inner.co_consts if not isinstance(c, types.CodeType) and c is not docstring]
        digest.update(repr([sorted(map(repr, c)) if isinstance(c, frozenset) else c for c in constants]).encode())
        digest.update(repr((inner.co_names, inner.co_varnames)).encode())
    return digest.hexdigest()
