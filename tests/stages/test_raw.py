from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.table import Column, TableContract
from ml_assets.declaration import RawDeclaration
from ml_assets.stages.raw import raw_tables
from resources.lake import LakeResource
from resources.sources import SourceError
from tests.stages.shop import context_of

ORDERS = TableContract(
    "raw/orders", (Column("day", pl.Date(), "When."), Column("n", pl.Int64(), "How many.")), "Orders."
)
SHOPS = TableContract("raw/shops", (Column("shop", pl.String()),), "Shops.")
CONTRACTS: Mapping[str, TableContract] = {"raw/orders": ORDERS, "raw/shops": SHOPS}
ROWS = "day,n\n2024-01-02,1\n2024-01-01,2\n2024-01-02,3\n2023-12-31,4\n"


def declared(folder: Path, **tables: Any) -> RawDeclaration:
    (folder / "orders.csv").write_text(ROWS)
    (folder / "shops.csv").write_text("shop\na\nb\n")
    given = {
        "orders": {"file": str(folder / "orders.csv"), "by": {"column": "day"}},
        "shops": {"file": str(folder / "shops.csv")},
    }
    return RawDeclaration.model_validate(
        {"owner": "team:shop", "days": {"first": "2024-01-01", "last": "2024-01-31"}, "tables": {**given, **tables}}
    )


@pytest.fixture
def assets(tmp_path: Path) -> dict[str, dg.AssetsDefinition]:
    return {asset.key.path[-1]: asset for asset in raw_tables(declared(tmp_path), CONTRACTS)}


@pytest.fixture
def lake(tmp_path: Path) -> LakeResource:
    return LakeResource(url=str(tmp_path / "lake"))


def test_a_source_is_landed_day_by_day_in_the_order_of_the_file(
    assets: dict[str, dg.AssetsDefinition], lake: LakeResource
) -> None:
    found = assets["orders"](context_of(date(2024, 1, 1), date(2024, 1, 3)), lake=lake)

    assert {"2024-01-01": [2], "2024-01-02": [1, 3], "2024-01-03": []} == {
        day: frame["n"].to_list() for day, frame in found.items()
    }
    assert ["day", "n"] == found["2024-01-03"].columns


def test_landing_a_day_twice_gives_the_same_rows(assets: dict[str, dg.AssetsDefinition], lake: LakeResource) -> None:
    day = date(2024, 1, 2)
    once = assets["orders"](context_of(day), lake=lake)
    again = assets["orders"](context_of(date(2024, 1, 1), date(2024, 1, 4)), lake=lake)

    assert_frame_equal(once[str(day)], again[str(day)])


def test_a_source_without_days_is_landed_whole(assets: dict[str, dg.AssetsDefinition], lake: LakeResource) -> None:
    assert ["a", "b"] == assets["shops"](lake=lake)["shop"].to_list()
    assert None is assets["shops"].partitions_def


def test_the_digest_of_the_source_is_noted_for_the_manifest(
    assets: dict[str, dg.AssetsDefinition], lake: LakeResource
) -> None:
    assets["shops"](lake=lake)

    notes = lake.open().take_notes()
    assert ["source"] == [*notes]
    assert 32 == len(str(notes["source"]))


def test_raw_tables_show_their_contract_owner_and_description(assets: dict[str, dg.AssetsDefinition]) -> None:
    spec = assets["orders"].specs_by_key[dg.AssetKey(["raw", "orders"])]

    assert ("raw", ["team:shop"], "Orders.") == (spec.group_name, [*spec.owners], spec.description)
    schema = spec.metadata["dagster/column_schema"]
    assert ["day", "n"] == [column.name for column in getattr(schema, "schema", schema).columns]
    assert assets["orders"].backfill_policy == dg.BackfillPolicy.single_run()


def test_a_source_that_dbt_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"raw tables \['shops'\] are declared, but dbt knows no source 'raw' with them"
    ):
        raw_tables(declared(tmp_path), {"raw/orders": ORDERS})


def test_a_file_that_breaks_its_contract_lands_nothing(tmp_path: Path, lake: LakeResource) -> None:
    assets = {asset.key.path[-1]: asset for asset in raw_tables(declared(tmp_path), CONTRACTS)}
    (tmp_path / "orders.csv").write_text("day,m\n2024-01-01,1\n")

    with pytest.raises(SourceError, match=r"missing \['n'\], unknown \['m'\]"):
        assets["orders"](context_of(date(2024, 1, 1)), lake=lake)
