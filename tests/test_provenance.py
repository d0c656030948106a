"""Which code made an artifact: what changes its version and what does not."""

import importlib.util
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.provenance import LOOK_BACK, Wanted, code_behind, code_version, out_of_date, reads_of
from resources.lake import Lake
from tests.builders import frame, put

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
        "from ml_assets.provenance import code_version; from ml_assets.logic.evaluation import evaluate;"
        "print(code_version([evaluate]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }

    assert len(said) == 1


def graph_of(*, mapping: dg.PartitionMapping | None = None, exact: int | None = None) -> Any:
    """Return a graph where `child` reads `parent` by day, and `summary` reads all of `parent`."""
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01")
    metadata = {} if exact is None else {LOOK_BACK: dg.MetadataValue.json({"parent": exact})}

    @dg.asset(partitions_def=days)
    def parent() -> int:
        return 1

    @dg.asset(partitions_def=days, ins={"parent": dg.AssetIn(partition_mapping=mapping)}, metadata=metadata)
    def child(parent: int) -> int:
        return parent

    @dg.asset
    def summary(parent: int) -> int:
        return parent

    @dg.asset(partitions_def=days)
    def beside(summary: int) -> int:
        return summary

    return dg.Definitions(assets=[parent, child, summary, beside]).resolve_asset_graph()


def test_a_day_reads_its_own_day_unless_a_mapping_says_more() -> None:
    back = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=1, allow_nonexistent_upstream_partitions=True)

    assert reads_of(graph_of(), dg.AssetKey("child"), dg.AssetKey("parent"), "2013-01-05") == ["2013-01-05"]
    assert reads_of(graph_of(mapping=back), dg.AssetKey("child"), dg.AssetKey("parent"), "2013-01-05") == [
        "2013-01-04", "2013-01-05", "2013-01-06",
    ]  # fmt: skip


def test_a_look_back_in_the_metadata_is_more_exact_than_the_mapping() -> None:
    wide = dg.TimeWindowPartitionMapping(start_offset=-28, allow_nonexistent_upstream_partitions=True)
    graph = graph_of(mapping=wide, exact=2)

    assert reads_of(graph, dg.AssetKey("child"), dg.AssetKey("parent"), "2013-01-05") == [
        "2013-01-03", "2013-01-04", "2013-01-05",
    ]  # fmt: skip


def test_what_has_no_partitions_reads_all_there_are_and_is_read_as_one() -> None:
    assert reads_of(graph_of(), dg.AssetKey("summary"), dg.AssetKey("parent"), "") is None
    assert reads_of(graph_of(), dg.AssetKey("beside"), dg.AssetKey("summary"), "2013-01-05") == [""]


def test_a_day_is_out_of_date_until_rows_released_for_it_are_among_its_inputs(tmp_path: Path) -> None:
    lake, graph, key = Lake(str(tmp_path)), graph_of(), dg.AssetKey("parent")
    code = graph.get(key).code_version
    for day in ("2013-01-05", "2013-01-06"):
        put(lake, frame(1), asset="parent", partition=day, code_version=code)
    released = put(lake, frame(2), asset="parent__released", partition="2013-01-06").ref
    wanted = Wanted({key: ["2013-01-05", "2013-01-06"]}, {}, beside={key: {"2013-01-06": [released]}})

    assert {key: ["2013-01-06"]} == out_of_date(graph, lake, wanted)

    put(lake, frame(1), asset="parent", partition="2013-01-06", code_version=code, inputs=(released,))
    assert {} == out_of_date(graph, lake, wanted)


def test_the_code_behind_an_artifact_is_that_of_all_it_was_made_from(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    raw = put(lake, frame(1), asset="raw", partition="2013-01-05", code_version="landing").ref
    middle = [
        put(lake, frame(n), asset="middle", partition=day, code_version="recent", inputs=(raw,)).ref
        for n, day in enumerate(("2013-01-04", "2013-01-05"))
    ]
    mart = put(lake, frame(9), asset="mart", partition="2013-01-05", code_version="join", inputs=(raw, *middle)).ref

    assert {"raw": "landing", "middle": "recent", "mart": "join"} == code_behind(lake, mart)
