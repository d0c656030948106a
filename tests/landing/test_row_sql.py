"""Expressions that cannot be evaluated: what the error shows, and what it does not."""

import polars as pl
import pytest

from ml_assets.lake.errors import WarehouseError
from ml_assets.landing.row_sql import with_columns

ROWS = pl.DataFrame({"name": ["Jane Roe"], "n": [1]})


def test_an_expression_over_a_wrong_value_or_column_is_refused_with_the_reason() -> None:
    with pytest.raises(WarehouseError, match=r"shops: an expression cannot be evaluated: .*'Jane Roe' to INT32"):
        with_columns(ROWS, {"id": "cast(name as integer)"}, where="shops")
    with pytest.raises(WarehouseError, match='Referenced column "nmae" not found'):
        with_columns(ROWS, {"id": "nmae"}, where="shops", personal=["name"])


def test_the_first_row_with_a_wrong_value_is_named_with_the_values_that_the_expression_uses() -> None:
    rows = pl.DataFrame({"n": range(1000), "day": ["2024-01-31"] * 700 + ["2024-02-30"] + ["2024-01-31"] * 299})

    with pytest.raises(WarehouseError, match=r", in row 701 \(day=2024-02-30\)\. Expected SQL"):
        with_columns(rows, {"on": 'cast("day" as date)'}, where="shops")
    with pytest.raises(WarehouseError, match=r"over the values of a row, in row 701 \(n=700, day=\(personal\)\)\."):
        with_columns(rows, {"on": "cast(DAY as date) + cast(n as int)"}, where="shops", personal=["day"])


@pytest.mark.parametrize("sql", ["cast(name as integer)", "strptime(name, '%Y')", "error(name)", "cast(name as date)"])
def test_no_message_repeats_a_value_where_a_column_is_personal(sql: str) -> None:
    with pytest.raises(WarehouseError, match=r"cannot be evaluated: .*Exception over the values of a row") as caught:
        with_columns(ROWS, {"id": sql}, where="shops", personal=["name"])

    assert "Jane" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_expression_that_gives_more_or_fewer_values_than_rows_is_refused() -> None:
    with pytest.raises(WarehouseError, match=r"shops: an expression gives 2 values for 1 rows"):
        with_columns(ROWS, {"id": "unnest([1, 2])"}, where="shops")
