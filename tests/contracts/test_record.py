from dataclasses import fields, replace

import polars as pl
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import Column, ColumnRecord, ContractRecord, Relationship, TableContract
from tests.contracts.strategies import contracts

ORDERS = TableContract(
    name="raw/orders",
    columns=(
        Column("items", pl.Int64(), "How many.", "feature", is_nullable=False, minimum=1, maximum=2**63 - 1),
        Column("shop", pl.String(), is_categorical=True, is_unique=True, accepted_values=("a", "1")),
        Column("size", pl.Int8(), accepted_values=(1, 2)),
        Column("weight", pl.Float32(), unit="kg", accepted_values=(1.0, 2.0), is_nan_missing=True),
        Column("is_gift", pl.Boolean(), accepted_values=(True,)),
        Column("customer", pl.String(), is_pii=True, relationship=Relationship("customers", "id")),
        Column("sent_on", pl.Date(), known_time="sent_at", expression="sent_at::date"),
        Column("sent_at", pl.Datetime("us"), role="event_time"),
    ),
    description="Orders.",
    key=("items", "shop"),
    unique_together=(("shop", "size"),),
    warnings=frozenset({"items is never missing", "shop is unique"}),
    known_time="sent_at",
    is_by_day=True,
    owner="team:shop",
    where="models/_sources.yml",
)


def read_back(contract: TableContract) -> TableContract:
    return ContractRecord.model_validate_json(ContractRecord.of(contract).model_dump_json()).contract()


def test_a_stored_contract_is_read_back_unchanged() -> None:
    assert ORDERS == read_back(ORDERS)
    assert ORDERS.rules == read_back(ORDERS).rules


def test_values_are_read_back_with_their_type() -> None:
    def types(contract: TableContract) -> list[list[type]]:
        return [[*map(type, (it.minimum, it.maximum, *(it.accepted_values or ())))] for it in contract.columns]

    assert types(ORDERS) == types(read_back(ORDERS))


def test_every_field_of_a_contract_is_used_above() -> None:
    silent = TableContract("t", ())
    plain = Column("x", pl.Null())

    assert [] == [
        it.name for it in fields(ORDERS) if it.compare and getattr(ORDERS, it.name) == getattr(silent, it.name)
    ]
    assert [] == [
        it.name for it in fields(plain) if all(getattr(c, it.name) == getattr(plain, it.name) for c in ORDERS.columns)
    ]


@settings(max_examples=20)
@given(contracts())
def test_any_stored_contract_is_read_back_unchanged(contract: TableContract) -> None:
    assert contract == read_back(contract)


def test_equal_contracts_are_stored_as_equal_text() -> None:
    again = replace(ORDERS, warnings=frozenset(sorted(ORDERS.warnings, reverse=True)))

    assert ContractRecord.of(ORDERS).model_dump_json() == ContractRecord.of(again).model_dump_json()


def test_a_type_that_cannot_be_stored_is_reported() -> None:
    with pytest.raises(ContractError, match=r"column 'x' is List\(Int64\), which contracts do not support; expect"):
        ContractRecord.of(TableContract("t", (Column("x", pl.List(pl.Int64)),)))


def test_an_unknown_stored_type_is_reported() -> None:
    with pytest.raises(ContractError, match="column 'x' of a stored contract is 'Int256'; expected one of Int8, "):
        ColumnRecord(name="x", dtype="Int256").column()


def test_a_stray_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        ContractRecord.model_validate_json('{"name": "t", "columns": [], "colour": "red"}')
