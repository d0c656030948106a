import dagster as dg
import polars as pl

from ml_assets.contracts.table import Column, Relationship, TableContract
from ml_assets.stages.asset import column_schema

ORDERS = TableContract(
    "orders",
    (
        Column("order_id", pl.String(), "Which.", "entity", is_nullable=False, is_pii=True),
        Column("shop", pl.String(), role="feature", is_categorical=True, accepted_values=("a", "b")),
        Column("weight", pl.Float64(), role="feature", unit="kg", minimum=0),
        Column("customer", pl.Int64(), is_unique=True, relationship=Relationship("customers", "id")),
        Column("paid_at", pl.Datetime("us")),
    ),
    key=("order_id",),
    unique_together=(("shop", "paid_at"),),
)


def test_the_catalog_shows_every_field_of_a_columns_contract() -> None:
    columns = {column.name: column for column in column_schema(ORDERS).columns}

    assert dg.TableColumn(
        "order_id", "String", "Which.", dg.TableColumnConstraints(nullable=False, unique=True),
        tags={"role": "entity", "pii": ""},
    ) == columns["order_id"]  # fmt: skip
    assert {"role": "feature", "categorical": ""} == columns["shop"].tags
    assert {"role": "feature", "unit": "kg"} == columns["weight"].tags
    assert ("Datetime", {}) == (columns["paid_at"].type, columns["paid_at"].tags)


def test_rules_are_shown_at_their_column_or_table() -> None:
    schema = column_schema(ORDERS)

    assert {
        "order_id": [],
        "shop": ["shop is one of a, b"],
        "weight": ["weight is finite", "weight is at least 0"],
        "customer": ["customer is the id of a row of customers"],
        "paid_at": [],
    } == {column.name: column.constraints.other for column in schema.columns}
    assert ["shop and paid_at are unique together"] == schema.constraints.other
    assert [True, False, False, True, False] == [column.constraints.unique for column in schema.columns]
