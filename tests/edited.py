"""The code of the project as it would be with some text of its modules replaced: for its versions, not for its work."""

import ast
import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ml_assets.provenance import modules, syntax

PART_INVERTED = {"ml_assets__contracts__artifacts__training": ('pl.col("split") == split', 'pl.col("split") != split')}
"""`TrainingSet.part` with its comparison inverted."""


def forget(*, files: bool = True) -> None:
    """Let versions be computed again, and modules be read again unless no file has changed: that takes a second."""
    of_files = (modules.is_ours, modules.module_of, modules.path_of) if files else ()
    of_code = importlib.import_module("ml_assets.provenance.code")._version
    for one in (*of_files, modules.resolve, modules.template_digests, syntax.definition, of_code):
        one.cache_clear()


@contextmanager
def edited(**changes: tuple[str, str]) -> Iterator[None]:
    """Let code versions be those of modules, named with `__` for dots, in which a text is replaced."""
    read = modules.module_of

    def module(name: str) -> object:
        found = read(name)
        old, new = changes.get(name.replace(".", "__"), ("", ""))
        if not old:
            return found
        text = found.path.read_text(encoding="utf-8")
        assert old in text
        return modules.Module(name, found.path, ast.parse(text.replace(old, new)))

    with pytest.MonkeyPatch.context() as patch:
        forget(files=False)
        patch.setattr(modules, "module_of", functools.cache(module))
        yield
    forget(files=False)
