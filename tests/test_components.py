"""Declarations as Dagster components: the same files, the same assets as the quick way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.core.component_tree import ComponentTree

from ml_assets import components as component
from ml_assets.components import DbtTables, Model, RawTables
from ml_assets.contracts.errors import ContractError
from ml_assets.declaration.reading import KINDS, read_all
from tests.flights import DEFS, build

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


def test_the_defs_folder_gives_the_same_assets_as_components_and_in_one_go(
    tmp_path: Path, manifest: Mapping[str, Any]
) -> None:
    assert described(build(manifest=manifest)) == described(from_defs_folder(tmp_path))


def test_every_kind_of_declaration_is_a_component_of_that_name() -> None:
    assert {name: getattr(component, name.rpartition(".")[2]).get_model_cls() for name in KINDS} == KINDS


@pytest.mark.usefixtures("manifest")
def test_a_model_stands_alone_beside_tables_that_others_declare() -> None:
    context = ComponentTree.for_test().load_context
    declaration = read_all(DEFS).models[0]
    defs = Model(declaration).build_defs(context)

    assert {asset.key.path[0] for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)} == {
        declaration.name
    }


@pytest.mark.parametrize("kind", [Model, RawTables, DbtTables])
def test_a_component_without_attributes_says_which_it_needs(kind: type[Model | RawTables | DbtTables]) -> None:
    with pytest.raises(ContractError, match=f"type {kind.__name__} needs attributes; see {kind.kind.__name__}"):
        kind.load(None, ComponentTree.for_test().load_context)
