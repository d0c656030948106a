"""Columns whose names SQL must quote, through dbt's contracts, constraints, tests and quarantine."""

from datetime import date
from pathlib import Path

import polars as pl

from ml_assets.lake.store import Lake
from tests.builders import failure
from tests.event_logs import ephemeral_instance
from tests.stages.shop_dbt import FIRST, SECOND, Shop, dbt_project

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
          - {name: weight kg, data_type: double}
          - {name: weight_kg, data_type: double}
          - {name: 'size XL, grösse [cm]', data_type: bigint}
""",
    "models/_models.yml": """
models:
  - name: orders
    config: {meta: {key: [weight kg, weight_kg]}}
    data_tests:
      - ml_assets.unique_combination: {arguments: {columns: [weight kg, 'size XL, grösse [cm]']}}
    columns:
      - {name: day, data_type: date, constraints: [{type: not_null}]}
      - name: weight kg
        quote: true
        data_type: double
        constraints: [{type: not_null}]
        data_tests:
          - ml_assets.in_range: {arguments: {minimum: 0}}
      - {name: weight_kg, data_type: double, data_tests: [unique]}
      - name: 'size XL, grösse [cm]'
        quote: true
        data_type: bigint
        data_tests:
          - not_null
          - accepted_values: {arguments: {values: [1, 2, 3], quote: false}}
""",
    "models/orders.sql": """
select day, "weight kg", weight_kg, "size XL, grösse [cm]"
from {{ source('raw', 'orders') }}
where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}
""",
}
SIZE = "size XL, grösse [cm]"


def rows(*values: tuple[float, float, int], day: str = FIRST) -> pl.DataFrame:
    return pl.DataFrame(
        [(date.fromisoformat(day), *each) for each in values],
        schema={"day": pl.Date, "weight kg": pl.Float64, "weight_kg": pl.Float64, SIZE: pl.Int64},
        orient="row",
    )


def test_columns_with_any_name_are_built_tested_and_quarantined(tmp_path: Path) -> None:
    with ephemeral_instance() as instance:
        shop = Shop(dbt_project(tmp_path / "dbt", FILES), Lake(str(tmp_path / "lake")), instance)
        shop.land(first=rows((1.0, 0.5, 1), (2.0, 1.5, 2)), second=rows(day=SECOND))
        built = shop.build("orders")
        shop.land(first=rows((-1.0, 0.5, 1), (2.0, 1.5, 9)))
        refused = shop.build("orders")
        aside = shop.build("orders", "orders__quarantine", quarantine={"orders": 1.0})
        checks = {check.check_name: check.passed for check in built.get_asset_check_evaluations()}

    assert built.success
    assert 11 == len(checks), "«weight kg is finite» and «weight_kg is finite» are two of them"
    assert all(checks.values())
    message = failure(refused)[1]
    assert "rule 'weight kg is at least 0' of table 'orders' is broken in 1 of 2 rows (50.00%)" in message
    assert (
        "rule 'size XL, grösse [cm] is one of 1, 2, 3' of table 'orders' is broken in 1 of 2 rows (50.00%)" in message
    )
    assert aside.success
    assert [["weight kg is at least 0"], ["size XL, grösse [cm] is one of 1, 2, 3"]] == [
        row[-1] for row in shop.rows("orders__quarantine")
    ]
