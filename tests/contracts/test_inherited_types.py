"""Types that columns have from the tables that their model reads."""

from typing import Any

import polars as pl

from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.inherited_types import with_inherited_types
from tests.contracts.test_from_dbt import column, customers, mistakes, model, project, source

CUSTOMERS, RAW = "model.shop.customers", "source.shop.raw.orders"


def reading(node: dict[str, Any], *parents: str) -> dict[str, Any]:
    return node | {"depends_on": {"nodes": list(parents)}}


def test_a_column_without_a_type_has_that_of_its_name_in_the_table_before_through_several_models() -> None:
    between = reading(customers(column("amount", None), column("day", "date")), RAW)
    last = reading(model(column("amount", None), column("day", None), column("share", "double")), CUSTOMERS)
    nodes = project(last, between, sources=(source(column("amount", "BIGINT")),))

    found = contracts_from_dbt(with_inherited_types(nodes))

    assert {"amount": pl.Int64(), "day": pl.Date(), "share": pl.Float64()} == {
        it.name: it.dtype for it in found["orders"].columns
    }
    assert None is nodes["nodes"][CUSTOMERS]["columns"]["amount"]["data_type"]


def test_a_declared_type_counts_more_than_that_of_the_table_before() -> None:
    nodes = project(reading(model(column("amount", "double")), RAW), sources=(source(column("amount", "bigint")),))

    assert pl.Float64() == contracts_from_dbt(with_inherited_types(nodes))["orders"].column("amount").dtype


def test_parents_that_disagree_and_names_that_no_parent_has_are_errors() -> None:
    orders = reading(model(column("amount", None), column("total", None)), CUSTOMERS, RAW)
    typed = with_inherited_types(
        project(orders, customers(column("amount", "double")), sources=(source(column("amount", "bigint")),))
    )

    first, second = mistakes(*typed["nodes"].values(), sources=(*typed["sources"].values(),))

    assert first.startswith(
        "column 'amount' of table 'orders' has no data_type, and it is double in 'customers' and bigint in "
        "'raw/orders'; expected one of bigint, "
    )
    assert (
        "'total' of table 'orders' has no data_type, and no table that the model reads has a column of this" in second
    )
