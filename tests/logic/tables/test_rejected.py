import polars as pl

from ml_assets.contracts.checking import check_table
from ml_assets.contracts.table import Column, TableContract
from ml_assets.logic.tables.rejected import rejected_rows

ORDERS = TableContract(
    "orders",
    (
        Column("id", pl.Int64(), is_nullable=False),
        Column("shop", pl.String(), accepted_values=("a", "b")),
        Column("items", pl.Int64(), minimum=0),
    ),
    key=("id",),
    unique_together=(("shop", "items"),),
)


def broken(rows: pl.DataFrame) -> list[list[str]]:
    return rejected_rows(rows, check_table(rows, ORDERS))["broken_rules"].to_list()


def test_each_row_names_the_rules_it_breaks_itself() -> None:
    rows = pl.DataFrame({"id": [1, 2, None], "shop": ["a", "x", "x"], "items": [1, -1, 0]})

    assert [
        [],
        ["shop is one of a, b", "items is at least 0"],
        ["id is never missing", "shop is one of a, b"],
    ] == broken(rows)


def test_duplicate_rows_name_the_uniqueness_rule_and_missing_keys_do_not() -> None:
    rows = pl.DataFrame({"id": [1, 1, None, None], "shop": ["a", "b", "b", "b"], "items": [1, 1, 2, 2]})
    together = "shop and items are unique together"

    assert [
        ["id is unique"],
        ["id is unique"],
        ["id is never missing", together],
        ["id is never missing", together],
    ] == broken(rows)


def test_wrong_columns_are_broken_by_every_row_and_other_rules_are_still_checked() -> None:
    rows = pl.DataFrame({"id": [1, 2], "shop": ["x", "a"], "items": ["1", "2"]})

    assert [["shop is one of a, b", "columns are as in the contract"], ["columns are as in the contract"]] == broken(
        rows
    )


def test_rows_without_a_broken_rule_have_an_empty_list() -> None:
    rows = pl.DataFrame({"id": [1], "shop": ["a"], "items": [1]})

    assert [[]] == broken(rows)
    assert pl.List(pl.String) == rejected_rows(rows, check_table(rows, ORDERS)).schema["broken_rules"]
