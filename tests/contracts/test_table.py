from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import Column, TableContract, broken_rules, check, rule_names, shape_mistakes

ORDERS = TableContract(
    name="orders",
    columns=(
        Column("order_id", pl.String(), role="entity", is_nullable=False),
        Column("shop", pl.String(), role="feature", accepted_values=("a", "b")),
        Column("items", pl.Int64(), role="feature", is_nullable=False, minimum=1, maximum=9),
        Column("weight_kg", pl.Float64(), role="feature", minimum=0),
        Column("receipt", pl.Int64(), is_unique=True),
    ),
    key=("order_id",),
    where="models/orders.yml",
)


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
        },
        schema=ORDERS.schema,
    )


def with_first(column: str, value: object) -> pl.DataFrame:
    """Return good rows but for one cell."""
    rows = orders()
    return rows.with_columns(
        pl.when(pl.int_range(pl.len()) == 0)
        .then(pl.lit(value, dtype=rows.schema[column]))
        .otherwise(column)
        .alias(column)
    )


def test_rows_that_keep_the_contract_come_back_as_they_are() -> None:
    assert {} == broken_rules(orders(), ORDERS)
    assert_frame_equal(orders(), check(orders(), ORDERS))


def test_an_empty_table_keeps_its_contract() -> None:
    assert {} == broken_rules(orders(0), ORDERS)


def test_the_order_of_columns_does_not_matter() -> None:
    assert {} == broken_rules(orders().select(reversed(orders().columns)), ORDERS)


@pytest.mark.parametrize(
    ("rows", "rule", "sentence"),
    [
        (with_first("shop", "c"), "shop is one of a, b",
         ("rule 'shop is one of a, b' of table 'orders' is broken in 1 of 4 rows, for instance by c; "
         "see models/orders.yml.")),
        (with_first("items", 0), "items is at least 1",
         ("rule 'items is at least 1' of table 'orders' is broken in 1 of 4 rows, for instance by 0; "
         "see models/orders.yml.")),
        (with_first("items", 10), "items is at most 9",
         ("rule 'items is at most 9' of table 'orders' is broken in 1 of 4 rows, for instance by 10; "
         "see models/orders.yml.")),
        (with_first("weight_kg", -0.5), "weight_kg is at least 0",
         ("rule 'weight_kg is at least 0' of table 'orders' is broken in 1 of 4 rows, for instance by -0.5; "
         "see models/orders.yml.")),
        (with_first("items", None), "items is never missing",
         "column 'items' of table 'orders' is missing in 1 of 4 rows; see models/orders.yml."),
        (with_first("order_id", "o1"), "order_id is unique",
         "2 of 4 rows of table 'orders' share their order_id, for instance ('o1',); see models/orders.yml."),
        (with_first("receipt", 1), "receipt is unique",
         "2 of 4 rows of table 'orders' share their receipt, for instance (1,); see models/orders.yml."),
    ],
)  # fmt: skip
def test_each_broken_rule_is_told_with_counts_and_an_example(rows: pl.DataFrame, rule: str, sentence: str) -> None:
    assert {rule: sentence} == broken_rules(rows, ORDERS)


def test_all_broken_rules_are_told_at_once() -> None:
    rows = orders().with_columns(
        order_id=pl.Series(["o1", "o1", None, "o3"]),
        shop=pl.lit("x"),
        items=pl.Series([0, 10, None, 1]),
        weight_kg=pl.lit(-1.0),
        receipt=pl.lit(7, dtype=pl.Int64),
    )  # fmt: skip
    expected = {
        "order_id is unique", "order_id is never missing", "shop is one of a, b", "items is never missing",
        "items is at least 1", "items is at most 9", "weight_kg is at least 0", "receipt is unique",
    }  # fmt: skip

    broken = broken_rules(rows, ORDERS)

    assert expected == {*broken}
    with pytest.raises(ContractError) as caught:
        check(rows, ORDERS)
    assert sorted(broken.values()) == sorted(str(caught.value).split("\n"))


def test_every_rule_that_can_break_has_a_name_beforehand() -> None:
    assert (
        "columns are as in the contract", "order_id is unique", "order_id is never missing", "shop is one of a, b",
        "items is never missing", "items is at least 1", "items is at most 9", "weight_kg is at least 0",
        "receipt is unique",
    ) == rule_names(ORDERS)  # fmt: skip


