"""Declarations as Dagster components: the same code location as `build`, and what `dg scaffold` writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.components import declared as component
from ml_assets.components.declared import DbtTables, Model, RawTables
from ml_assets.contracts.errors import ContractError
from ml_assets.declaration.reading import KINDS, DeclarationError, Declared, read_all
from tests.adapters.dagster import get_scaffolder
from tests.flights import build

PROJECT = """\
directory_type = "project"
[project]
root_module = "defs"
defs_module = "defs"
"""


def from_defs_folder(folder: Path) -> dg.Definitions:
    """Load the real declarations the way `dg` does."""
    (folder / "dg.toml").write_text(PROJECT, encoding="utf-8")
    return dg.load_from_defs_folder(path_within_project=folder)


def described(defs: dg.Definitions) -> dict[str, dict[str, Any]]:
    """Return what a code location says of each asset."""
    graph = defs.resolve_asset_graph()
    return {
        key.to_user_string(): {
            "parents": graph.get(key).parent_keys,
            "partitions": graph.get(key).partitions_def,
            "code": graph.get(key).code_version,
            "group": graph.get(key).group_name,
            "parameters": graph.get(key).metadata.get("ml_assets/parameters"),
            "checks": graph.get(key).check_keys,
        }
        for key in graph.get_all_asset_keys()
    }


def test_a_defs_folder_of_components_gives_the_same_code_location_as_build(
    tmp_path: Path, manifest: Mapping[str, Any]
) -> None:
    one, other = build(manifest=manifest), from_defs_folder(tmp_path)

    assert described(one) == described(other)
    for kind in ("sensors", "schedules", "jobs"):
        assert sorted(it.name for it in getattr(one, kind)) == sorted(it.name for it in getattr(other, kind))


def test_every_kind_of_declaration_is_a_component_of_that_name() -> None:
    assert {name: getattr(component, name.rpartition(".")[2]).get_model_cls() for name in KINDS} == KINDS


@pytest.mark.parametrize(
    ("kind", "name", "given"),
    [
        (Model, "churn", {"table": "customers", "target": "is_churned"}),
        (Model, "spend", {"table": "customers", "target": "amount", "labels": "orders", "task": "regression"}),
        (RawTables, "raw", {"file": "data/Orders 2.csv"}),
        (DbtTables, "tables", {}),
    ],
)
def test_a_scaffolded_declaration_is_valid(
    tmp_path: Path, kind: type[Model | RawTables | DbtTables], name: str, given: dict[str, str]
) -> None:
    scaffolder = get_scaffolder(kind)
    assert isinstance(scaffolder, dg.Scaffolder)
    (tmp_path / name).mkdir()
    params = scaffolder.get_scaffold_params().model_validate(given)

    scaffolder.scaffold(dg.ScaffoldRequest(f"ml_assets.{kind.__name__}", tmp_path / name, "yaml", tmp_path, params))

    found = read_all(tmp_path)
    assert 1 == len([*found.models, *found.raw, *found.tables])
    assert [name] * (kind is Model) == [it.name for it in found.models]


def test_the_components_of_other_packages_are_not_declarations_and_a_misspelled_package_is_an_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "dbt" / "defs.yaml"
    path.parent.mkdir()
    path.write_text("type: dagster_dbt.DbtProjectComponent\nattributes: {}\n", encoding="utf-8")

    assert Declared() == read_all(tmp_path)

    path.write_text("type: ml_asset.Model\nattributes: {}\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match=r"got 'ml_asset\.Model'"):
        read_all(tmp_path)


@pytest.mark.parametrize("kind", [Model, RawTables, DbtTables])
def test_a_component_without_attributes_lists_the_required_ones(kind: type[Model | RawTables | DbtTables]) -> None:
    with pytest.raises(ContractError, match=f"type {kind.__name__} needs attributes; see {kind.kind.__name__}"):
        kind.load(None, dg.ComponentTree.for_test().load_context)
