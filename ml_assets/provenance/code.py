"""The code version: a hash of a stage's functions and of everything that decides their results.

Not here: the comparison of versions (see `ml_assets.orchestration.staleness`).
"""

import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ml_assets.provenance.modules import ON_IMPORT, Key
from ml_assets.provenance.syntax import Definition, definition

_Root = tuple[Key, int]
"""The module and name of a function, and its line."""


def code_version(functions: Iterable[Callable[..., Any]]) -> str:
    """Return a hash of functions, and of the definitions of the engine and the project that they reach.

    Each definition counts in the canonical form of its syntax tree. Comments, docstrings, formatting, the order of a
    file, the module and the minor version of Python change nothing. Code reaches what it refers to, the classes in its
    annotations, and the methods of these classes that reached code calls by name. Storage and commands do not count.
    """
    return _version(tuple(dict.fromkeys(root for function in functions for root in _roots(function))))


def covered(functions: Iterable[Callable[..., Any]]) -> frozenset[Key]:
    """Return the definitions that the code version of functions covers: modules and qualified names."""
    return frozenset(_reached(tuple(dict.fromkeys(root for function in functions for root in _roots(function)))))


@functools.cache
def _version(roots: tuple[_Root, ...]) -> str:
    digest = hashlib.blake2b(digest_size=8, usedforsecurity=False)
    for one in sorted(found.digest for found in _reached(roots).values()):
        digest.update(one)
    return digest.hexdigest()


def _roots(function: object) -> Iterator[_Root]:
    """Yield where a function is defined, with the functions and classes that a factory passed to it."""
    if isinstance(function, functools.partial):
        for one in (function.func, *function.args, *function.keywords.values()):
            yield from _roots(one)
        return
    function = inspect.unwrap(getattr(function, "__func__", function))  # type: ignore[arg-type]
    if isinstance(function, type):
        yield (function.__module__, function.__qualname__), 0
    if not isinstance(function, types.FunctionType):
        return
    yield (function.__module__, function.__qualname__), function.__code__.co_firstlineno
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet
            continue
        if callable(value):
            yield from _roots(value)


def _reached(roots: tuple[_Root, ...]) -> dict[Key, Definition]:
    found: dict[Key, Definition] = {}
    looked_up: set[str] = set()
    waiting: dict[str, list[Key]] = {}
    seen: set[Key] = set()
    queue: list[tuple[Key, int, bool]] = [(key, line, False) for key, line in roots]
    for (module, name), _ in roots:
        if "." in name and "<" not in name:  # a method: its class counts, too
            queue.append(((module, name.rpartition(".")[0]), 0, False))
    while queue:
        key, line, is_type = queue.pop()
        if key in found or (is_type and key in seen):
            continue
        one = definition(key, line)
        if one is None:
            continue
        seen.add(key)
        queue += [(it, 0, True) for it in one.types]
        if is_type and not one.is_class:
            continue  # an alias: its types count, its text does not
        found[key] = one
        queue += [(it, 0, False) for it in (*one.uses, (key[0], ON_IMPORT))]
        for name in one.attributes - looked_up:
            looked_up.add(name)
            queue += [(it, 0, False) for it in waiting.pop(name, ())]
        for name in one.methods:
            method = key[0], f"{key[1]}.{name}"
            if name in looked_up:
                queue.append((method, 0, False))
            else:
                waiting.setdefault(name, []).append(method)
    return found