def test_missing_columns_wrong_types_and_strangers_are_told_together() -> None:
    rows = orders().drop("shop").with_columns(pl.col("items").cast(pl.String), extra=pl.lit(1))

    assert [
        "column 'shop' of table 'orders' is missing; the contract wants String; see models/orders.yml.",
        "column 'items' of table 'orders' is String; the contract wants Int64; see models/orders.yml.",
        "table 'orders' has columns that its contract does not know: ['extra']; see models/orders.yml.",
    ] == shape_mistakes(rows.schema, ORDERS)
    assert ["columns are as in the contract"] == [*broken_rules(rows, ORDERS)]


def test_a_key_of_several_columns_is_unique_as_a_whole() -> None:
    contract = TableContract("sales", (Column("day", pl.Int64()), Column("shop", pl.String())), key=("day", "shop"))
    good = pl.DataFrame({"day": [1, 1, 2], "shop": ["a", "b", "a"]})

    assert {} == broken_rules(good, contract)
    assert {
        "day and shop are unique": "2 of 4 rows of table 'sales' share their day, shop, for instance (2, 'a')."
    } == broken_rules(pl.concat([good, good.tail(1)]), contract)


def one(**rules: object) -> TableContract:
    return TableContract("t", (Column("x", pl.Int64(), **rules),))  # type: ignore[arg-type]


VALUES = st.lists(st.one_of(st.none(), st.integers(-50, 50)), max_size=12)


def rows_of(values: list[int | None]) -> pl.DataFrame:
    return pl.DataFrame({"x": values}, schema={"x": pl.Int64})


@given(VALUES, st.integers(-50, 50), st.integers(-50, 50))
def test_a_range_is_broken_by_exactly_the_values_outside_it(values: list[int | None], low: int, high: int) -> None:
    broken = broken_rules(rows_of(values), one(minimum=low, maximum=high))
    there = [value for value in values if value is not None]

    assert any(value < low for value in there) == (f"x is at least {low}" in broken)
    assert any(value > high for value in there) == (f"x is at most {high}" in broken)
    count = sum(value < low for value in there)
    assert count == 0 or f"broken in {count} of {len(values)} rows" in broken[f"x is at least {low}"]


@given(VALUES)
def test_uniqueness_is_broken_by_exactly_the_doubled_values(values: list[int | None]) -> None:
    broken = broken_rules(rows_of(values), one(is_unique=True))
    there = [value for value in values if value is not None]

    assert (len(set(there)) < len(there)) == bool(broken)


def test_missing_values_are_not_doubled_but_two_rows_without_a_key_are() -> None:
    nothing = rows_of([None, None])

    assert {} == broken_rules(nothing, one(is_unique=True))
    keyed = TableContract("t", one().columns, key=("x",))
    assert ["x is unique"] == [*broken_rules(nothing, keyed)]


@given(VALUES)
def test_missing_values_are_counted(values: list[int | None]) -> None:
    broken = broken_rules(rows_of(values), one(is_nullable=False))
    count = sum(value is None for value in values)

    assert (count > 0) == bool(broken)
    assert count == 0 or f"missing in {count} of {len(values)} rows" in broken["x is never missing"]


@given(st.lists(st.sampled_from(["a", "b", "c", "", None]), max_size=8))
def test_accepted_values_are_broken_by_exactly_the_others(values: list[str | None]) -> None:
    contract = TableContract("t", (Column("x", pl.String(), accepted_values=("a", "b")),))
    broken = broken_rules(pl.DataFrame({"x": values}, schema={"x": pl.String}), contract)

    assert any(value in {"c", ""} for value in values) == bool(broken)


def test_a_contract_can_be_narrowed_to_some_columns_in_another_order() -> None:
    narrow = ORDERS.only(["items", "shop"])

    assert ("items", "shop") == narrow.names
    assert () == narrow.key
    assert ("order_id",) == ORDERS.only(["shop", "order_id"]).key
    assert {} == broken_rules(orders().select("items", "shop"), narrow)


@pytest.mark.parametrize("ask", [lambda c: c.column("shpo"), lambda c: c.only(["shpo"])])
def test_a_column_that_the_contract_does_not_have_is_named(ask: Callable[[TableContract], object]) -> None:
    with pytest.raises(
        ContractError, match=r"the contract of table 'orders' \(models/orders\.yml\) has no column 'shpo'"
    ):
        ask(ORDERS)


def test_columns_are_found_by_their_role() -> None:
    assert ["shop", "items", "weight_kg"] == [column.name for column in ORDERS.with_role("feature")]
