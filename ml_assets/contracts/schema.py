"""Export the features of a table's contract as a JSON Schema of one request row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.contracts.table import Column, TableContract

if TYPE_CHECKING:
    from pydantic import JsonValue

DRAFT = "https://json-schema.org/draft/2020-12/schema"


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
