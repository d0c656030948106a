"""Finds a function of a person by its dotted name, such as `shop.metrics.cost`, and checks how it can be called.

Also what several kinds of such functions return: numbers.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import math
import numbers
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

from ml_assets.contracts.errors import FAILURES, ContractError, failure_words, near
from ml_assets.contracts.words import quoted

DOTTED: Final = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"
"""A module and a name in it."""
_IN_MODULE: Final = "expected a function or class in it"


@functools.cache
def find_function(name: str) -> Callable[..., Any]:
    """Return the object with a dotted name; its module is imported.

    Raises:
        ContractError: there is no such module or name, the import fails, or it cannot be called.
    """
    path, _, last = name.rpartition(".")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or path
        fix = (
            f"Expected {path.replace('.', '/')}.py beside the project's definitions.py, or an installed package"
            if f"{path}.".startswith(f"{missing}.")
            else f"It is imported by {path}; install it"
        )
        raise ContractError(f"{name}: there is no module '{missing}'. {fix}.") from error
    except FAILURES as error:
        raise ContractError(f"{name}: importing {path} failed: {failure_words(error)}. Correct the module.") from error
    try:
        found: Callable[..., Any] = getattr(module, last)
    except AttributeError as error:
        if hasattr(module, "__path__") and importlib.util.find_spec(name) is not None:
            raise ContractError(f"{name} is a module; {_IN_MODULE}.") from error
        known = [it for it in vars(module) if not it.startswith("_")]
        raise ContractError(
            f"{name}: module {path} has no '{last}'{near(last, known)}; it has {quoted(known)}."
        ) from error
    if isinstance(found, ModuleType):
        raise ContractError(f"{name} is a module; {_IN_MODULE}.")
    if not callable(found):
        raise ContractError(f"{name} is {type(found).__name__}; expected a function. Name a function of {path}.")
    return found


def takes(function: Callable[..., Any], count: int) -> bool:
    """Return whether a function can be called with this number of arguments by position."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a built-in without a signature
        return True
    return True


def check_arguments(name: str, *expected: Sequence[str]) -> None:
    """Check that the function with a dotted name can be called with one of some lists of arguments.

    Raises:
        ContractError: it cannot; the signature and the expected arguments are shown.
    """
    function = find_function(name)
    if not any(takes(function, len(arguments)) for arguments in expected):
        wanted = " or ".join(f"({', '.join(arguments)})" for arguments in expected)
        raise ContractError(f"{name} takes {inspect.signature(function)}; expected {wanted}, by position.")


def is_finite_number(value: object) -> bool:
    """Return whether a value that a function returned is a real number, of Python or numpy, and finite."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False
