import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.contracts.checking import Report, broken_row_rules, check_table
from ml_assets.contracts.table import SHAPE, Column, Relationship, TableContract
from tests.contracts.strategies import OTHERS, any_frame, broken_by_hand, contracts

ORDERS = TableContract(
    name="orders",
    columns=(
        Column("order_id", pl.String(), role="entity", is_nullable=False),
        Column("shop", pl.String(), role="feature", accepted_values=("a", "b")),
        Column("items", pl.Int64(), role="feature", is_nullable=False, minimum=1, maximum=9),
        Column("weight_kg", pl.Float64(), role="feature", minimum=0),
        Column("receipt", pl.Int64(), is_unique=True),
        Column("customer", pl.Int64(), relationship=Relationship("customers", "id")),
    ),
    key=("order_id",),
    where="models/orders.yml",
)
CUSTOMERS = {"customers": pl.DataFrame({"id": [1, 2, None]})}


def orders(count: int = 4) -> pl.DataFrame:
    """Return rows that keep the contract."""
    numbers = range(count)
    return pl.DataFrame(
        {
            "order_id": [f"o{n}" for n in numbers],
            "shop": [("a", "b", None)[n % 3] for n in numbers],
            "items": [1 + n % 9 for n in numbers],
            "weight_kg": [None if n % 4 == 3 else float(n) for n in numbers],
            "receipt": [*numbers],
            "customer": [(1, 2, None)[n % 3] for n in numbers],
        },
        schema=ORDERS.schema,
    )


