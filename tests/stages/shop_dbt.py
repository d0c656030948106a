"""A shop's orders as a dbt project of three tables, small enough that every run of dbt takes seconds.

Expectations stay out; they stand in the tests.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.declaration.tables import TablesDeclaration
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.stages.tables import tables
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest
from ml_assets.warehouse.warehouse import Warehouse
from tests.builders import put
from tests.flights import DBT_PROJECT

FIRST, SECOND = "2024-01-01", "2024-01-02"
FILES = {
    "models/_sources.yml": """
sources:
  - name: raw
    schema: raw
    tables:
      - name: orders
        config: {meta: {partitioned: day, known_time: cast(day as timestamp)}}
        columns:
          - {name: day, data_type: date}
          - {name: order_id, data_type: bigint}
          - {name: shop, data_type: varchar}
          - {name: amount, data_type: double}
      - name: shops
        config: {meta: {known_time: always}}
        columns:
          - {name: shop, data_type: varchar}
""",
    "models/_models.yml": """
models:
  - name: shops
    config: {materialized: whole, meta: {key: [shop]}}
    columns:
      - {name: shop, data_type: varchar, data_tests: [not_null, unique]}
  - name: orders
    config: {meta: {key: [order_id]}}
    columns:
      - {name: day, data_type: date, constraints: [{type: not_null}]}
      - name: order_id
        data_type: bigint
        data_tests:
          - unique
          - ml_assets.in_range: {arguments: {maximum: 100}, config: {severity: warn}}
      - name: shop
        data_type: varchar
        data_tests:
          - relationships: {arguments: {to: ref('shops'), field: shop}}
      - name: amount
        data_type: double
        constraints: [{type: not_null}]
        data_tests:
          - ml_assets.in_range: {arguments: {minimum: 0}}
  - name: totals
    config: {meta: {key: [day]}}
    columns:
      - {name: day, data_type: date}
      - {name: orders, data_type: bigint}
""",
    "models/shops.sql": "select shop from {{ source('raw', 'shops') }}",
    "models/orders.sql": """
select orders.day, order_id, orders.shop, amount
from {{ source('raw', 'orders') }} as orders
left join {{ ref('shops') }} as shops on orders.shop = shops.shop
where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}
""",
    "models/totals.sql": """
select day, count(*) as orders from {{ ref('orders') }}
where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }} group by day
""",
    "tests/no_order_is_number_thirteen.sql": "select * from {{ ref('orders') }} where order_id = 13",
}


def dbt_project(folder: Path, files: Mapping[str, str] = FILES) -> Path:
    """Write the shop's dbt project, and parse it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(DBT_PROJECT / name, folder)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    prepare_manifest(folder)
    return folder


def orders(*rows: tuple[int, str | None, float | None], day: str = FIRST) -> pl.DataFrame:
    """Return a day's orders from number, shop and amount."""
    return pl.DataFrame(
        {
            "day": [date.fromisoformat(day)] * len(rows),
            "order_id": [row[0] for row in rows],
            "shop": [row[1] for row in rows],
            "amount": [row[2] for row in rows],
        },
        schema={"day": pl.Date, "order_id": pl.Int64, "shop": pl.String, "amount": pl.Float64},
    )


@dataclass(frozen=True)
class Shop:
    """The shop's tables over a lake."""

    project: Path
    lake: Lake
    instance: dg.DagsterInstance

    def land(self, **days: pl.DataFrame) -> None:
        """Put raw orders into the lake, by the names of the first and second day."""
        for name, rows in days.items():
            put(self.lake, rows, asset="raw/orders", partition={"first": FIRST, "second": SECOND}[name])

    def build(
        self, *assets: str, quarantine: Mapping[str, float] | None = None, last: str = SECOND
    ) -> dg.ExecuteInProcessResult:
        """Build orders and totals, or what is named, from the first day to the last."""
        manifest = read_manifest(self.project)
        declared = TablesDeclaration.model_validate(
            {"days": {"first": FIRST, "last": "2024-01-31"}, "quarantine": quarantine or {}}
        )
        lake = LakeResource(url=self.lake.url)
        aside = [f"{name}__quarantine" for name in declared.quarantine]
        return dg.materialize(
            tables(declared, manifest, read_contracts(manifest, self.project)),
            selection=[dg.AssetKey(["tables", name]) for name in assets or ("orders", "totals", *aside)],
            instance=self.instance,
            resources={
                "ml_assets_lake": lake,
                "ml_assets_warehouse": Warehouse(lake=lake, project_dir=str(self.project)),
                "ml_assets_io_manager": LakeIOManager(lake=lake),
            },
            tags={"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": last},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def rows(self, table: str, day: str | None = FIRST) -> Sequence[tuple[Any, ...]]:
        """Return what a reader of the lake sees, without the day."""
        found: pl.DataFrame = self.lake.get(self.lake.find(f"tables/{table}", day), pl.DataFrame)
        return found.drop("day", strict=False).rows()
