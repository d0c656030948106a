from dataclasses import fields, replace
from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import given, settings

from ml_assets.contracts.changes import What, compare_contracts
from ml_assets.contracts.table import Column, Relationship, TableContract
from tests.contracts.strategies import contracts

SHOP = Column("shop", pl.String(), "Where.", "feature", is_nullable=False, accepted_values=("a", "b"), unit="code")
ITEMS = Column("items", pl.Int64(), "How many.", "feature", minimum=0, maximum=9)
ORDERS = TableContract("orders", (SHOP, ITEMS), key=("shop",))


def changed(**to: Any) -> TableContract:
    """Return the contract with one column declared differently."""
    column = SHOP if {"accepted_values", "is_nullable", "unit"} & {*to} else ITEMS
    return replace(ORDERS, columns=tuple(replace(c, **to) if c is column else c for c in ORDERS.columns))


def reported(then: TableContract, now: TableContract) -> list[tuple[str, bool, str]]:
    return [(change.what, change.is_compatible, change.sentence) for change in compare_contracts(then, now)]


ITS, SHOPS = "column 'items' of table 'orders' ", "column 'shop' of table 'orders' "
CASES: list[tuple[TableContract, str, bool, str]] = [
    (replace(ORDERS, columns=(SHOP,)), "dropped", False, ITS + "no longer exists; the model reads it."),
    (replace(ORDERS, columns=(SHOP, ITEMS, Column("note", pl.String()))), "new", True,
     "column 'note' of table 'orders' is new; the model does not read it."),
    (changed(dtype=pl.Float64()), "type", False, ITS + "was Int64 and is now Float64."),
    (changed(role="context"), "role", False,
     ITS + "had the role feature and has now the role context."),
    (changed(is_categorical=True), "categorical", False,
     ITS + "is now read as categories; it was read as numbers."),
    (changed(unit=None), "unit", False, SHOPS + "was in code and is now in no unit."),
    (changed(is_nullable=True), "nullable", False, SHOPS + "was never missing and can now be missing."),
    (changed(accepted_values=("a",)), "accepted_values", False,
     SHOPS + "may no longer be b, which the model knows."),
    (changed(accepted_values=("a", "b", "c")), "accepted_values", True,
     SHOPS + "may now also be c, which the model does not know."),
    (changed(accepted_values=None), "accepted_values", True,
     SHOPS + "was one of a, b and may now have any value."),
    (changed(minimum=1), "range", False, ITS + "was between 0 and 9 and is now between 1 and 9."),
    (changed(maximum=5), "range", False, ITS + "was between 0 and 9 and is now between 0 and 5."),
    (changed(minimum=-1, maximum=8), "range", False,
     ITS + "was between 0 and 9 and is now between -1 and 8."),
    (changed(maximum=99), "range", True, ITS + "was between 0 and 9 and is now between 0 and 99."),
    (changed(maximum=None), "range", True, ITS + "was between 0 and 9 and is now at least 0."),
    (changed(relationship=Relationship("counts", "n")), "relationship", True,
     ITS + "had to be anything and has now to be the n of a row of counts."),
    (replace(ORDERS, key=("shop", "items")), "key", False,
     "a row of table 'orders' was identified by shop and is now identified by shop, items."),
]  # fmt: skip


@pytest.mark.parametrize(("now", "what", "is_compatible", "sentence"), CASES)
def test_a_change_is_reported_with_its_meaning(
    *, now: TableContract, what: str, is_compatible: bool, sentence: str
) -> None:
    assert [(what, is_compatible, sentence)] == reported(ORDERS, now)


NUMBERS = [pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt32(), pl.Float32(), pl.Float64()]


