"""Export a table's contract: as a pandera schema for polars, and as a JSON Schema of one request row.

Checking a table against its contract does not use pandera; `ml_assets.contracts.checking` takes a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.contracts.checking import Others, breaks
from ml_assets.contracts.table import Column, Rule, TableContract

if TYPE_CHECKING:
    import pandera.polars as pa
    from pydantic import JsonValue

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def to_pandera(contract: TableContract, *, others: Others | None = None) -> pa.DataFrameSchema:
    """Return the contract as a pandera schema. Each rule is a check with the rule's name.

    A rule that only warns is a warning in pandera too. Nulls and uniqueness are checks as well, because pandera's own
    have no names, and they count missing values as duplicates, which dbt does not. `validate` on a LazyFrame checks the
    schema only, so collect first. Relationships to tables that `others` lacks are omitted.
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
    """Return the JSON Schema (draft 2020-12) of one row to be scored: these features, in this order.

    Every feature must be given. A feature that may be missing is given as null, so that a forgotten field is an error.
    JSON has no NaN and no infinity; if a parser accepts them, `ml_assets.logic.training.encoding.encode` rejects them.
    Units and personal data are in `x-unit` and `x-pii`.

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
    facets: Mapping[str, JsonValue] = {
        "description": column.description or None,
        "format": {pl.Date: "date", pl.Datetime: "date-time"}.get(column.dtype.base_type()),
        "enum": values,
        "minimum": low,
        "maximum": high,
        "x-unit": column.unit,
        "x-pii": True if column.is_pii else None,
    }
    return {"type": kinds if len(kinds) > 1 else kinds[0], **{k: v for k, v in facets.items() if v is not None}}


def _json_type(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    return "number" if dtype.is_float() else "string"


def _ends(column: Column) -> tuple[float | None, float | None]:
    """Return the narrowest bounds: the contract's, and for integers those of the type."""
    low, high = column.minimum, column.maximum
    if not column.dtype.is_integer():
        return low, high
    least, most = (int(pl.select(end).item()) for end in (column.dtype.min(), column.dtype.max()))  # type: ignore[attr-defined]
    return (least if low is None else max(low, least)), (most if high is None else min(high, most))
