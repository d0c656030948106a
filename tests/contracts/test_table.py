from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import SHAPE, Column, Relationship, TableContract, bounds
from tests.contracts.strategies import contracts

ORDERS = TableContract(
    name="orders",
    columns=(
        Column("order_id", pl.String(), role="entity", is_nullable=False, is_unique=True),
        Column("shop", pl.String(), role="feature", accepted_values=("a", "b")),
        Column("items", pl.Int64(), role="feature", is_nullable=False, minimum=1, maximum=9),
        Column("weight_kg", pl.Float64(), role="feature", minimum=0.5),
        Column("receipt", pl.Int64(), is_unique=True),
        Column("customer", pl.Int64(), relationship=Relationship("customers", "id")),
    ),
    key=("order_id",),
    unique_together=(("shop", "receipt"), ("shop", "items", "customer")),
    warnings=frozenset({"shop is one of a, b"}),
    where="models/orders.yml",
)


def test_rules_are_sentences_in_the_order_of_the_contract() -> None:
    assert [
        "columns are as in the contract",
        "order_id is unique",
        "shop and receipt are unique together",
        "shop, items and customer are unique together",
        "order_id is never missing",
        "shop is one of a, b",
        "items is never missing",
        "items is between 1 and 9",
        "weight_kg is finite",
        "weight_kg is at least 0.5",
        "receipt is unique",
        "customer is the id of a row of customers",
    ] == [rule.name for rule in ORDERS.rules]


def test_rules_about_single_rows_and_warnings_are_distinguished() -> None:
    assert {"columns", "unique"} == {rule.kind for rule in ORDERS.rules if not rule.is_row_rule}
    assert ["shop is one of a, b"] == [rule.name for rule in ORDERS.rules if not rule.is_blocking]


@settings(max_examples=20)
@given(contracts())
def test_no_two_rules_of_a_contract_have_the_same_name(contract: TableContract) -> None:
    names = [rule.name for rule in contract.rules]

    assert len({*names}) == len(names)
    assert [*contract.rules] == [contract.rule(name) for name in names]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 9, "between 0 and 9"), (0.5, None, "at least 0.5"), (None, 1e-9, "at most 1e-09"),
        (-(2**63), None, "at least -9223372036854775808"), (None, None, "unbounded"),
    ],
)  # fmt: skip
def test_a_range_is_described_exactly(low: float | None, high: float | None, words: str) -> None:
    assert words == bounds(low, high)


def test_a_long_list_of_accepted_values_is_cut_in_the_rules_name() -> None:
    column = Column("shop", pl.Int64(), accepted_values=tuple(range(21)))

    rule = TableContract("t", (column,)).rules[1]

    assert ("shop is one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 11 more", 21) == (rule.name, len(rule.accepted_values))


def test_a_contract_can_be_narrowed_to_some_columns_in_another_order() -> None:
    narrow = ORDERS.only(["receipt", "shop"])

    assert ("receipt", "shop") == narrow.names
    assert [
        SHAPE, "shop and receipt are unique together", "receipt is unique", "shop is one of a, b",
    ] == [rule.name for rule in narrow.rules]  # fmt: skip
    assert ((), ("order_id",)) == (narrow.key, ORDERS.only(["shop", "order_id"]).key)


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda c: c.column("shpo"), "has no column 'shpo'"),
        (lambda c: c.only(["shpo"]), "has no column 'shpo'"),
        (lambda c: c.rule("shop is nice"), "has no rule 'shop is nice'"),
    ],
)
def test_what_the_contract_does_not_have_is_named(find: Callable[[TableContract], object], message: str) -> None:
    with pytest.raises(ContractError, match=rf"the contract of table 'orders' \(models/orders\.yml\) {message}"):
        find(ORDERS)


def test_columns_are_found_by_their_role() -> None:
    assert ["shop", "items", "weight_kg"] == [column.name for column in ORDERS.with_role("feature")]


def test_messages_show_no_value_of_a_personal_column() -> None:
    contract = TableContract("people", (Column("name", pl.String(), is_pii=True), Column("n", pl.Int64())))

    assert ("(personal)", None, 1, 2) == tuple(
        contract.shown(name, value) for name, value in (("name", "Jane"), ("name", None), ("n", 1), ("day", 2))
    )


def test_the_digest_of_the_rules_changes_with_every_rule_and_with_nothing_else() -> None:
    def digest(**changes: Any) -> str:
        values = tuple(range(30))
        one = Column("n", pl.Int64(), **{"accepted_values": values, **changes})
        return TableContract("orders", (one,)).rules_digest

    same = digest()

    assert same == digest(description="How many.")
    assert same != digest(accepted_values=(*range(29), 99))  # the rule's name does not list the last of many values
    assert same != digest(maximum=5)
    assert same != digest(is_nullable=False)