@pytest.mark.parametrize("then", NUMBERS)
@pytest.mark.parametrize("now", NUMBERS)
def test_a_type_that_holds_every_value_exactly_is_compatible(then: pl.DataType, now: pl.DataType) -> None:
    """Expected is worked out from the extreme values themselves, and from a fraction for floating types."""
    extremes = [0.1] if then.is_float() else [pl.select(end).item() for end in (then.min(), then.max() - 1)]  # type: ignore[attr-defined]
    column = pl.Series(extremes, dtype=then)
    there = column.cast(now, strict=False)
    expected = bool(there.cast(then, strict=False).eq_missing(column).all())

    found = compare_contracts(*(TableContract("t", (Column("x", dtype),)) for dtype in (then, now)))

    assert [(change.what, change.is_compatible) for change in found] == ([("type", expected)] if then != now else [])


def test_integer_categories_are_compatible_with_wider_integers_and_not_with_fractions() -> None:
    def change_to(dtype: pl.DataType) -> bool:
        then, now = (TableContract("t", (Column("x", it, is_categorical=True),)) for it in (pl.Int32(), dtype))
        return compare_contracts(then, now)[0].is_compatible

    assert change_to(pl.Int64())
    assert not change_to(pl.Float64())


@pytest.mark.parametrize(
    ("then", "what", "is_compatible"),
    [
        (changed(is_nullable=True), "nullable", True),
        (changed(accepted_values=None), "accepted_values", False),
        (changed(minimum=None, maximum=None), "range", False),
        (changed(role="context"), "role", True),
    ],
)
def test_the_other_way_round_it_may_mean_something_else(*, then: TableContract, what: str, is_compatible: bool) -> None:
    assert [(what, is_compatible)] == [
        (change.what, change.is_compatible) for change in compare_contracts(then, ORDERS)
    ]


def test_every_sort_of_change_is_tried_above() -> None:
    assert {*get_args(What)} == {what for _, what, _, _ in CASES}


def test_a_value_lost_and_another_new_are_two_changes() -> None:
    assert [False, True] == [
        change.is_compatible for change in compare_contracts(ORDERS, changed(accepted_values=("a", "c")))
    ]


def test_the_order_of_columns_and_of_accepted_values_is_no_change() -> None:
    assert () == compare_contracts(ORDERS, replace(changed(accepted_values=("b", "a")), columns=ORDERS.columns[::-1]))


def test_all_changes_are_reported_at_once_in_the_order_of_the_columns() -> None:
    now = replace(ORDERS, columns=(Column("note", pl.String()), replace(ITEMS, dtype=pl.Int32(), unit="pieces")))

    assert [("shop", "dropped"), ("items", "type"), ("items", "unit"), ("note", "new")] == [
        (change.column, change.what) for change in compare_contracts(ORDERS, now)
    ]


WITHOUT_MEANING = {
    Column: {
        "name": "columns are compared by it", "description": "only people read it", "is_pii": "only people heed it",
        "is_unique": "the key is compared as a whole; else it is about the table",
        "known_time": "of raw tables, which no model reads", "expression": "of raw tables, which no model reads",
        "is_nan_missing": "of raw tables, which no model reads",
    },
    TableContract: {
        "name": "the table is the one declared", "description": "only people read it", "owner": "only people heed it",
        "unique_together": "about the table", "warnings": "what a broken rule leads to", "where": "a place in a file",
        "known_time": "of raw tables", "is_by_day": "how it is kept",
    },
}  # fmt: skip


def test_every_field_of_a_contract_is_compared_or_excluded_for_a_reason() -> None:
    compared = {"dtype", "role", "is_categorical", "unit", "is_nullable", "accepted_values", "minimum", "maximum",
                "relationship", "columns", "key"}  # fmt: skip

    for part, reasons in WITHOUT_MEANING.items():
        assert {it.name for it in fields(part) if it.compare} - compared == {*reasons}


@settings(max_examples=20)
@given(contracts())
def test_a_contract_has_not_changed_from_itself(contract: TableContract) -> None:
    assert () == compare_contracts(contract, contract)


@settings(max_examples=20)
@given(contracts(), contracts())
def test_contracts_without_changes_have_none_in_the_other_direction(one: TableContract, other: TableContract) -> None:
    assert bool(compare_contracts(one, other)) == bool(compare_contracts(other, one))
