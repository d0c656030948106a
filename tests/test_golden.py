"""The project behaves as the golden files in `tests/golden` show; `tests.golden_files` explains how to rewrite them."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from ml_assets.adapters.dagster import AssetGraph
from ml_assets.declaration.reading import read_all
from ml_assets.lake.resource import LakeResource
from ml_assets.warehouse.dbt_server import RESULTS, Dbt
from tests.builders import project
from tests.flights import DBT_PROJECT, DEFS
from tests.golden_files import as_json, check_golden
from tests.golden_graph import assets_in, automation_in, code_versions_in
from tests.golden_ticks import Ticks, recorded_ticks

# ---------------------------------------------------------------- the code location


@pytest.fixture(scope="module")
def location(manifest: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The code location of the whole example."""
    lake = LakeResource(url=str(tmp_path_factory.mktemp("lake")))
    with project(lake, read_all(DEFS), manifest=manifest) as whole:
        return whole.defs


@pytest.fixture(scope="module")
def graph(location: Any) -> AssetGraph:
    return location.resolve_asset_graph()


def test_parents_checks_partitions_and_settings_of_assets_equal_the_golden_file(graph: AssetGraph) -> None:
    check_golden("graph.json", as_json(assets_in(graph)))


def test_jobs_sensors_schedules_and_resources_equal_the_golden_file(location: Any) -> None:
    check_golden("automation.json", as_json(automation_in(location)))


def test_code_versions_of_assets_equal_the_golden_file(graph: AssetGraph) -> None:
    """A moved or renamed module changes none of them, nor does another version of Python."""
    check_golden("code_versions.json", as_json(code_versions_in(graph)))


# ---------------------------------------------------------------- SQL


@pytest.fixture(scope="module")
def compiled(manifest: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The SQL of all models and tests over two days, by dbt's unique id."""
    folder = tmp_path_factory.mktemp("compiled")
    bindings = {
        "first": "2013-01-01", "last": "2013-01-02", "scratch": str(folder), "sources": {}, "models": {},
    }  # fmt: skip
    (folder / "bindings.json").write_text(json.dumps(bindings), encoding="utf-8")
    lines: list[str] = []
    with Dbt(DBT_PROJECT) as dbt:
        command = ["compile", "--select", "resource_type:model", "resource_type:test"]
        code = dbt.build(command, bindings=folder / "bindings.json", target=folder, log=lines.append)
    assert code == 0, "\n".join(lines)
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["results"]
    return {it["unique_id"]: it["compiled_code"].replace(str(folder), "SCRATCH") for it in results}


def test_compiled_dbt_models_equal_the_golden_file(compiled: Mapping[str, str], manifest: Mapping[str, Any]) -> None:
    names = {key: node["name"] for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}

    check_golden("compiled_models.sql", _listed({names[key]: compiled[key] for key in names}))


def test_compiled_dbt_tests_equal_the_golden_file(compiled: Mapping[str, str], manifest: Mapping[str, Any]) -> None:
    nodes = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "test"}
    names = {key: _test_name(node, manifest) for key, node in nodes.items()}

    assert len(names) == len({*names.values()})
    check_golden("compiled_tests.sql", _listed({names[key]: compiled[key] for key in names}))


def _test_name(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Return what a generic test is about; its name in dbt changes with the package that defines it."""
    declared = node["test_metadata"]
    given = {name: value for name, value in declared["kwargs"].items() if name not in {"model", "column_name"}}
    nodes = {**manifest["nodes"], **manifest["sources"]}
    tested_node = node["attached_node"] or node["depends_on"]["nodes"][0]  # a source is not attached
    tested = ".".join(filter(None, (nodes[tested_node]["name"], node["column_name"])))
    return f"{tested}: {declared['name']} {json.dumps(given, sort_keys=True) if given else ''}".rstrip()


def _listed(sql: Mapping[str, str]) -> str:
    return "".join(f"-- {name}\n{_tidy(text)}\n\n" for name, text in sorted(sql.items()))


def _tidy(sql: str) -> str:
    """Return SQL without comments, empty lines and spaces at the ends of lines."""
    lines = [re.sub(r"(^|\s)--\s[^']*$", "", line).rstrip() for line in sql.splitlines()]
    return "\n".join(line for line in lines if line)


# ---------------------------------------------------------------- sensors and schedules


@pytest.fixture(scope="module")
def ticks(tmp_path_factory: pytest.TempPathFactory) -> Ticks:
    return recorded_ticks(tmp_path_factory.mktemp("ticks"))


def test_requests_of_sensors_and_schedules_equal_the_golden_file(ticks: Ticks) -> None:
    check_golden("ticks.json", as_json(ticks.requested))


def test_ticks_of_sensors_and_schedules_equal_the_golden_file(ticks: Ticks) -> None:
    """Sentences may be rewritten; what is requested is in a file of its own."""
    check_golden("tick_messages.txt", ticks.messages())
