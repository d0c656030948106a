from dataclasses import replace
from typing import Any

import jsonschema
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.pandera_schema import to_pandera
from ml_assets.contracts.checking import check_table
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import Column, TableContract
from ml_assets.logic.training.encoding import request_schema
from tests.contracts.strategies import OTHERS, any_frame, contracts

ORDERS = TableContract(
    "orders",
    (
        Column("order_id", pl.String(), "Which.", "entity", is_nullable=False, is_pii=True),
        Column("shop", pl.String(), "Where.", "feature", is_nullable=False, accepted_values=("a", "b")),
        Column("size", pl.Int8(), role="feature", accepted_values=(1, 2)),
        Column("items", pl.Int64(), "How many.", "feature", is_nullable=False, minimum=1, maximum=9),
        Column("weight", pl.Float64(), "How heavy.", "feature", unit="kg", minimum=0),
        Column("is_gift", pl.Boolean(), role="feature", is_nullable=False),
        Column("ordered_on", pl.Date(), role="feature", is_nullable=False),
        Column("ordered_at", pl.Datetime("us"), role="feature"),
    ),
    description="Orders, one a row.",
    key=("order_id",),
)
FEATURES = [column.name for column in ORDERS.with_role("feature")]


def broken_in_pandera(rows: pl.DataFrame, contract: TableContract) -> set[str]:
    """Return the names of the rules that pandera finds broken."""
    from pandera.errors import SchemaErrors

    try:
        to_pandera(contract, others=OTHERS).validate(rows, lazy=True)
    except SchemaErrors as error:
        return {str(getattr(found.check, "name", found.check)) for found in error.schema_errors}
    return set()


@settings(max_examples=40)
@given(st.data())
def test_pandera_finds_the_same_rules_broken(data: st.DataObject) -> None:
    contract = data.draw(contracts())
    rows = data.draw(any_frame(contract))

    report = check_table(rows, contract, others=OTHERS)

    assert {finding.rule.name for finding in report.broken} == broken_in_pandera(rows, contract)


def test_a_request_has_a_property_for_each_feature() -> None:
    schema = request_schema(ORDERS, FEATURES)

    jsonschema.Draft202012Validator.check_schema(schema)
    assert {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "orders",
        "description": "Orders, one a row.",
        "type": "object",
        "properties": {
            "shop": {"type": "string", "description": "Where.", "enum": ["a", "b"]},
            "size": {"type": ["integer", "null"], "enum": [1, 2, None], "minimum": -128, "maximum": 127},
            "items": {"type": "integer", "description": "How many.", "minimum": 1, "maximum": 9},
            "weight": {"type": ["number", "null"], "description": "How heavy.", "minimum": 0, "x-unit": "kg"},
            "is_gift": {"type": "boolean"},
            "ordered_on": {"type": "string", "format": "date"},
            "ordered_at": {"type": ["string", "null"], "format": "date-time"},
        },
        "required": ["shop", "size", "items", "weight", "is_gift", "ordered_on", "ordered_at"],
        "additionalProperties": False,
    } == schema


def test_personal_data_is_marked() -> None:
    found: Any = request_schema(ORDERS, ["order_id"])["properties"]

    assert {"order_id": {"type": "string", "description": "Which.", "x-pii": True}} == found


ROW = {
    "shop": "a", "size": 1, "items": 3, "weight": 0.5, "is_gift": False, "ordered_on": "2024-02-29",
    "ordered_at": "2024-02-29T10:00:00Z",
}  # fmt: skip


def refused(row: dict[str, Any]) -> list[str]:
    """Return where a row breaks the request's schema."""
    validator = jsonschema.Draft202012Validator(request_schema(ORDERS, FEATURES))
    return ["/".join(map(str, error.path)) or error.validator for error in validator.iter_errors(row)]


@pytest.mark.parametrize("changed", [{}, {"size": None}, {"weight": None}, {"weight": 7}, {"ordered_at": None}])
def test_a_valid_row_is_accepted(changed: dict[str, Any]) -> None:
    assert [] == refused({**ROW, **changed})


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"shop": "c"}, "shop"), ({"shop": None}, "shop"), ({"size": 3}, "size"), ({"items": 0}, "items"),
        ({"items": 1.5}, "items"), ({"items": "3"}, "items"), ({"items": None}, "items"), ({"weight": -1}, "weight"),
        ({"is_gift": 1}, "is_gift"), ({"colour": "red"}, "additionalProperties"),
    ],
)  # fmt: skip
def test_a_bad_row_and_one_that_omits_a_feature_are_refused(changed: dict[str, Any], where: str) -> None:
    assert {where} == {*refused({**ROW, **changed})}
    assert ["required"] == refused({name: value for name, value in ROW.items() if name != "weight"})


def test_a_feature_that_is_not_in_the_contract_is_reported() -> None:
    with pytest.raises(ContractError, match="has no column 'shpo'"):
        request_schema(ORDERS, ["shpo"])


@given(st.data())
def test_the_schema_accepts_exactly_the_rows_that_satisfy_the_contract(data: st.DataObject) -> None:
    contract = replace(data.draw(contracts()), key=(), unique_together=())
    in_json = (pl.String(), pl.Boolean(), pl.Int8(), pl.Int32(), pl.Int64())
    plain = tuple(
        replace(column, is_unique=False, relationship=None) for column in contract.columns if column.dtype in in_json
    )
    contract = replace(contract, columns=plain)
    rows = data.draw(any_frame(contract))
    validator = jsonschema.Draft202012Validator(request_schema(contract, contract.names))

    for row in rows.iter_slices(1):
        assert validator.is_valid(row.to_dicts()[0]) == (not check_table(row, contract).broken)
