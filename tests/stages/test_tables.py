from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
import pytest

from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.declaration.tables import TablesDeclaration
from ml_assets.models.plan import table_key
from ml_assets.orchestration.staleness import LOOK_BACK
from ml_assets.stages.checks.contract_rules import check_name
from ml_assets.stages.tables import tables


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

    assert {"ml_assets_whole_tables", "ml_assets_tables_by_day"} == {*found}
    assert {table_key(name) for name in by_day} == {*found["ml_assets_tables_by_day"].keys}
    assert {table_key(name) for name in models(manifest) if name not in by_day} == {
        *found["ml_assets_whole_tables"].keys
    }
    assert (None, dg.BackfillPolicy.single_run()) == (
        found["ml_assets_whole_tables"].partitions_def, found["ml_assets_tables_by_day"].backfill_policy,
    )  # fmt: skip


def test_a_declaration_that_names_models_is_for_these_and_the_other_one_for_the_rest(
    manifest: Mapping[str, Any],
) -> None:
    contracts, days = contracts_from_dbt(manifest), {"first": "2013-06-01"}
    one = TablesDeclaration.model_validate({"days": days, "models": ["flight_features"]})
    rest = TablesDeclaration.model_validate({"days": {"first": "2013-01-01"}})

    _, by_day = tables(one, manifest, contracts)
    others = [*tables(rest, manifest, contracts, others=["flight_features"])]

    assert {table_key("flight_features")} == {*by_day.keys}
    assert date(2013, 6, 1) == by_day.partitions_def.start.date()
    assert {table_key(name) for name in models(manifest)} - by_day.keys == {key for it in others for key in it.keys}


def test_every_rule_of_a_contract_is_a_check_of_its_asset(
    found: dict[str, dg.AssetsDefinition], manifest: Mapping[str, Any]
) -> None:
    contracts = contracts_from_dbt(manifest)
    rules = {
        (table_key(name), check_name(rule.name), rule.is_blocking)
        for name in models(manifest)
        for rule in contracts[name].rules
    }
    checks = {(spec.asset_key, spec.name, spec.blocking) for asset in found.values() for spec in asset.check_specs}

    assert rules <= checks
    assert len(checks) == sum(len([*asset.check_specs]) for asset in found.values())


def test_a_quarantine_is_a_separate_asset_of_its_table(manifest: Mapping[str, Any]) -> None:
    declared = TablesDeclaration.model_validate(
        {"days": {"first": "2013-01-01"}, "quarantine": {"stg_flights": 0.01, "stg_planes": 0.02}}
    )
    assets = tables(declared, manifest, contracts_from_dbt(manifest))
    aside = {key: asset for asset in assets for key in asset.keys if key.path[-1].endswith("__quarantine")}

    assert {table_key("stg_flights__quarantine"), table_key("stg_planes__quarantine")} == {*aside}
    for key, asset in aside.items():
        table = table_key(key.path[-1].removesuffix("__quarantine"))
        assert {table} == asset.asset_deps[key]
        assert asset.specs_by_key[table].partitions_def == asset.specs_by_key[key].partitions_def


def test_tables_show_columns_look_back_freshness_and_kinds(found: dict[str, dg.AssetsDefinition]) -> None:
    spec = found["ml_assets_tables_by_day"].specs_by_key[table_key("flight_features")]

    assert {"dbt", "duckdb"} == spec.kinds
    assert ("marts", ["team:data"]) == (spec.group_name, [*spec.owners])
    assert spec.freshness_policy is not None
    assert spec.code_version
    look_back = spec.metadata[LOOK_BACK]
    assert 1 == getattr(look_back, "data", look_back)["tables/stg_weather"]
    assert 0 == getattr(look_back, "data", look_back)["tables/int_flights"]
