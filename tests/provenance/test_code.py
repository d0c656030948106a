"""Which code made an artifact: what changes its version and what does not."""

import ast
import functools
import gc
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ml_assets.provenance import modules, syntax
from ml_assets.provenance.code import code_version, covered
from ml_assets.provenance.sql import canonical, model_version
from ml_assets.warehouse.project_contracts import read_manifest
from tests.builders import flights_declared
from tests.edited import PART_INVERTED, edited, forget
from tests.entered import entered_in, functions_of
from tests.flights import DBT_PROJECT, build

Versioned = Callable[..., str]
ROOT = Path(__file__).parent.parent.parent

WORK = '''
import dataclasses
import functools
import re
from typing import TYPE_CHECKING

from helping import shrink, LIMIT
from pydantic import BaseModel, Field
import helping

if TYPE_CHECKING:
    from helping import Given

WORDS = frozenset({"b", "a"})
PATTERN = re.compile("a+")
_cache = {}


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


class Settings(BaseModel):
    factor: int = Field(default=6, description="What it multiplies by.")


@functools.cache
def remembered(x):
    return shrink(x)


def work(x, given: "Given | None" = None):
    """What it does."""
    from helping import lazily

    _cache[x] = x
    inner = [remembered(y) for y in range(x)]
    found = given.part("train") if given else lazily(x)
    match found:
        case {"key": str(key)}:
            print(f"{key!r:>{LIMIT}} is {x:.3f}" " here")
    size = Shape().area + len(WORDS) + len(PATTERN.pattern) + Settings().factor
    return size + TABLE["grow"](x) + helping.last(x) + len(inner)


def factory(step):
    scale = 3

    def inside(x):
        return step(x) * scale

    return inside


def unused(x):
    return x
'''
HELPING = """
LIMIT = 3


class Base:
    def first(self):
        return 5


class Given(Base):
    def part(self, name):
        return self.first() if name == "train" else None

    def never_asked_for(self):
        return 7


def shrink(x):
    return x - 1


def lazily(x):
    return {"key": x}


def last(x):
    return -x
"""


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Versioned]:
    """Give the code version of a function of two small modules of a user, with one piece of their text replaced."""

    def of(
        old: str = "", new: str = "", *, helper: str = "helping",
        root: Callable[[types.ModuleType], object] = lambda module: module.work,
    ) -> str:  # fmt: skip
        assert old in WORK + HELPING
        for name, text in (("working", WORK), (helper, HELPING)):
            changed = text.replace(old, new, 1) if old else text
            (tmp_path / f"{name}.py").write_text(changed.replace("helping", helper), encoding="utf-8")
            sys.modules.pop(name, None)
        forget()
        return code_version([root(importlib.import_module("working"))])  # type: ignore[list-item] # functions, mostly

    monkeypatch.syspath_prepend(tmp_path)
    yield of
    for name in ("working", "helping", "moved"):
        sys.modules.pop(name, None)
    forget()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x - 1", "x - 2"),
        ("x + 1", "x + 2"),
        ("self.size * self.size", "self.size"),
        ("LIMIT = 3", "LIMIT = 4"),
        ('"b", "a"', '"b", "c"'),
        ('"a+"', '"a*"'),
        ("size: int = 2", "size: int = 3"),
        ("default=6", "default=7"),
        ('TABLE["grow"](x) + helping', 'TABLE["grow"](x) - helping'),
        ("remembered(y) for y", "remembered(-y) for y"),
        ('name == "train"', 'name != "train"'),
        ("return 5", "return 6"),
        ('{"key": x}', '{"key": -x}'),
        ("return -x\n", "return x\n"),
        ("@functools.cache\n", ""),
        ("case {", "case {'other': 1, "),
        ("import re\n", "import regex as re\n"),
    ],
)
def test_code_that_the_work_reaches_changes_its_version(version: Versioned, old: str, new: str) -> None:
    assert version() != version(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""What it does."""', '"""Other words."""'),
        ("def work(x,", "# A comment.\n\n\ndef work(x,"),
        ("def unused(x):\n    return x", "def unused(x):\n    return -x"),
        ("return 7", "return 8"),
        ("4 * self.size", "3 * self.size"),
        ('"b", "a"', '"a", "b"'),
        ("def shrink(x):", "def shrink(x: int) -> int:"),
        ("import re\n", "import os\nimport re\n"),
        ("return x - 1", "return (\n        x - 1  # less\n    )"),
        ("_cache = {}", "_cache: dict[int, int] = {}"),
        ("import helping\n", "import helping\nimport this\n"),
        ("What it multiplies by.", "A factor."),
        ('description="What', 'title="factor", description="What'),
    ],
)
def test_docstrings_formatting_annotations_and_unused_code_do_not_change_the_version(
    version: Versioned, old: str, new: str
) -> None:
    assert version() == version(old, new)


@pytest.mark.parametrize(("old", "new"), [("", ""), ("helping.last(x)", "len(helping.__name__)")])
def test_renaming_a_module_does_not_change_the_version(version: Versioned, old: str, new: str) -> None:
    assert version(old, new) == version(old, new, helper="moved")


@pytest.mark.parametrize(("old", "new"), [("x - 1", "x - 2"), ("scale = 3", "scale = 4"), ("step(x) *", "step(x) +")])
def test_values_that_a_factory_passed_to_its_function_change_the_version(
    version: Versioned, old: str, new: str
) -> None:
    def made(module: types.ModuleType) -> object:
        return functools.partial(module.factory(module.remembered))

    assert version(root=made) != version(old, new, root=made)


def test_a_named_template_and_its_includes_change_the_version(tmp_path: Path, version: Versioned) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "page.html").write_text('{% include "part.html" %}')
    part = tmp_path / "templates" / "part.html"
    part.write_text("<p>one</p>")
    before = version('"train"', '"page.html"')
    part.write_text("<p>two</p>")

    assert before != version('"train"', '"page.html"')


OF_EVERY_VERSION = "93d789e5f459f29f"


def test_the_version_does_not_depend_on_the_version_of_python(version: Versioned) -> None:
    assert OF_EVERY_VERSION == version()


@functools.cache
def other_pythons() -> list[str]:
    """Return the interpreters of other minor versions on this machine."""
    places = [shutil.which(f"python3.{minor}") for minor in (12, 13, 14)]
    places += [str(path) for path in (Path.home() / ".pyenv" / "versions").glob("3.1[234].*/bin/python3")]
    found: dict[str, str] = {}
    for place in places:
        ask = [str(place), "-c", "import sys; print(sys.version_info[1])"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False) if place else None
        if done is not None and done.returncode == 0 and done.stdout.strip() in {"12", "13", "14"}:
            found[done.stdout] = str(place)
    return [*found.values()]


@functools.cache
def stages() -> Mapping[str, Callable[..., object]]:
    """Return the function of every asset of the example, by its qualified name."""
    return functions_of(build(declared=flights_declared(), manifest=read_manifest(DBT_PROJECT)))


@functools.cache
def versions() -> Mapping[str, str]:
    """Return the version of each asset's code."""
    return {name: code_version([function]) for name, function in stages().items()}


def changed(**changes: tuple[str, str]) -> set[str]:
    """Return the assets whose code has another version if some text of modules is replaced."""
    before = versions()
    with edited(**changes):
        return {name.rpartition(".")[2] for name, it in stages().items() if before[name] != code_version([it])}


@pytest.mark.usefixtures("manifest")
def test_a_method_of_an_argument_counts_in_each_stage_that_calls_it() -> None:
    found = changed(**PART_INVERTED)

    assert {"training_set", "importances", "tuning", "model", "evaluation"} == found


@pytest.mark.usefixtures("manifest")
def test_the_colour_of_a_plot_counts_in_the_card_and_where_the_plot_is_drawn() -> None:
    found = changed(ml_assets__logic__plots__drawing=("#0072b2", "#0072b3"))

    assert "card" in found
    assert found.isdisjoint({"features", "labels", "training_set", "champion", "predictions"})


@pytest.mark.usefixtures("manifest")
def test_no_stage_counts_storage_sensors_or_commands() -> None:
    found = {module for function in stages().values() for module, _ in covered([function])}

    assert not [it for it in found if it.startswith(("ml_assets.automation", "ml_assets.cli", "ml_assets.lake"))]


def test_all_that_reads_source_files_counts() -> None:
    waiting, found = ["ml_assets.landing.sources", "ml_assets.landing.row_sql"], set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        module = modules.module_of(name)
        assert module is not None
        names = {it for pair in module.imports.values() for it in (pair[0], ".".join(pair))}
        paths = {it: modules.path_of(it) for it in names if it.startswith("ml_assets.") and it not in found}
        paths = {
            it: path for it, path in paths.items() if not it.startswith("ml_assets.contracts.")
        }  # they count anyway
        waiting += [it for it, path in paths.items() if path is not None and path.name != "__init__.py"]

    assert found - modules.LANDING == {f"ml_assets.{name}" for name in NOT_READING}


NOT_READING = (
    "lake.access", "lake.errors", "lake.objects", "lake.origin", "lake.sealing", "machine.system_limits", "project",
    "secrets", "settings",
)  # fmt: skip
"""What the modules that read source files use without reading anything by it: messages, limits and memory; `origin`,
which measures memory, also stores the record of the environment in the lake.
"""

_ROOTS = """
import json, sys
from ml_assets.provenance.code import _version
print(json.dumps({name: _version(((tuple(key), line),)) for name, (key, line) in json.load(sys.stdin).items()}))
"""


@pytest.mark.long
@pytest.mark.usefixtures("manifest")
def test_other_versions_of_python_give_the_stages_the_same_versions() -> None:
    roots = {
        name: ((it.__module__, it.__qualname__), it.__code__.co_firstlineno)  # type: ignore[attr-defined] # functions
        for name, it in stages().items()
    }
    if not other_pythons():
        pytest.skip("there is no other version of Python on this machine")
    for python in other_pythons():
        done = subprocess.run(
            [python, "-c", _ROOTS], input=json.dumps(roots), env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert versions() == json.loads(done.stdout)


@pytest.mark.usefixtures("manifest")
def test_rewriting_every_file_by_python_itself_changes_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before, parse = versions(), ast.parse
    forget()
    monkeypatch.setattr(
        modules.ast, "parse", lambda text, *more, **given: parse(ast.unparse(parse(text, *more, **given)), **given)
    )

    assert before == {name: code_version([it]) for name, it in stages().items()}


@pytest.mark.long
def test_the_version_covers_every_function_that_a_stage_enters(flown: Path) -> None:
    deciding = ("ml_assets.contracts.", "ml_assets.logic.", "ml_assets.stages.")
    entered = {name: [it for it in its if it[0].startswith(deciding)] for name, its in entered_in(flown).items()}
    missed = {
        name: [it for it in entered[name] if not _is_covered(function, *it)] for name, function in stages().items()
    }

    assert {} == {name: found for name, found in missed.items() if found}
    assert min(len(entered[name]) for name in stages()) > 10


def _is_covered(function: Callable[..., object], module: str, name: str) -> bool:
    if module == "ml_assets.contracts.periods":  # in which partitions days are stored is not part of a result
        return True
    found = covered([function])
    outer = name.split(".<locals>", maxsplit=1)[0]
    owner, _, method = outer.rpartition(".")
    if (module, outer) in found or (module == function.__module__ and name.startswith(function.__qualname__)):
        return True
    of_class = syntax.definition((module, owner)) if (module, owner) in found else None
    return of_class is not None and method not in of_class.methods  # what runs unasked is part of the class


# ---------------------------------------------------------------- dbt


MACROS = {
    "macro.shop.recent": {
        "package_name": "shop", "macro_sql": "{% macro recent(n) %} x > {{ n }} {% endmacro %}",
        "depends_on": {"macros": ["macro.shop.inner", "macro.dbt.is_incremental"]},
    },
    "macro.shop.inner": {"package_name": "shop", "macro_sql": "1", "depends_on": {"macros": []}},
    "macro.shop.other": {"package_name": "shop", "macro_sql": "2", "depends_on": {"macros": []}},
    "macro.dbt.is_incremental": {"package_name": "dbt", "macro_sql": "3", "depends_on": {"macros": []}},
}  # fmt: skip


def of_model(sql: str = "select a, 'x  -- y' as b from t where {{ recent(3) }}", rules: str = "", **macros: str) -> str:
    node = {
        "raw_code": sql, "depends_on": {"macros": ["macro.shop.recent"]}, "config": {"materialized": "by_day"},
        "columns": {"a": {"data_type": "bigint"}, "b": {"data_type": "varchar"}},
    }  # fmt: skip
    changed = {
        name: {**macro, "macro_sql": macros.get(name.rpartition(".")[2], macro["macro_sql"])}
        for name, macro in MACROS.items()
    }
    return model_version({"nodes": {"model": node}, "macros": changed}, "model", engine="1", rules=rules)


def test_other_rules_in_the_contract_of_a_model_change_its_version() -> None:
    assert of_model(rules="a is at most 9") != of_model(rules="a is at most 5")


def test_a_macro_that_a_model_calls_changes_its_version() -> None:
    assert (
        len({of_model(), of_model(inner="5"), of_model(recent="{% macro recent(n) %} x >= {{ n }} {% endmacro %}")})
        == 3
    )
    assert of_model() == of_model(other="5") == of_model(is_incremental="5")


def test_the_package_of_a_macro_does_not_change_a_version() -> None:
    prefixed = "select a, 'x  -- y' as b from t where {{ shop.recent(3) }}"

    assert of_model() == of_model(prefixed)
    assert of_model() != of_model(prefixed.replace("shop.recent", "other.recent"))
    assert "shop . recent , 'shop.recent(3)' , recent ( 3 )" == canonical(
        "shop.recent, 'shop.recent(3)', shop.recent(3)", MACROS
    )


def test_an_edited_macro_of_the_engines_package_changes_the_version_of_a_model_that_calls_it(
    manifest: Mapping[str, Any],
) -> None:
    def version(model: str, **macros: Any) -> str:
        changed = {**manifest, "macros": {**manifest["macros"], **macros}}
        return model_version(changed, f"model.flights.{model}", engine="1", rules="")

    of_days = manifest["macros"]["macro.ml_assets.run_day"]
    edited = {"macro.ml_assets.run_day": {**of_days, "macro_sql": of_days["macro_sql"].replace("1970", "1971")}}

    assert version("int_flights") != version("int_flights", **edited)
    assert version("stg_planes") == version("stg_planes", **edited)


def test_comments_and_spaces_of_sql_do_not_change_a_version_and_text_does() -> None:
    spaced = "select\n  a, -- why\n 'x  -- y' as b /* so */ from t {# a note #} where {{recent(3)}}"

    assert of_model() == of_model(spaced)
    assert of_model() != of_model(spaced.replace("x  -- y", "x -- y"))
    assert "select 'it''s --' , \"a b\" from t" == canonical("select 'it''s --',\"a b\"--x\nfrom t")


def test_a_finalizer_that_parses_does_not_break_the_parsing_of_a_module() -> None:
    # Python before 3.11.8 fails with a SystemError; the formatting of a traceback parses, too.
    class Late:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            finalized.append(ast.parse("a + b"))

    finalized: list[ast.Module] = []
    modules.module_of.cache_clear()
    thresholds = gc.get_threshold()
    gc.set_threshold(50)
    try:
        for name in ("objects", "store", "manifests", "content", "s3"):
            Late()
            assert modules.module_of(f"ml_assets.lake.{name}") is not None
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert len(finalized) == 5
