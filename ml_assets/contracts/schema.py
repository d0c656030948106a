"""A table's contract in the words of others: a pandera schema for polars, and a JSON Schema of one request row.

Holding a table against its contract does not need pandera; `ml_assets.contracts.checking` costs a fifth of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.contracts.checking import breaks
from ml_assets.contracts.table import Column, Rule, TableContract

if TYPE_CHECKING:
    import pandera.polars as pa
    from pydantic import JsonValue

    from ml_assets.contracts.checking import Others

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def to_pandera(contract: TableContract, *, others: Others | None = None) -> pa.DataFrameSchema:
    """Return the contract as a pandera schema; each rule is a check by the rule's name.

    A rule that only warns is a warning there too. (Nulls and uniqueness are checks as well, for pandera's own have no
    names, and a missing value counts as doubled in them, which it does not in dbt.) `validate` on a LazyFrame looks at
    the schema only: collect first.

    Args:
        contract: what a table must look like.
        others: the tables that relationships point to; a relationship to a table that is not given is left out.
    """
    import pandera.polars as pa

    checks: dict[str, list[pa.Check]] = {}
    for rule in contract.rules:
        if rule.kind == "columns" or (rule.relationship and rule.relationship.table not in (others or {})):
            continue
        on = rule.columns[0] if len(rule.columns) == 1 else ""
        checks.setdefault(on, []).append(_pandera_check(rule, others or {}))
    columns = {
        column.name: pa.Column(
            column.dtype, checks.get(column.name), nullable=True, description=column.description or None
        )
        for column in contract.columns
    }
    return pa.DataFrameSchema(
        columns, checks=checks.get(""), strict=True, name=contract.name, description=contract.description or None
    )


def _pandera_check(rule: Rule, others: Others) -> pa.Check:
    import pandera.polars as pa

    name, raise_warning = rule.name, not rule.is_blocking
    match rule.kind:
        case "finite" | "not_null":
            return pa.Check(
                lambda data: data.lazyframe.select(~breaks(rule, others)),
                name=name, raise_warning=raise_warning, ignore_na=False,
            )  # fmt: skip
        case "accepted_values":
            return pa.Check.isin([*rule.accepted_values], name=name, raise_warning=raise_warning)
        case "range" if rule.minimum is None or rule.maximum is None:
            end, bound = (pa.Check.le, rule.maximum) if rule.minimum is None else (pa.Check.ge, rule.minimum)
            return end(bound, name=name, raise_warning=raise_warning)
        case "range":
            return pa.Check.in_range(rule.minimum, rule.maximum, name=name, raise_warning=raise_warning)
        case "relationship" if rule.relationship is not None:
            there = others[rule.relationship.table].lazy().select(rule.relationship.column).collect().to_series()
            return pa.Check.isin(there.drop_nulls().unique().to_list(), name=name, raise_warning=raise_warning)
        case _:
            return pa.Check(
                lambda data: data.lazyframe.select(_is_single(rule.columns)),
                name=name, raise_warning=raise_warning, ignore_na=False,
            )  # fmt: skip


def _is_single(columns: Sequence[str]) -> pl.Expr:
    single = ~pl.struct(columns).is_duplicated()
    return single | pl.col(columns[0]).is_null() if len(columns) == 1 else single


def request_schema(contract: TableContract, features: Sequence[str]) -> dict[str, JsonValue]:
    """Return the JSON Schema (draft 2020-12) of one row that a model is asked about.

    Every feature must be given, one that may be missing as null: a forgotten field is not taken for a missing value.
    JSON has no NaN and no infinity; where a parser lets them in, `ml_assets.logic.training.encoding.encode` refuses
    them. Units and personal data stand as `x-unit` and `x-pii`.

    Args:
        contract: the contract of the features' table.
        features: the columns to be given, in the model's order.

    Raises:
        ContractError: the contract has no such column.
    """
    columns = [contract.column(name) for name in features]
    return {
        "$schema": DRAFT,
        "title": contract.name,
        **({"description": contract.description} if contract.description else {}),
        "type": "object",
        "properties": {column.name: _property(column) for column in columns},
        "required": [column.name for column in columns],
        "additionalProperties": False,
    }


def _property(column: Column) -> dict[str, JsonValue]:
    kinds: list[JsonValue] = [_json_type(column.dtype)]
    values: list[JsonValue] | None = None if column.accepted_values is None else [*column.accepted_values]
    if column.is_nullable:
        kinds.append("null")
        values = None if values is None else [*values, None]
    low, high = _ends(column)
    said: Mapping[str, JsonValue] = {
        "description": column.description or None,
        "format": {pl.Date: "date", pl.Datetime: "date-time"}.get(column.dtype.base_type()),
        "enum": values,
        "minimum": low,
        "maximum": high,
        "x-unit": column.unit,
        "x-pii": True if column.is_pii else None,
    }
    return {"type": kinds if len(kinds) > 1 else kinds[0], **{k: v for k, v in said.items() if v is not None}}


def _json_type(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    return "number" if dtype.is_float() else "string"


def _ends(column: Column) -> tuple[float | None, float | None]:
    """Return the narrowest bounds: the contract's, and for whole numbers those of the type."""
    low, high = column.minimum, column.maximum
    if not column.dtype.is_integer():
        return low, high
    least, most = (int(pl.select(end).item()) for end in (column.dtype.min(), column.dtype.max()))  # type: ignore[attr-defined]
    return (least if low is None else max(low, least)), (most if high is None else min(high, most))
