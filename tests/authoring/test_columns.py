"""Names and uses of the columns of a new table."""

from datetime import datetime

import polars as pl
import pytest

from ml_assets.authoring.columns import new_columns, safe_names
from ml_assets.logic.inspection.candidates import LeakFinding
from ml_assets.logic.inspection.choices import Given
from ml_assets.logic.inspection.roles import infer_roles
from ml_assets.warehouse.duckdb_session import connect
from tests.logic.inspection.tables import orders

NOW = datetime(2025, 1, 1)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("amount", "amount"),
        ("Order ID", "order_id"),
        ("customerSegment", "customer_segment"),
        ("größe № 1", "grosse_no_1"),
        ("2nd class", "c_2nd_class"),
        ("价格", "jie_ge"),
        ("%", "field"),
        ("day", "day_value"),
        ("score", "score_value"),
        ("select", "select_value"),
    ],
)
def test_a_name_becomes_one_that_needs_no_quotes(column: str, name: str) -> None:
    assert {column: name} == safe_names([column])


def test_names_that_become_the_same_are_numbered() -> None:
    assert {"a b": "a_b", "a-b": "a_b_2", "A_B": "a_b_3"} == safe_names(["a b", "a-b", "A_B"])


def test_no_name_is_a_keyword_of_the_database() -> None:
    with connect() as connection:
        words = [word for (word,) in connection.execute("select keyword_name from duckdb_keywords()").fetchall()]
        for name in safe_names(words).values():
            asked = f'select {name}\nfrom (select 1 as "{name}") where {name} between 0 and 2'
            assert (1,) == connection.execute(asked).fetchone()


def test_each_column_has_a_use_and_those_that_are_left_out_a_reason() -> None:
    rows = orders().with_columns(
        flag=pl.lit("x"),
        empty=pl.lit(None, pl.String),
        note=pl.col("order_id").cast(pl.String) + " is one of many orders",
    )
    leak = LeakFinding("amount", "golden feature", 0.99, "explains 99 % alone.")

    found = new_columns(rows, "returned", infer_roles(rows, "returned", Given(), now=NOW), [leak])

    assert {
        "at": ("time", ""), "order_id": ("key", ""), "customer": ("group", ""), "tier": ("feature", ""),
        "amount": ("left out", "golden feature: explains 99 % alone."), "returned": ("target", ""),
        "flag": ("left out", "it has one value"), "empty": ("left out", "it has no value"),
        "note": ("left out", "it is free text, which is not supported"),
    } == {it.source: (it.use, it.why) for it in found}  # fmt: skip


def test_whole_numbers_that_are_codes_are_categories() -> None:
    rows = orders().with_columns(shop=pl.col("order_id") % 300)

    found = new_columns(rows, "returned", infer_roles(rows, "returned", Given(), now=NOW), (), ["shop"])

    assert {"shop", "tier"} == {it.source for it in found if it.is_categorical}


def test_a_part_of_the_key_of_a_table_without_a_time_is_a_feature_unless_it_is_the_group() -> None:
    marks = pl.DataFrame(
        [{"pupil": n // 4, "subject": "ABCD"[n % 4], "mark": (n * 7 + n % 4) % 31 / 2} for n in range(400)]
    )

    found = new_columns(marks, "mark", infer_roles(marks, "mark", Given(key=("pupil", "subject")), now=NOW), ())
    grouped = new_columns(marks, "mark", infer_roles(marks, "mark", Given(group="pupil"), now=NOW), ())

    assert ["pupil", "subject"] == [it.source for it in found if it.is_repeated]
    assert ["subject"] == [it.source for it in grouped if it.is_repeated]
