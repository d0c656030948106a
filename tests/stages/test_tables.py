from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest

from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.declaration import TablesDeclaration
from ml_assets.provenance import LOOK_BACK
from ml_assets.stages.common import table_key
from ml_assets.stages.tables import in_order, tables


@pytest.fixture
def found(manifest: Mapping[str, Any]) -> dict[str, dg.AssetsDefinition]:
    declared = TablesDeclaration.model_validate(
        {"days": {"first": "2013-01-01", "last": "2013-12-31"}, "freshness": {"fail_hours": 30}}
    )
    return {asset.op.name: asset for asset in tables(declared, manifest, contracts_from_dbt(manifest))}


def models(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}


def test_every_model_of_dbt_is_one_asset_whole_or_by_day(
    found: dict[str, dg.AssetsDefinition], manifest: Mapping[str, Any]
) -> None:
    by_day = {name for name, node in models(manifest).items() if node["config"]["materialized"] == "by_day"}

    assert {"whole_tables", "tables_by_day"} == {*found}
    assert {table_key(name) for name in by_day} == {*found["tables_by_day"].keys}
    assert {table_key(name) for name in models(manifest) if name not in by_day} == {*found["whole_tables"].keys}
    assert (None, dg.BackfillPolicy.single_run()) == (
        found["whole_tables"].partitions_def, found["tables_by_day"].backfill_policy,
    )  # fmt: skip


def test_every_data_test_of_a_model_is_a_blocking_check_of_its_asset(
    found: dict[str, dg.AssetsDefinition], manifest: Mapping[str, Any]
) -> None:
    uids = {node["unique_id"]: name for name, node in models(manifest).items()}
    wanted = {
        (table_key(uids[test["attached_node"]]), test["name"][:120])
        for test in manifest["nodes"].values()
        if test["resource_type"] == "test" and test.get("attached_node") in uids
    }
    checks = [check for asset in found.values() for check in asset.check_specs]

    assert wanted == {(check.asset_key, check.name) for check in checks}
    assert all(check.blocking for check in checks)


def test_tables_show_columns_look_back_freshness_and_what_they_are_made_with(
    found: dict[str, dg.AssetsDefinition],
) -> None:
    spec = found["tables_by_day"].specs_by_key[table_key("flight_features")]

    assert {"dbt", "duckdb"} == spec.kinds
    assert ("marts", ["team:data"]) == (spec.group_name, [*spec.owners])
    assert spec.freshness_policy is not None
    assert spec.code_version
    look_back = spec.metadata[LOOK_BACK]
    assert 1 == getattr(look_back, "data", look_back)["tables/stg_weather"]
    assert 0 == getattr(look_back, "data", look_back)["tables/stg_flights"]


def test_models_are_published_after_what_they_are_made_of(manifest: Mapping[str, Any]) -> None:
    uids = [node["unique_id"] for node in models(manifest).values()]
    ordered = in_order(manifest, uids)

    assert sorted(uids) == sorted(ordered)
    for place, uid in enumerate(ordered):
        parents = {parent for parent in manifest["nodes"][uid]["depends_on"]["nodes"] if parent in uids}
        assert parents <= {*ordered[:place]}


def test_the_order_of_a_few_models_leaves_the_others_out(manifest: Mapping[str, Any]) -> None:
    few = [models(manifest)[name]["unique_id"] for name in ("flight_features", "stg_flights")]

    assert [few[1], few[0]] == in_order(manifest, few)
