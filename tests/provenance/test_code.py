"""Which code made an artifact: what changes its version and what does not."""

import importlib.util
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_assets.provenance.code import code_version

Versioned = Callable[..., str]

CODE = '''
import dataclasses
import functools
import re

LIMIT = 3
WORDS = frozenset({"b", "a"})
PATTERN = re.compile("a+")
_cache = {}


def shrink(x):
    return x - 1


def grow(x):
    return x + 1


TABLE = {"grow": grow}


@dataclasses.dataclass(frozen=True)
class Shape:
    size: int = 2

    @property
    def area(self):
        return self.size * self.size

    @functools.cached_property
    def edge(self):
        return 4 * self.size


@functools.cache
def remembered(x):
    return shrink(x)


def work(x):
    """What it does."""
    _cache[x] = x
    inner = [remembered(y) for y in range(x)]
    return Shape().area + TABLE["grow"](x) + LIMIT + len(inner) + len(WORDS) + len(PATTERN.pattern)


def unused(x):
    return x
'''


@pytest.fixture
def version(tmp_path: Path) -> Iterator[Versioned]:
    """Give the code version of `work` in a module of this project with one piece of its text replaced."""
    made: list[str] = []

    def of(old: str = "", new: str = "", *, after: Callable[[types.ModuleType], None] = lambda _: None) -> str:
        assert old in CODE
        path = tmp_path / f"version_{len(made)}.py"
        path.write_text(CODE.replace(old, new, 1) if old else CODE, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("ml_assets.made_for_a_test", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        made.append(spec.name)
        spec.loader.exec_module(module)
        after(module)
        return code_version([module.work])

    yield of
    for name in set(made):
        del sys.modules[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x - 1", "x - 2"),
        ("x + 1", "x + 2"),
        ("self.size * self.size", "self.size"),
        ("4 * self.size", "3 * self.size"),
        ("LIMIT = 3", "LIMIT = 4"),
        ('"b", "a"', '"b", "c"'),
        ('"a+"', '"a*"'),
        ("size: int = 2", "size: int = 3"),
        ('TABLE["grow"](x) + LIMIT', 'TABLE["grow"](x) - LIMIT'),
        ("remembered(y) for y", "remembered(-y) for y"),
    ],
)
def test_code_that_the_work_reaches_changes_its_version(version: Versioned, old: str, new: str) -> None:
    assert version() != version(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""What it does."""', '"""Other words."""'),
        ("def work(x):", "# A comment.\n\n\ndef work(x):"),
        ("def unused(x):\n    return x", "def unused(x):\n    return -x"),
        ('"b", "a"', '"a", "b"'),
    ],
)
def test_words_order_of_sets_and_code_elsewhere_do_not(version: Versioned, old: str, new: str) -> None:
    assert version() == version(old, new)


def test_what_a_module_remembers_while_it_runs_plays_no_part(version: Versioned) -> None:
    assert version() == version(after=lambda module: module._cache.update({1: 2}))


def test_the_version_is_the_same_in_every_process() -> None:
    code = (
        "from ml_assets.provenance.code import code_version; from ml_assets.logic.evaluation import evaluate;"
        "print(code_version([evaluate]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }

    assert len(said) == 1
