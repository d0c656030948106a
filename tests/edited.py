"""The code of the project as it would be with some text of its modules replaced: for its versions, not for its work."""

import ast
import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ml_assets.provenance import modules, syntax

PART_INVERTED = {"ml_assets__contracts__artifacts": ('pl.col("split") == split', 'pl.col("split") != split')}
"""`TrainingSet.part` with its comparison inverted."""


def forget() -> None:
    """Let modules be read again."""
    for one in (modules.is_ours, modules.module_of, modules.path_of, modules.resolve, modules.template_digests):
        one.cache_clear()
    syntax.definition.cache_clear()
    importlib.import_module("ml_assets.provenance.code")._version.cache_clear()


@contextmanager
def edited(**changes: tuple[str, str]) -> Iterator[None]:
    """Let code versions be those of modules, named with `__` for dots, in which a text is replaced."""
    read = modules.module_of.__wrapped__

    def module(name: str) -> object:
        found = read(name)
        old, new = changes.get(name.replace(".", "__"), ("", ""))
        if not old:
            return found
        text = found.path.read_text(encoding="utf-8")
        assert old in text
        return modules.Module(name, found.path, ast.parse(text.replace(old, new)))

    with pytest.MonkeyPatch.context() as patch:
        forget()
        patch.setattr(modules, "module_of", functools.cache(module))
        yield
    forget()