def with_first(column: str, value: object, rows: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return rows, good ones if none are given, with another value in one cell."""
    rows = orders() if rows is None else rows
    cell = pl.lit(value, dtype=rows.schema[column])
    return rows.with_columns(pl.when(pl.int_range(pl.len()) == 0).then(cell).otherwise(column).alias(column))


def broken(rows: pl.DataFrame, contract: TableContract = ORDERS, **options: Any) -> dict[str, str]:
    """Return the broken rules with their sentences."""
    report = check_table(rows, contract, others=CUSTOMERS, **options)
    return {finding.rule.name: report.sentence(finding) for finding in report.broken}


def test_valid_rows_in_any_order_of_columns_and_an_empty_table_break_no_rule() -> None:
    assert {} == broken(orders()) == broken(orders(0)) == broken(orders().select(reversed(orders().columns)))


@pytest.mark.parametrize(
    ("rows", "rule", "sentence"),
    [
        (with_first("shop", "c"), "shop is one of a, b", "broken in 1 of 4 rows (25.00%), for instance by c"),
        (with_first("items", 0), "items is between 1 and 9", "broken in 1 of 4 rows (25.00%), for instance by 0"),
        (with_first("weight_kg", -0.5), "weight_kg is at least 0",
         "broken in 1 of 4 rows (25.00%), for instance by -0.5"),
        (with_first("items", None), "items is never missing", "broken in 1 of 4 rows (25.00%)"),
        (with_first("order_id", "o1"), "order_id is unique", "broken in 2 of 4 rows (50.00%), for instance by o1"),
        (with_first("receipt", 1), "receipt is unique", "broken in 2 of 4 rows (50.00%), for instance by 1"),
        (with_first("weight_kg", math.nan), "weight_kg is finite",
         "broken in 1 of 4 rows (25.00%), for instance by nan"),
        (with_first("customer", 7), "customer is the id of a row of customers",
         "broken in 1 of 4 rows (25.00%), for instance by 7"),
    ],
)  # fmt: skip
def test_each_broken_rule_is_reported_with_counts_and_an_example(rows: pl.DataFrame, rule: str, sentence: str) -> None:
    assert {rule: f"rule '{rule}' of table 'orders' is {sentence}; see models/orders.yml."} == broken(rows)


def test_all_broken_rules_are_reported_at_once() -> None:
    rows = orders().with_columns(
        order_id=pl.Series(["o1", "o1", None, "o3"]),
        shop=pl.lit("x"),
        items=pl.Series([0, 10, None, 1]),
        weight_kg=pl.lit(-1.0),
        receipt=pl.lit(7, dtype=pl.Int64),
        customer=pl.lit(7, dtype=pl.Int64),
    )  # fmt: skip

    found = broken(rows)

    assert {rule.name for rule in ORDERS.rules} - {SHAPE, "weight_kg is finite"} == {*found}


def test_missing_mistyped_and_unknown_columns_are_reported_together_and_the_rest_is_still_checked() -> None:
    rows = with_first("customer", 7).drop("shop").with_columns(pl.col("items").cast(pl.String), extra=pl.lit(1))

    found = broken(rows)

    assert [SHAPE, "customer is the id of a row of customers"] == [*found]
    assert [
        "column 'shop' of table 'orders' is missing; the contract requires String; see models/orders.yml.",
        "column 'items' of table 'orders' is String; the contract requires Int64; see models/orders.yml.",
        "table 'orders' has columns that are not in its contract: ['extra']; see models/orders.yml.",
    ] == found[SHAPE].split("\n")


def test_broken_rows_are_counted_by_partition_and_the_sentence_names_the_first_three() -> None:
    days = pl.Series([date(2024, 1, 1 + n // 2) for n in range(10)])
    rows = orders(10).with_columns(day=days, shop=pl.lit("x"))
    contract = replace(ORDERS, columns=(*ORDERS.columns, Column("day", pl.Date())))

    report = check_table(rows, contract, others=CUSTOMERS, partition="day")

    (finding,) = report.broken
    assert {f"2024-01-0{n}": 2 for n in range(1, 6)} == finding.partitions
    assert "10 of 10 rows (100.00%), on 2024-01-01, 2024-01-02, 2024-01-03 and 2 more, for" in report.sentence(finding)


def test_a_partition_need_not_be_a_column_of_the_contract() -> None:
    assert {} == broken(orders().with_columns(file=pl.lit("one")), partition="file")


def test_up_to_ten_broken_rows_are_shown_whole() -> None:
    rows = orders(30).with_columns(shop=pl.lit("x"))

    (finding,) = check_table(rows, ORDERS, others=CUSTOMERS).broken

    assert_frame_equal(rows.head(10), finding.samples)
    assert (30, 30, 1.0) == (finding.rows, finding.broken, finding.share)


def test_personal_values_are_counted_but_not_shown() -> None:
    shop = replace(ORDERS.column("shop"), is_pii=True)
    contract = replace(ORDERS, columns=tuple(shop if c.name == "shop" else c for c in ORDERS.columns))

    sentence = "rule 'shop is one of a, b' of table 'orders' is broken in 1 of 4 rows (25.00%); see models/orders.yml."
    assert {"shop is one of a, b": sentence} == broken(with_first("shop", "secret"), contract)


def test_a_broken_warning_rule_is_reported_but_the_table_passes() -> None:
    contract = replace(ORDERS, warnings=frozenset({"shop is one of a, b"}))
    rows = with_first("shop", "c")

    report = check_table(rows, contract)

    assert (("shop is one of a, b",), ()) == (tuple(f.rule.name for f in report.broken), report.blocking)


def test_a_relationship_to_a_table_that_is_not_given_is_not_checked() -> None:
    assert () == check_table(with_first("customer", 7), ORDERS).broken


def test_missing_values_are_not_doubled_but_two_rows_that_miss_a_part_of_their_key_are() -> None:
    contract = TableContract("t", (Column("x", pl.Int64()), Column("y", pl.Int64())), key=("x", "y"))
    rows = pl.DataFrame({"x": [None, None], "y": [1, 1]}, schema=contract.schema)

    assert ["x and y are unique together"] == [*broken(rows, contract)]
    assert {} == broken(rows.select("x"), replace(contract, columns=contract.columns[:1], key=("x",)))


def test_nan_and_infinity_are_neither_missing_nor_numbers() -> None:
    columns = (Column("x", pl.Float64(), minimum=0), Column("y", pl.Float32(), is_nullable=False, maximum=1))
    contract = TableContract("t", columns)
    rows = pl.DataFrame({"x": [math.nan, math.inf, None], "y": [-math.inf, math.nan, math.nan]}, schema=contract.schema)

    found = {finding.rule.name: finding.broken for finding in check_table(rows, contract).broken}

    assert {"x is finite": 2, "y is finite": 3, "y is at most 1": 2} == found  # NaN is above all numbers


def test_a_scan_of_many_columns_is_checked_like_the_frame_it_holds(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(9)]
    contract = TableContract(
        "t", tuple(Column(name, pl.Int64(), is_nullable=False, minimum=0) for name in names), key=("c0", "c1")
    )
    rows = pl.DataFrame({name: [n - 8, n, None, n] for n, name in enumerate(names)})
    rows.write_parquet(tmp_path / "rows.parquet")

    whole, scanned = check_table(rows, contract), check_table(pl.scan_parquet(tmp_path / "rows.parquet"), contract)

    assert findings(whole) == findings(scanned)
    assert 18 == len(whole.broken)


def findings(report: Report) -> list[tuple[str, int, int, dict[str, int], list[dict[str, Any]]]]:
    return [
        (f.rule.name, f.rows, f.broken, dict(f.partitions), f.samples.to_dicts()) for f in report.findings
    ]  # fmt: skip


@settings(max_examples=80)
@given(st.data())
def test_the_findings_are_those_of_a_count_by_hand(data: st.DataObject) -> None:
    contract = data.draw(contracts())
    rows = data.draw(any_frame(contract))

    report = check_table(rows, contract, others=OTHERS)

    assert broken_by_hand(rows, contract) == {f.rule.name: f.broken for f in report.broken}


@settings(max_examples=40)
@given(st.data())
def test_the_rules_named_for_each_row_are_those_that_are_counted(data: st.DataObject) -> None:
    contract = data.draw(contracts())
    rows = data.draw(any_frame(contract))

    named = rows.with_columns(names=broken_row_rules(contract, others=OTHERS))["names"]

    counted = {f.rule.name: f.broken for f in check_table(rows, contract, others=OTHERS).broken if f.rule.is_row_rule}
    assert counted == dict(named.explode().drop_nulls().value_counts().iter_rows())
    assert rows.height == named.len()


def test_warning_rules_quarantine_no_row() -> None:
    contract = replace(ORDERS, warnings=frozenset({"shop is one of a, b"}))
    rows = with_first("items", 0, with_first("shop", "c"))

    assert [["items is between 1 and 9"], [], [], []] == rows.select(broken_row_rules(contract)).to_series().to_list()


def test_a_contract_without_row_rules_names_none() -> None:
    contract = TableContract("t", (Column("x", pl.Int64()),), key=("x",))

    named = pl.DataFrame({"x": [1, 1]}).with_columns(names=broken_row_rules(contract))["names"]

    assert pl.Series("names", [[], []], dtype=pl.List(pl.String)).equals(named, check_dtypes=True)
